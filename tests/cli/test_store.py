"""The command line on a store: programs that are stopped and killed, and others that look on. Rows are of FAULTS."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import Coordinator, SQLiteStore
from floxide_mp.cli.summary import standings
from floxide_mp.coordinator import compatibility
from floxide_mp.stores.sqlite import schema
from tests.flows_durable import COUNT, Durable

from .test_main import LIMIT, ROOT, appears, ends, environment, floxide, refused, shell, started, write
from .test_run import driven

# A step leaves a line outside of the run, tells that it is entered by a file, and waits for a file of its own.
GATED = """
    import os, time
    from dataclasses import dataclass, field
    from pathlib import Path
    from floxide_mp import Context, EventLog, NextAll, Workflow, node

    @dataclass
    class Ctx(Context):
        log: EventLog[int] = field(default_factory=EventLog)

    @node
    def spread(count: int):
        return NextAll(range(count))

    @node
    def wait(ctx, n: int):
        ctx.log.append(n)
        with open("effects", "a") as effects:
            effects.write(f"{n}\\n")
        Path(f"entered-{n}.part").write_text(str(os.getpid()))
        Path(f"entered-{n}.part").rename(f"entered-{n}")
        while not Path(f"go-{n}").exists():
            time.sleep(0.01)
        if Path("bad").exists():
            raise ValueError(f"bad {n}")
        return {"n": n}

    class Gated(Workflow):
        context = Ctx
        spread, wait = spread, wait
        start = spread
        edges = {spread: [wait]}
"""
REPORTED = """
        @staticmethod
        def cli_report(result):
            yield f"{len(result.outputs)} outputs, log {list(result.context.log)}"
