"""The benchmarks run, with tiny sizes, and print JSON lines. What they measure is not looked at here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def lines_of(benchmark: str, *options: str) -> list[dict[str, Any]]:
    """Run it as a user does. Exit code 1 says that a target was missed, which tiny sizes may well do."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{benchmark}", "--json", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode in (0, 1), done.stderr
    assert done.stderr == ""
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["benchmark"] for line in lines} == {benchmark}
    return lines


def by(lines: list[dict[str, Any]], kind: str, *keys: str) -> set[Any]:
    return {tuple(line[key] for key in keys) for line in lines if line["kind"] == kind}


def test_steps_measures_every_contender() -> None:
    lines = lines_of("steps", "--wide", "40", "--long", "10", "--rounds", "1", "--peers", "pipe,naive")
    names = {"memory", "otherwise", "sqlite", "pipe", "naive"}
    assert by(lines, "samples", "scenario", "contender") == {(s, n) for s in ("fan_out", "chain") for n in names}
    assert len(by(lines, "target", "what")) == 6
    for line in lines:
        if line["kind"] == "samples":
            assert len(line["samples"]) == 1
            low, median, high = line["us_per_step"]
            assert 0 < low <= median <= high


def test_metg_sweeps_patterns_and_draws_them(tmp_path: Path) -> None:
    drawn = tmp_path / "metg.svg"
    sizes = "--longest", "300", "--shortest", "100", "--seconds", "0.01", "--width", "4", "--rounds", "1"
    lines = lines_of("metg", *sizes, "--patterns", "trivial,tree", "--peers", "pipe", "--picture", str(drawn))
    ours = {("trivial", "memory"), ("trivial", "sqlite"), ("tree", "memory"), ("tree", "sqlite")}
    assert by(lines, "metg", "pattern", "contender") == ours | {("trivial", "pipe")}
    for line in lines:
        if line["kind"] == "metg":
            assert line["curve"] and all(0 < efficiency < 1.5 for _, efficiency in line["curve"])
            assert line["skewed"].keys() == ({"one long", "heavy tail"} if line["pattern"] == "trivial" else set())
    assert len(by(lines, "target", "what")) == 6
    assert drawn.read_text().count("<polyline") == 5


def test_flat_cuts_three_runs_into_windows() -> None:
    lines = lines_of("flat", "--steps", "400", "--every", "0.001")
    names = {("wide",), ("laps",), ("laps, an event each",)}
    assert by(lines, "growth", "run") == by(lines, "window", "run") == names
    assert max(line["until"] for line in lines if line["kind"] == "window") >= 400


def test_scale_has_many_of_everything() -> None:
    sizes = "--nodes", "40", "--edges", "90", "--node-ms", "0.1", "--runs", "20", "--events", "400", "--items", "2000"
    lines = lines_of("scale", *sizes, "--every", "0.001", "--rounds", "2")
    assert len(by(lines, "target", "what")) == 8
    assert by(lines, "graph", "nodes", "edges") == {(40, 90)}
    assert by(lines, "runs", "runs") == {(20,)}
    assert by(lines, "events", "store", "events") == {("in memory", 400), ("SQLite", 400)}
    assert by(lines, "items", "items") == {(2000,)}
    assert by(lines, "window", "round") == {(0,), (1,)}


def test_scale_does_one_scenario() -> None:
    lines = lines_of("scale", "events", "--events", "100")
    assert {line["kind"] for line in lines} == {"machine", "events", "target"}


def test_start_measures_import_and_scripts() -> None:
    lines = lines_of("start", "--rounds", "2")
    assert len(by(lines, "target", "what")) == 2
    names = {"floxide_mp", "ProcessPoolExecutor, spawn", "the interpreter alone"}
    assert by(lines, "samples", "contender") == {(name,) for name in names}
    assert all(len(line["seconds"]) == 2 for line in lines if line["kind"] in ("samples", "import"))


