"""Row 116: what failed steps leave behind is bounded, by the error and by the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from floxide_mp import Context, Coordinator, NextAll, RemoteError, RetryPolicy, RunFailedError, Workflow, node
from floxide_mp.core import records
from floxide_mp.core.graph import Graph, NodeSpec
from floxide_mp.core.plan import Plan
from floxide_mp.core.run_state import RunState
from floxide_mp.core.types import ErrorRecord
from floxide_mp.texts import MOST_TEXT, clipped
from floxide_mp.wire import codec

MB = 1_000_000
COUNT = 4


class Carrier(Exception):
    """Has little text, and a large value."""

    def __init__(self, value: bytes) -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        return "carries much"


@node
def many(n: int) -> NextAll[int]:
    return NextAll(range(n))


@node
def fails(number: int) -> Any:
    raise ValueError(f"begin {number} {'x' * 3 * MB} end {number}")


@node
def rescued(ctx: Context) -> str:
    error = ctx.item.error
    assert isinstance(error, RemoteError)
    return f"{error.type_name} {len(str(error))} {str(error)[-8:]}"


class Fails(Workflow):
    many, fails = many, fails
    start = many
    edges = {many: [fails]}


class Rescued(Workflow):
    fails, rescued = fails, rescued
    start = fails
    on_failure = {fails: [rescued]}


@pytest.mark.parametrize("workers", [0, 1])
def test_row_116_an_error_is_kept_with_its_head_and_its_tail(workers: int, tmp_path: Path) -> None:
    store = tmp_path / "runs.db"
    with Coordinator(workers, store) as coordinator:
        run = coordinator.start(Fails, COUNT, failure="finish")
        with pytest.raises(RunFailedError) as caught:
            run.wait()
        assert isinstance(caught.value.__cause__, RemoteError)
        rows = run.errors()
    assert len(rows) == COUNT
    for row in rows:
        assert len(row.message) < MOST_TEXT + 100
        assert len(row.traceback) < MOST_TEXT + 100
        assert row.message.startswith("begin ")
        assert "characters left out" in row.message
        assert row.message[-6:-1] == row.traceback.rstrip()[-6:-1] == " end "
        assert row.traceback.startswith("Traceback")
    assert store.stat().st_size < MB


def test_row_116_a_fallback_gets_the_text_of_a_large_error() -> None:
    kind, size, end = Rescued().run(7).output.split(" ", 2)
    assert (kind, end) == ("ValueError", "xx end 7")
    assert int(size) < MOST_TEXT + 100


def test_row_116_of_an_exception_with_a_large_value_the_text_is_kept() -> None:
    record = codec.encode_error(Carrier(b"v" * MB), "")
    assert (record.type_name, record.message, record.payload) == ("Carrier", "carries much", None)
    small = codec.decode_error(codec.encode_error(Carrier(b"v"), ""))
    assert isinstance(small, Carrier)
    assert small.value == b"v"


def test_row_116_the_errors_of_a_run_are_bounded_but_not_what_a_fallback_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MOST_ERRORS", 10_000)
    nodes = (NodeSpec("a", retry=RetryPolicy(max_attempts=100, initial_backoff=0), on_failure=(1,)), NodeSpec("b"))
    state = RunState(Plan(Graph("g", nodes, 0)))
    state.start(b"")
    errors = []
    for _ in range(100):
        item = state.claim(1, 1)
        assert item is not None and not hasattr(item, "payloads")
        state.fail(item, ErrorRecord("Boom", "m" * 600, "t" * 1400, b"p"), True, 0.0)  # type: ignore[arg-type]
        errors += state.take_commit().errors
    assert [len(e.traceback) for e in errors] == [1400] * 4 + [0] * 96
    assert all(len(e.message) < 600 and e.payload is None for e in errors[4:])
    assert [e.number for e in errors] == list(range(1, 101))
    fallback = state.claim(1, 1)
    assert fallback is not None and fallback.error is not None  # type: ignore[union-attr]
    assert fallback.error[:4] == ("Boom", "m" * 600, "t" * 1400, b"p")  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [0, 5, 10, 11, 1000])
def test_clipped_keeps_head_and_tail(size: int) -> None:
    text = "".join(chr(32 + k % 90) for k in range(size))
    cut = clipped(text, 10)
    assert cut == text if size <= 10 else cut.startswith(text[:5]) and cut.endswith(text[-5:])
    assert size <= 10 or f"[... {size - 10} characters left out ...]" in cut