"""
COUNTS = 6
LINES = "".join(f'{{"n": {n}}}\n' for n in range(COUNTS))


def gated(place: Path, *open_gates: int, more: str = "") -> None:
    write(place, "gated.py", GATED + more)
    for n in open_gates:
        (place / f"go-{n}").touch()


def begin(*more: str, store: str = "runs.db", run_id: str = "r") -> tuple[str, ...]:
    return "gated", "--store", store, f"--run-id={run_id}", "--input", str(COUNTS), *more


def effects(place: Path) -> list[int]:
    return sorted(map(int, (place / "effects").read_text().split()))


def shown(place: Path, *arguments: str) -> dict[str, Any]:
    done = floxide(place, "show", *arguments, "--store", "runs.db", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def pasted(place: Path, line: str) -> subprocess.CompletedProcess[str]:
    """A line as a person pastes it into their shell."""
    return subprocess.run(
        ["bash", "-c", line], cwd=place, env=environment(), capture_output=True, text=True, timeout=LIMIT, check=False
    )


# -- stopped, killed, failed; and on ------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("more", ["", REPORTED], ids=["outputs", "report"])
def test_row_23_a_program_is_killed_and_resume_prints_what_it_would_have(
    tmp_path: Path, workers: str, more: str
) -> None:
    gated(tmp_path, 0, 1, 2, more=more)
    with started(tmp_path, *begin("--workers", workers)) as process:
        appears(tmp_path / "entered-3")
        pid = int((tmp_path / "entered-3").read_text())
        process.kill()
        process.communicate(timeout=LIMIT)
    ends(pid)
    left = shown(tmp_path, "r")
    assert left["status"] == "interrupted" and left["owner"]["lives"] is False and left["workers"] == []
    before = effects(tmp_path)
    for n in range(COUNTS):
        (tmp_path / f"go-{n}").touch()
    done = floxide(tmp_path, "resume", "r", "--store", "runs.db", "gated", "--workers", workers)
    undisturbed = floxide(tmp_path, *begin("--workers", workers)[:1], "--input", str(COUNTS), "--workers", "0")
    assert (done.returncode, done.stdout, done.stderr) == (0, undisturbed.stdout, "")
    if not more:
        assert done.stdout == LINES
    again = effects(tmp_path)
    for n in (*before, *range(COUNTS)):  # the last are those of the undisturbed run
        again.remove(n)
    unfinished = COUNTS + 1 - left["metrics"]["completed"]
    assert len(again) == min(unfinished, COUNTS), "what was finished is not run again, and nothing else is left out"


def test_row_113_resume_gives_another_time_out(tmp_path: Path) -> None:
    gated(tmp_path, 0)
    with started(tmp_path, *begin("--workers", "1")) as process:
        appears(tmp_path / "entered-1")
        process.kill()
        process.communicate(timeout=LIMIT)
    command = "resume", "r", "--store", "runs.db", "gated", "--workers", "1", "--timeout"
    for wrong in ("0", "-1", "nan", "inf", "soon"):
        done = floxide(tmp_path, *command[:-1], f"--timeout={wrong}")
        assert (done.returncode, done.stdout) == (2, "") and "seconds are needed, more than 0" in done.stderr
    done = floxide(tmp_path, *command, "0.25")
    assert (done.returncode, done.stdout) == (1, "") and "time-out of 0.25 s" in done.stderr


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize(
    ("number", "code", "run_id", "store"),
    [
        (signal.SIGINT, 130, "r", "runs.db"),
        (signal.SIGTERM, 143, "it's $1; é", "a store.db"),
        (signal.SIGINT, 130, "-r", "-x.db"),
    ],
)
def test_row_26_the_command_that_a_stopped_program_prints_goes_on(
    tmp_path: Path, number: signal.Signals, code: int, run_id: str, store: str, workers: str
) -> None:
    gated(tmp_path, 0)
    arguments = "gated", f"--store={store}", f"--run-id={run_id}", "--input", str(COUNTS), "--workers", workers
    with started(tmp_path, *arguments) as process:
        appears(tmp_path / "entered-1")
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=LIMIT)
    lines = err.splitlines()
    assert (process.returncode, out) == (code, "")
    assert len(lines) <= 5 and lines[-2].endswith("this goes on:")
    assert shlex.split(lines[-1])[1:4] == ["-m", "floxide_mp", "resume"]
    assert f"--workers {workers}" in lines[-1]
    for n in range(COUNTS):
        (tmp_path / f"go-{n}").touch()
    done = pasted(tmp_path, lines[-1])
    assert (done.returncode, done.stdout, done.stderr) == (0, LINES, "")


def test_row_26_starting_the_same_again_takes_it_up_too(tmp_path: Path) -> None:
    gated(tmp_path, 0)
    with started(tmp_path, *begin()) as process:
        appears(tmp_path / "entered-1")
        process.kill()
        process.communicate(timeout=LIMIT)
    for n in range(COUNTS):
        (tmp_path / f"go-{n}").touch()
    for _ in range(2):
        done = floxide(tmp_path, *begin("--workers", "1"))
        assert (done.returncode, done.stdout, done.stderr) == (0, LINES, "")
    assert "began with another input" in refused(tmp_path, "run", "gated", *begin()[1:4], "--input", "7")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_row_26_the_second_signal_leaves_the_command_too(tmp_path: Path, workers: str) -> None:
    gated(tmp_path)
    with started(tmp_path, *begin("--workers", workers)) as process:
        pids = [int(appears(tmp_path / f"entered-{n}")) for n in range(max(1, int(workers)))]
        os.killpg(process.pid, signal.SIGINT)
        assert process.stderr is not None
        process.stderr.readline()
        os.killpg(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=LIMIT)
    for pid in pids:
        ends(pid)
    first, command = err.splitlines()
    assert (process.returncode, out, first) == (143, "", "floxide-mp: ended at once; this goes on:")
    for n in range(COUNTS):
        (tmp_path / f"go-{n}").touch()
    assert pasted(tmp_path, command).stdout == LINES


def test_row_26_a_run_that_completes_in_its_grace_prints_its_results_from_the_store(tmp_path: Path) -> None:
    gated(tmp_path)
    with started(tmp_path, "gated", "--store", "runs.db", "--input", "1", "--workers", "1") as process:
        appears(tmp_path / "entered-0")
        os.killpg(process.pid, signal.SIGTERM)
        assert process.stderr is not None
        process.stderr.readline()
        (tmp_path / "go-0").touch()
        assert process.communicate(timeout=LIMIT) == ('{"n": 0}\n', "")
    assert process.returncode == 0


def test_row_63_a_failed_run_says_how_to_go_on_and_does(tmp_path: Path) -> None:
    gated(tmp_path, *range(COUNTS))
    (tmp_path / "bad").touch()
    done = floxide(tmp_path, *begin("--workers", "1"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "ValueError: bad " in done.stderr and "in the worker:" in done.stderr
    command = done.stderr.splitlines()[-1]
    assert command.endswith("floxide_mp resume r --store runs.db gated --workers 1")
    again = refused(tmp_path, *begin("--workers", "1"))
    assert again == f"floxide-mp: run 'r' has failed; choose another --run-id, or go on with it:\n{command}\n"
    assert "ValueError: bad" in pasted(tmp_path, command).stderr
    page = floxide(tmp_path, "show", "r", "--store", "runs.db").stdout
    assert page.startswith("run r of Gated: failed\n") and "resume r --store runs.db MODULE:Gated" in page
    assert page.count("Traceback (most recent call last):") == 2
    (tmp_path / "bad").unlink()
    done = pasted(tmp_path, command)
    assert (done.returncode, done.stdout, done.stderr) == (0, LINES, "")


def test_row_63_run_ids_that_are_unknown_anothers_or_completed(tmp_path: Path) -> None:
    gated(tmp_path, *range(COUNTS), more="\n    class Other(Gated): pass\n")
    run = "gated:Gated", *begin("--workers", "1")[1:]
    assert floxide(tmp_path, *run).stdout == LINES
    ran = effects(tmp_path)
    text = refused(tmp_path, "resume", "R-1", "--store", "runs.db", "gated:Gated")
    assert "there is no run 'R-1'" in text and "floxide-mp runs --store" in text
    text = refused(tmp_path, "resume", "r", "--store", "runs.db", "gated:Other")
    assert "run 'r' is a run of Gated, not of Other" in text
    text = refused(tmp_path, "gated:Other", *run[1:])
    assert "run 'r' is a run of Gated; choose another run_id for Other" in text
    done = floxide(tmp_path, "resume", "--store", "runs.db", "r", "gated:Gated", "-v")  # its results are printed again
    assert (done.returncode, done.stdout, done.stderr) == (0, LINES, "")
    assert effects(tmp_path) == ran


def test_a_run_that_is_paused_goes_on_and_one_that_was_cancelled_does_not(tmp_path: Path) -> None:
    store = str(tmp_path / "runs.db")
    with Coordinator(0, store) as coordinator:
        coordinator.start(Durable, str(tmp_path), run_id="paused").pause()
        coordinator.start(Durable, str(tmp_path), run_id="cancelled").cancel()
    flow, given = "tests.flows_durable", ("--input", json.dumps(str(tmp_path)), "--workers", "0")
    listed = floxide(ROOT, "runs", "--store", store, "--status", "paused").stdout
    assert [line.split()[:3] for line in listed.splitlines()[1:]] == [["paused", "Durable", "paused"]]
    text = refused(ROOT, flow, "--store", store, "--run-id", "paused", *given)
    assert text.startswith("floxide-mp: run 'paused' is paused; choose another --run-id, or go on with it:\n")
    done = pasted(ROOT, text.splitlines()[1])
    assert done.stdout.split() == list(map(str, range(COUNT)))
    assert "was cancelled, which is final" in refused(ROOT, "resume", "cancelled", "--store", store, flow)
    done = floxide(ROOT, flow, "--store", store, "--run-id", "cancelled", *given)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "floxide-mp: run cancelled was cancelled\n")


def test_row_54_another_graph_is_refused_unless_changes_are_allowed(tmp_path: Path) -> None:
    gated(tmp_path, 0)
    with started(tmp_path, *begin("--workers", "1")) as process:
        appears(tmp_path / "entered-1")
        process.kill()
        process.communicate(timeout=LIMIT)
    more = """
    @node
    def last(value):
        return value["n"]

    class Gated(Gated):
        spread, wait, last = spread, wait, last
        start = spread
        edges = {spread: [wait], wait: [last]}
    """
    gated(tmp_path, *range(COUNTS), more=more)
    text = refused(tmp_path, "resume", "r", "--store", "runs.db", "gated", "--workers", "1")
    assert "began in another graph" in text and "wait" in text
    done = pasted(tmp_path, text.splitlines()[1])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == str(COUNTS - 1), "what was left has gone the new way"


def test_row_53_what_other_versions_made_is_not_opened_unless_changes_are_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "runs.db"
    with monkeypatch.context() as patch:
        patch.setattr(compatibility, "__version__", "0.0.1")
        filled(path)
    for asked in (["resume", "r", "tests.flows_durable"], ["context", "r"]):
        text = refused(ROOT, *asked, "--store", str(path))
        assert "was made with floxide_mp 0.0.1, and this is floxide_mp" in text and "--allow-changes" in text
        assert floxide(ROOT, *asked, "--store", str(path), "--allow-changes").returncode == 0
    assert floxide(ROOT, "show", "r", "--store", str(path)).returncode == 0


DRIVES = """
    runs = [coordinator.start(Halves, n, run_id=f"half-{n}") for n in numbers]
    for run in runs:
        yield f"{run.run_id}: {run.wait().output}"
        open(f"told-{run.run_id}", "w").close()