def test_model_is_read_by_all() -> None:
    lines = lines_of("model", "--size", "8000000", "--items", "20", "--few", "2", "--rounds", "2")
    assert {(line["contender"].partition(",")[0], line["items"]) for line in lines if line["kind"] == "samples"} == {
        ("floxide_mp", 20),
        ("ProcessPoolExecutor", 20),
        ("ProcessPoolExecutor", 2),
    }
    assert len(by(lines, "target", "what")) == 2


def test_audit_compares_the_same_batch() -> None:
    lines = lines_of("audit", "--directory", str(ROOT / "floxide_mp"), "--files", "6", "--rounds", "2")
    assert by(lines, "samples", "contender", "files") == {(n, 6) for n in ("inline", "1 worker", "2 workers")}
    assert len(by(lines, "target", "what")) == 2


def test_durable_measures_stores_peers_bytes_and_a_resume() -> None:
    sizes = "--wide", "40", "--long", "10", "--rounds", "2", "--finished", "60", "--pending", "20"
    lines = lines_of("durable", *sizes, "--peers", "pool", "joblib")
    ours = {"in memory", "SQLite", "SQLite, full"}
    peers = {"pool", "joblib"}
    found = by(lines, "samples", "scenario", "contender") | by(lines, "absent", "scenario", "contender")
    assert found == {("fan_out", n) for n in ours | peers} | {("chain", n) for n in ours | peers | {"SQLite, loop"}}
    told = [line["what"] for line in lines if line["kind"] == "target"]
    assert [what for what in told if "in memory" in what] == ["fan-out on SQLite, times floxide_mp, in memory"]
    assert sum("bytes on disk" in what for what in told) == 2
    (resumed,) = (line for line in lines if line["kind"] == "resumed")
    assert (resumed["finished"], resumed["pending"]) == (60, 20)
    assert 0 < resumed["resumed"] < resumed["seconds"]


def test_makespan_measures_the_core_alone_and_every_contender() -> None:
    lines = lines_of("makespan", "--nodes", "30", "--rounds", "1", "--mean", "0.0002", "--seeds", "1")
    cases = {line["case"] for line in lines if line["kind"] == "core alone"}
    orders = {"in order", "first run", "later runs"}
    assert by(lines, "core alone", "case", "order") == {(case, order) for case in cases for order in orders}
    names = {"floxide_mp, first run", "floxide_mp, later runs", "ProcessPoolExecutor, by hand"}
    assert by(lines, "sample", "case", "contender") >= {(case, name) for case in cases for name in names}
    assert by(lines, "quiet", "contender") == {("floxide_mp, first run",), ("floxide_mp, later runs",)}
    for line in lines:
        if line["kind"] == "sample":
            assert line["ratio"] > 1.0


def test_payloads_measures_speed_and_memory() -> None:
    lines = lines_of("payloads", "--steps", "8", "--size", str(1 << 18), "--rounds", "2", "--kinds", "bytes")
    found = by(lines, "samples", "scenario", "contender")
    ours = {"floxide_mp", "ProcessPoolExecutor"}
    assert found >= {("bytes, chain", n) for n in ours | {"raw pipe"}} | {("bytes, fan-out", n) for n in ours}
    assert len(by(lines, "target", "what")) == 3


def test_manager_measures_each_place_and_caller() -> None:
    lines = lines_of("manager", "--calls", "20", "--rounds", "1")
    servers = {"thread, socket pair", "thread, listener", "own process"}
    callers = {"idle", "busy", "busy, 0.5 ms"}
    assert by(lines, "round trip", "server", "caller") == {(s, c) for s in servers for c in callers}


def test_profile_measures_runs_parts_and_limits() -> None:
    lines = lines_of("profile", "--wide", "50", "--long", "20", "--rounds", "1")
    assert {store for store, _ in by(lines, "run", "store", "what")} == {"memory", "sqlite"}
    assert len(by(lines, "part", "what")) == 10
    assert len(by(lines, "limit", "what")) == 6


def test_without_json_there_is_a_table() -> None:
    command = [sys.executable, "-m", "benchmarks.audit", "--directory", "floxide_mp", "--files", "3", "--rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert done.returncode in (0, 1), done.stderr
    assert done.stdout.startswith("Python 3.")
    assert "\n  2 workers " in done.stdout
    assert "{" not in done.stdout
