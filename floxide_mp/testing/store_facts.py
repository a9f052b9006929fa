"""What the checks of a store are made of: what is written, and how what comes back is compared with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ..core.graph import RUN_SCOPE, Graph, NodeSpec
from ..core.plan import Plan
from ..core.records import Block, Commit, ItemRecord, Scope, one_by_one
from ..core.transitions import Phase
from ..core.types import ErrorRecord, Order, Payload
from ..ports import CheckpointStore, Progress, RunRecord
from ..types import RunMetrics

Reopen = Callable[[CheckpointStore], CheckpointStore]

_GRAPH: Final = Graph("g", (NodeSpec("start", ((1,),)), NodeSpec("join", join_of=RUN_SCOPE)), 0)
_ROOT: Final = Scope.open(0, Plan(_GRAPH).scopes[()], None, (0, ()))
BYTES: Final = bytes(range(256))
TEXT: Final = "odd: é 漢 \U0001f600 \x00 ' \" \udc80 \ud800"
ERROR: Final = ErrorRecord("pkg.Boom", TEXT, "line 1\nline 2", BYTES, 3, "node", 7, 2, 5, 1700000000.25, TEXT)


def record(run_id: str = "run", **changes: Any) -> RunRecord:
    graph = {"a": "b"}, ("a", "b"), ("x",)
    plain = RunRecord(run_id, "flow", b"key", b"w", b"c", b"i", 0, 1.5, None, False, *graph, versions={"a": "b"})
    return plain._replace(**changes)


def item(number: int, order: Order = (0, ()), payload: Payload = b"p", error: ErrorRecord | None = None) -> ItemRecord:
    return ItemRecord(number, number % 3, order, payload, _ROOT, error)


def block(first: int, order: Order, payloads: int | list[Payload]) -> Block:
    """So many, or with these."""
    found: list[Payload] = [b"p%d" % k for k in range(payloads)] if isinstance(payloads, int) else payloads
    return Block(first, first % 3, order, found, _ROOT)


def at(items: int = 0, phase: Phase = Phase.RUNNING) -> Progress:
    return Progress(phase, RunMetrics(items, 1, 2, 3), (items, 4), None, None)


def started(store: CheckpointStore, *items: ItemRecord, run_id: str = "run") -> None:
    store.create(record(run_id), Commit(created=list(items or (item(1),))), at(max(1, len(items))))


def same(found: object, expected: object, what: str) -> None:
    if found != expected:
        raise AssertionError(f"{what}: {expected!r} was written, {found!r} comes back")


def fails(call: Callable[[], object], kind: type[Exception], what: str) -> None:
    try:
        call()
    except kind:
        return
    raise AssertionError(f"{what}: no {kind.__name__}")


def facts(store: CheckpointStore, run_id: str = "run") -> dict[str, Any]:
    """Everything that a store says of a run; what has no order is sorted, due times are compared to a second."""
    snapshot = store.snapshot(run_id)
    return {
        "progress": store.progress(run_id),
        "items": [row._replace(due=0.0) for row in snapshot.items],
        "due": [round(row.due) for row in snapshot.items],
        "arrivals": list(snapshot.arrivals),
        "scopes": sorted(snapshot.scopes),
        "joined": sorted(snapshot.joined),
        "depths": dict(snapshot.depths),
        "passed": sorted(snapshot.passed),
        "held": {node: list(items) for node, items in snapshot.held.items()},
        "spoilt": dict(snapshot.spoilt),
        "given": dict(snapshot.given),
        "events": list(store.events(run_id)),
        "outputs": list(one_by_one(store.outputs(run_id))),
        "errors": list(store.errors(run_id)),
        "finished": dict(store.finished(run_id)),
    }


def compare(store: CheckpointStore, other: CheckpointStore, run_id: str = "run") -> None:
    for (what, found), expected in zip(facts(store, run_id).items(), facts(other, run_id).values(), strict=True):
        if what == "due" and len(found) == len(expected):
            expected = [e if abs(f - e) <= 1 else f"about {e}" for f, e in zip(found, expected, strict=True)]
        same(found, expected, what)