"""


def test_row_26_a_workflow_that_drives_itself_goes_on_when_it_is_said_again(tmp_path: Path) -> None:
    flow = driven(tmp_path, DRIVES)
    text = flow.read_text().replace(
        "return n // 2", "import time\n    while n == 8: time.sleep(0.01)\n    return n // 2"
    )
    flow.write_text(text)
    arguments = "driven", "--store", "runs.db", "--input", "[2, 4, 8, 16, 32, 64]", "--workers", "1"
    with started(tmp_path, *arguments) as process:
        appears(tmp_path / "told-half-4")
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, out) == (130, "half-2: 1\nhalf-4: 2\n")
    lines = err.splitlines()
    assert len(lines) <= 5 and "half-8 was stopped by SIGINT" in err and "half-2" not in err
    flow.write_text(text.replace("n == 8", "n == 0"))
    done = pasted(tmp_path, lines[-1])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"half-{n}: {n // 2}" for n in (2, 4, 8, 16, 32, 64)]
    one = floxide(tmp_path, "resume", "half-8", "--store", "runs.db", "driven")
    assert (one.returncode, one.stdout) == (0, "4\n")


# -- looking on ---------------------------------------------------------------------------------------------------


def test_a_run_is_looked_at_while_another_process_writes_it(tmp_path: Path) -> None:
    gated(tmp_path, 0, 1)
    with started(tmp_path, *begin("--workers", "2")) as process:
        pids = {int(appears(tmp_path / f"entered-{n}")) for n in (2, 3)}
        found = shown(tmp_path, "r", "--events")
        assert (found["status"], found["workflow"], found["finished_at"]) == ("running", "Gated", None)
        assert found["owner"]["pid"] == process.pid and found["owner"]["lives"] is True
        assert {worker["pid"] for worker in found["workers"]} == pids
        assert {worker["state"] for worker in found["workers"]} <= {"running", "sleeping"}
        counts = {node["node"]: node for node in found["nodes"]}
        assert list(counts) == ["spread", "wait"]
        assert counts["spread"]["finished"] == 1
        assert counts["wait"]["finished"] == found["metrics"]["completed"] - 1
        assert counts["wait"]["waiting"] == len(found["unfinished"]) == COUNTS + 1 - found["metrics"]["completed"]
        assert len(found["events"]) == found["metrics"]["completed"] - 1
        assert {(event["node"], event["field"]) for event in found["events"]} <= {("wait", "log")}
        (line,) = floxide(tmp_path, "runs", "--store", "runs.db", "--json").stdout.splitlines()
        assert json.loads(line) | {"committed_at": 0} == {key: found[key] for key in json.loads(line)} | {
            "committed_at": 0
        }
        assert floxide(tmp_path, "db", "check", "--store", "runs.db").stdout == "ok\n"
        text = floxide(tmp_path, "db", "info", "--store", "runs.db").stdout
        assert f"owner: process {process.pid} has the store" in text and "runs: 1 running" in text
        log = json.loads(floxide(tmp_path, "context", "r", "--store", "runs.db").stdout)["log"]
        assert log == list(range(len(found["events"])))
        page = floxide(tmp_path, "show", "r", "--store", "runs.db").stdout
        assert page.count("attempt 1): pending or running\n") == len(found["unfinished"])
        text = refused(tmp_path, "resume", "r", "--store", "runs.db", "gated")
        assert (
            f"belongs to the coordinator with pid {process.pid}" in text and "floxide-mp runs --store runs.db" in text
        )
        for n in range(COUNTS):
            (tmp_path / f"go-{n}").touch()
        assert process.communicate(timeout=LIMIT) == (LINES, "")
    assert process.returncode == 0
    found = shown(tmp_path, "r", "--events")
    assert (found["status"], found["workers"], found["unfinished"]) == ("completed", [], [])
    assert [event["order"] for event in found["events"]] == [[1, [n]] for n in range(COUNTS)]


def test_a_run_that_nobody_has_taken_up_is_interrupted_though_its_store_has_an_owner(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    def seen() -> dict[str, str]:
        reader = SQLiteStore.open_reader(path)
        try:
            return {one.run_id: one.status for one in standings(reader)}
        finally:
            reader.close()

    with Coordinator(0, path) as coordinator:
        coordinator.start(Durable, str(tmp_path), run_id="one")
        assert seen() == {"one": "running"}
    assert seen() == {"one": "interrupted"}
    with Coordinator(0, path) as coordinator:
        coordinator.start(Durable, str(tmp_path), run_id="two")
        assert seen() == {"one": "interrupted", "two": "running"}
        page = floxide(tmp_path, "show", "one", "--store", "runs.db").stdout
        assert f"process {os.getpid()} has the store" in page and "and has not taken up this run" in page
        coordinator.resume(Durable, "one")
        assert seen() == {"one": "running", "two": "running"}
        # Looking has not let go of the lock, which belongs to the process.
        assert f"with pid {os.getpid()}" in refused(ROOT, "tests.flows_durable", "--store", str(path))


def test_row_81_show_opens_no_pickle_and_context_does(tmp_path: Path) -> None:
    write(
        tmp_path,
        "loud.py",
        """
        import os
        from dataclasses import dataclass, field
        from floxide_mp import Context, EventLog, Workflow, node

        class Loud:
            def __reduce__(self):
                return os.mkdir, ("opened",)

        @dataclass
        class Ctx(Context):
            log: EventLog = field(default_factory=EventLog)

        @node
        def tell(ctx):
            ctx.log.append(Loud())

        class Flow(Workflow):
            context = Ctx
            tell = tell
            start = tell
        """,
    )
    assert floxide(tmp_path, "loud", "--store", "runs.db", "--run-id", "r", "--workers", "0").returncode == 0
    page = floxide(tmp_path, "show", "r", "--store", "runs.db", "--events").stdout
    assert "  0. tell, field log: " in page and " bytes (depth 0, branch -)" in page
    for more in (["runs"], ["show", "r", "--json"], ["db", "check"], ["db", "info"]):
        assert floxide(tmp_path, *more, "--store", "runs.db").returncode == 0
    assert not (tmp_path / "opened").exists()
    assert floxide(tmp_path, "context", "r", "--store", "runs.db").returncode == 0
    assert (tmp_path / "opened").exists()


CONTEXTS = """
    from dataclasses import dataclass, field
    from enum import Enum
    from floxide_mp import Context, Coordinator, EventLog, Fixed, Merge, SharedState, Workflow, node

    class Colour(Enum):
        RED = 1

    @dataclass
    class Point:
        x: int
        y: float

    @dataclass
    class Total(Merge):
        n: int = 0
        def merge(self, other):
            self.n += other.n

    class Plain(Merge):
        def __init__(self): self.seen = [1]
        def merge(self, other): pass

    @dataclass
    class Ctx(Context):
        log: EventLog = field(default_factory=EventLog)
        last: SharedState = field(default_factory=lambda: SharedState(None))
        total: Total = field(default_factory=Total)
        plain: Plain = field(default_factory=Plain)
        fixed: Fixed = field(default_factory=lambda: Fixed("é"))
        odd: SharedState = field(default_factory=lambda: SharedState({(1, 2): float("nan")}))

    @node
    def tell(ctx):
        ctx.log.append("a line")
        ctx.log.append(Point(1, 2.5))
        ctx.log.append(Colour.RED)
        ctx.last.set({3})
        ctx.total.merge(Total(4))

    class Flow(Workflow):
        context = Ctx
        tell = tell
        start = tell

    if __name__ == "__main__":
        with Coordinator(0, "runs.db") as coordinator:
            coordinator.start(Flow, run_id="r").wait()
