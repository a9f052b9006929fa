"""Which input failed: it is named in errors, in ``run.errors()``, in the store and by ``show``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import Abort, Coordinator, Join, NextAll, RetryPolicy, RunFailedError, Workflow, node
from floxide_mp.texts import brief

FILES = {"a.csv": "1", "b.csv": "x", "c.csv": "y"}


@node
def files(_: str) -> NextAll[str]:
    return NextAll(sorted(FILES))


@node
def parse(name: str) -> float:
    return float(FILES[name])


class Parsed(Workflow):
    files, parse = files, parse
    start, edges = files, {files: [parse]}


class Odd:
    """Whose ``repr`` raises."""

    def __repr__(self) -> str:
        raise ValueError("no")


@dataclass
class Job:
    name: str
    rows: list[int]
    key: str = field(default="k", repr=False)


class Plain:
    def __init__(self) -> None:
        self.name = "b.csv"


def wrong(value: Any) -> Any:
    raise ValueError("wrong")


def error_of(flow: Any, given: Any, **options: Any) -> str:
    with pytest.raises(RunFailedError) as caught:
        flow().run(given, **options)
    return str(caught.value)


def flow_of(function: Any, **options: Any) -> type[Workflow]:
    made = node(**options)(function)
    return type("One", (Workflow,), {"step": made, "start": made})


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_row_131_the_input_is_named(workers: int) -> None:
    text = error_of(flow_of(wrong), "b.csv", workers=workers)
    assert text.endswith("failed at step (item 1, attempt 1): ValueError: wrong; input: 'b.csv'")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kept", [False, True])
def test_row_131_others_that_failed_are_counted(workers: int, kept: bool, tmp_path: Path) -> None:
    store = tmp_path / "runs.db" if kept else None
    with Coordinator(workers, store=store) as coordinator:
        run = coordinator.start(Parsed, ".", run_id="r", failure="finish")
        with pytest.raises(RunFailedError) as caught:
            run.wait()
        assert {(e.node, e.input) for e in run.errors()} == {("parse", "'b.csv'"), ("parse", "'c.csv'")}
        assert str(caught.value).endswith("; 1 other item failed: run.errors()")
        assert any(f"; input: {name!r}; " in str(caught.value) for name in ("b.csv", "c.csv"))
        assert run.info().error == str(caught.value)
    if kept:
        with Coordinator(0, store=store) as coordinator, pytest.raises(RunFailedError) as again:
            coordinator.run("r").wait()
        assert str(again.value) == str(caught.value)


def test_row_131_after_a_resume_only_what_failed_again_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    with Coordinator(0) as coordinator:
        run = coordinator.start(Parsed, ".", run_id="r", failure="finish")
        with pytest.raises(RunFailedError, match="1 other item failed"):
            run.wait()
        monkeypatch.setitem(FILES, "b.csv", "2")
        with pytest.raises(RunFailedError) as caught:
            coordinator.resume(Parsed, "r").wait()
    assert str(caught.value).endswith("could not convert string to float: 'y'; input: 'c.csv'")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x" * 10**7, "'" + "x" * 196 + "..."),
        (b"y" * 10**7, "b'" + "y" * 195 + "..."),
        (list(range(10**6)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, ...]"),
        (dict.fromkeys(range(10**5)), "a dict of 100,000 elements"),
        (set(range(10**5)), "a set of 100,000 elements"),
        (Job("b.csv", list(range(30))), "Job(name='b.csv', rows=[" + ", ".join(map(str, range(20))) + ", ...])"),
        (Plain(), "<Plain name='b.csv'>"),
        ([Odd()], "[a Odd whose repr raised ValueError]"),
        (RuntimeError("a\x1b[2J\nb"), "RuntimeError('a\\x1b[2J\\nb')"),
        ("a\u202eb", "'a\\u202eb'"),
        (None, "None"),
    ],
)
def test_row_131_large_inputs_and_odd_reprs_cost_little(value: Any, text: str) -> None:
    assert brief(value) == text


def test_row_131_large_tables_are_named_by_their_shape() -> None:
    numpy, pandas = pytest.importorskip("numpy"), pytest.importorskip("pandas")
    assert brief(numpy.zeros((1000, 10))) == "a ndarray of shape (1000, 10)"
    assert brief(pandas.DataFrame({"a": range(1000)})) == "a DataFrame of shape (1000, 1)"
    assert error_of(flow_of(wrong), numpy.zeros((3000, 1000)), workers=1).endswith("a ndarray of shape (3000, 1000)")


def test_row_131_an_input_with_a_huge_pickle_is_not_opened_again() -> None:
    assert error_of(flow_of(wrong), ["x" * 17_000_000], workers=0).endswith("input: 17,000,012 bytes as a pickle")


@pytest.mark.parametrize("workers", [0, 1])
def test_row_131_secrets_and_inputs_that_nobody_asked_for_are_not_named(workers: int) -> None:
    assert error_of(flow_of(wrong, redact=True), "hunter2", workers=workers).endswith("ValueError: wrong")
    assert error_of(flow_of(lambda: 1 / 0), "b.csv", workers=workers).endswith("division by zero")


@node
def abort(value: Any) -> Any:
    return Abort(f"no: {value}")


@node
def broken(arrivals: Iterable[float]) -> float:
    raise ValueError("no sum")


class Joined(Workflow):
    files, same, total = files, node(lambda name: name), Join(broken.function)
    start, edges = files, {files: [same], same: [total]}


@pytest.mark.parametrize("workers", [0, 1])
def test_row_131_aborts_retries_and_joins_name_it_too(workers: int) -> None:
    assert error_of(flow_of(abort.function), 7, workers=workers).endswith("no: 7; input: 7")
    retry = RetryPolicy(max_attempts=2, initial_backoff=0)
    assert error_of(flow_of(wrong, retry=retry), 7, workers=workers).endswith("attempt 2): ValueError: wrong; input: 7")
    assert error_of(Joined, "", workers=workers).endswith("no sum; input: ['a.csv', 'b.csv', 'c.csv']")


def test_row_131_what_the_step_did_to_its_input_is_not_shown() -> None:
    def spoil(value: list[int]) -> None:
        value.clear()
        raise ValueError("wrong")

    assert error_of(flow_of(spoil), [1, 2], workers=0).endswith("input: [1, 2]")


def test_row_131_show_prints_it(tmp_path: Path) -> None:
    path = str(tmp_path / "runs.db")
    error_of(Parsed, ".", workers=0, store=path, run_id="r")
    command = [sys.executable, "-m", "floxide_mp", "show", "r", "--store", path]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "ValueError: could not convert string to float: 'x'; input: 'b.csv'\n    Traceback" in text
    told = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert [error["input"] for error in told["errors"]] == ["'b.csv'"]