"""
SHOWN = {
    "log": ["a line", {"x": 1, "y": 2.5}, "<Colour.RED: 1>"],
    "last": "{3}",
    "total": {"n": 4},
    "plain": {"seen": [1]},
    "fixed": "é",
    "odd": "SharedState({(1, 2): nan})",
}


def test_a_context_is_shown_as_json_where_it_can_be(tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    place.mkdir()
    write(place, "contexts.py", CONTEXTS)
    begun = floxide(tmp_path, "elsewhere/contexts.py", "--store", "runs.db", "--run-id", "r", "--workers", "0")
    assert begun.returncode == 0, begun.stderr
    for more in ((), ("elsewhere/contexts.py",)):
        done = floxide(tmp_path, "context", "r", *more, "--store", "runs.db")
        assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, SHOWN, "")
    (place / "contexts.py").rename(tmp_path / "moved.py")
    assert "cannot be opened here: No module named 'contexts'" in refused(
        tmp_path, "context", "r", "--store", "runs.db"
    )
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved.py").rename(tmp_path / "moved" / "contexts.py")
    done = floxide(tmp_path, "context", "r", "--store", "runs.db", "moved/contexts.py")
    assert json.loads(done.stdout) == SHOWN


def test_the_context_of_a_script_comes_with_its_workflow(tmp_path: Path) -> None:
    path = write(tmp_path, "script.py", CONTEXTS)
    begun = pasted(tmp_path, shlex.join([sys.executable, str(path)]))
    assert begun.returncode == 0, begun.stderr
    done = floxide(tmp_path, "context", "r", "--store", "runs.db")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == SHOWN


OF_A_SCRIPT = """
    import os, sys
    from dataclasses import dataclass, field
    from pathlib import Path
    from floxide_mp import Context, EventLog, Join, NextAll, Workflow, node

    @dataclass
    class Value:
        n: int

    @dataclass
    class Ctx(Context):
        log: EventLog[Value] = field(default_factory=EventLog)

    @node
    def spread(count: int):
        return NextAll(map(Value, range(count)))

    @node
    def work(ctx: Ctx, value: Value) -> Value:
        assert type(value) is Value
        if value.n == 2 and not Path("mended").exists():
            raise ValueError("not mended")
        ctx.log.append(value)
        return value

    class Flow(Workflow):
        context = Ctx
        spread, work, together = spread, work, Join(lambda values: {"of": sorted(values, key=lambda v: v.n)})
        start = spread
        edges = {spread: {Value: [work]}, work: [together]}
        cli_report = staticmethod(lambda result: f"{result.output['of']} {len(list(result.context.log))} writes")

    if __name__ == "__main__":
        print(Flow.cli_report(Flow().run_with_checkpoint(4, store="runs.db", run_id="r", workers=int(sys.argv[1]))))
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_that_a_script_began_goes_on_on_the_command_line(tmp_path: Path, workers: str) -> None:
    """What is in the script's ``__main__``, its context and values, is in a module of its name there."""
    path = write(tmp_path, "script.py", OF_A_SCRIPT)
    begun = pasted(tmp_path, shlex.join([sys.executable, str(path), workers]))
    assert "ValueError: not mended" in begun.stderr
    (tmp_path / "mended").touch()
    told = "[Value(n=0), Value(n=1), Value(n=2), Value(n=3)] 4 writes\n"
    for command in (("resume", "r", "--store", "runs.db"), ("resume", "r", "--store", "runs.db")):  # the second shows
        done = floxide(tmp_path, *command, "script.py", "--workers", workers)
        assert (done.returncode, done.stdout, done.stderr) == (0, told, "")
    done = floxide(tmp_path, "script.py", "--store", "runs.db", "--run-id", "r", "--input", "4", "--workers", workers)
    assert (done.returncode, done.stdout, done.stderr) == (0, told, "")


def test_a_script_that_starts_what_the_command_line_began_is_told_to_resume_it(tmp_path: Path) -> None:
    path = write(tmp_path, "script.py", OF_A_SCRIPT)
    (tmp_path / "mended").touch()
    begun = floxide(tmp_path, "script.py", "--store", "runs.db", "--run-id", "r", "--input", "4", "--workers", "0")
    assert begun.returncode == 0, begun.stderr
    again = pasted(tmp_path, shlex.join([sys.executable, str(path), "0"]))
    text = "run 'r' is there and began with another ctx (input and seed are the same): script.Ctx is __main__.Ctx now."
    assert text in again.stderr
    assert "to go on with that run: coordinator.resume(Flow, 'r')" in again.stderr


# -- the file -----------------------------------------------------------------------------------------------------

ASKING = {
    "runs": ["runs"],
    "show": ["show", "r"],
    "context": ["context", "r"],
    "resume": ["resume", "r", "tests.flows_durable"],
    **{f"db {what}": ["db", what] for what in ("check", "info")},
}


@pytest.mark.parametrize("arguments", ASKING.values(), ids=ASKING)
def test_a_store_that_is_not_there_is_a_line_and_is_not_made(tmp_path: Path, arguments: list[str]) -> None:
    text = refused(ROOT, *arguments, "--store", str(tmp_path / "runs.db"))
    assert text == f"floxide-mp: there is no store {tmp_path}/runs.db\n"
    assert list(tmp_path.iterdir()) == []


def test_who_has_a_store_is_not_guessed(tmp_path: Path) -> None:
    filled(tmp_path / "runs.db")
    (tmp_path / "runs.db.lock").unlink()
    (tmp_path / "runs.db.lock").symlink_to("runs.db.lock")
    text = refused(ROOT, "db", "info", "--store", str(tmp_path / "runs.db"))
    assert text == f"floxide-mp: {tmp_path}/runs.db.lock is a symbolic link: a store is made of regular files\n"


def test_what_has_failed_for_good_is_not_due(tmp_path: Path) -> None:
    write(
        tmp_path,
        "fails.py",
        """
        from floxide_mp import RetryPolicy, Workflow, node

        @node(retry=RetryPolicy(max_attempts=2, initial_backoff=0.001))
        def work(n):
            raise ValueError("not today")

        class Fails(Workflow):
            work = work
            start = work
        """,
    )
    assert floxide(tmp_path, "fails.py", "--store", "runs.db", "--run-id", "r", "--workers", "0").returncode == 1
    assert [(item["status"], item["due"]) for item in shown(tmp_path, "r")["unfinished"]] == [("failed", None)]


def filled(path: Path) -> None:
    with Coordinator(0, path) as coordinator:
        coordinator.start(Durable, str(path.parent), run_id="r").wait()


@pytest.mark.parametrize("arguments", ASKING.values(), ids=ASKING)
def test_row_38_every_command_refuses_another_schema(tmp_path: Path, arguments: list[str]) -> None:
    filled(tmp_path / "runs.db")
    with sqlite3.connect(tmp_path / "runs.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    done = floxide(ROOT, *arguments, "--store", str(tmp_path / "runs.db"))
    if arguments == ["db", "info"]:
        assert done.returncode == 0
        assert done.stdout.startswith(f"schema: version 99; this floxide-mp has {schema.VERSION}\n")
    else:
        assert (done.returncode, done.stdout) == (2, "")
        assert "has version 99 of the schema" in done.stderr and "use the floxide-mp that wrote it" in done.stderr


def test_row_35_check_names_the_first_fault(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    filled(path)
    assert floxide(ROOT, "db", "check", "--store", str(path)).stdout == "ok\n"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE outputs SET payload = x'6200' WHERE row = 1")
    connection.close()
    done = floxide(ROOT, "db", "check", "--store", str(path))
    assert (done.returncode, done.stdout) == (1, "")
    what = r"row outputs 1( to \d+)?: it is not what was written"
    assert re.fullmatch(rf"floxide-mp: {path}: run 'r': {what}\n", done.stderr)
    text = refused(ROOT, "resume", "r", "--store", str(path), "tests.flows_durable")
    assert re.search(what, text) and "restore a backup of it (with its .key), or name another file" in text


def test_row_34_a_store_of_another_program_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    for arguments in (["runs"], ["tests.flows_durable"]):
        text = refused(ROOT, *arguments, "--store", str(tmp_path / "other.db"))
        assert "is a database of another program" in text
    assert "No such file or directory" in refused(ROOT, "tests.flows_durable", "--store", f"{tmp_path}/no/such.db")


# -- as a command -------------------------------------------------------------------------------------------------


def test_each_command_explains_itself(tmp_path: Path) -> None:
    for name in ("resume", "runs", "show", "context", "db"):
        done = floxide(tmp_path, name, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"usage: floxide-mp {name} ") and "Exit codes:" in done.stdout
        assert f"floxide-mp {name} --help says more" in refused(tmp_path, name)
        assert name in floxide(tmp_path, "--help").stdout
    assert "invalid choice: 'done'" in refused(tmp_path, "runs", "--store", "x", "--status", "done")


def test_row_28_looking_and_readers_that_leave(tmp_path: Path) -> None:
    filled(tmp_path / "runs.db")
    for asked in ("runs", "show r --events", "context r", "db info", "db check"):
        line = f"floxide {asked} --store runs.db"
        done = shell(
            tmp_path, f"{line} | true; echo ${{PIPESTATUS[0]}}; {line} >&-; echo $?; {line} 2>&- >&- <&-; echo $?"
        )
        assert (done.stdout, done.stderr) == ("0\n0\n0\n", ""), asked
        done = shell(tmp_path, f"{line} > /dev/full; echo $?")
        assert done.stdout == "1\n" and done.stderr.endswith("No space left on device\n")


def test_an_empty_store_has_no_runs(tmp_path: Path) -> None:
    SQLiteStore(tmp_path / "runs.db").close()
    for more in ([], ["--json"], ["--status", "failed"]):
        done = floxide(tmp_path, "runs", "--store", "runs.db", *more)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "runs: none" in floxide(tmp_path, "db", "info", "--store", "runs.db").stdout
