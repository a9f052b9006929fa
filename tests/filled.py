"""A store with rows in every table, for the tests of what happens to its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from floxide_mp.core.graph import RUN_SCOPE, Graph, NodeSpec
from floxide_mp.core.plan import Plan
from floxide_mp.core.records import (
    Commit,
    EventRecord,
    ItemRecord,
    JoinInput,
    OutputRecord,
    Scope,
    ScopeRecord,
    one_by_one,
)
from floxide_mp.core.transitions import Phase
from floxide_mp.core.types import ErrorRecord, Payload, size_of
from floxide_mp.ports import Progress, RunRecord
from floxide_mp.stores.sqlite.reader import Reader
from floxide_mp.stores.sqlite.store import SQLiteStore
from floxide_mp.types import RunMetrics, WorkItemStatus

MARK = {  # a part of a payload (or of a text) that is found in one table only
    name: b"<" + name.upper().encode() + b">"
    for name in ("runs", "items", "blocks", "arrivals", "scopes", "spoilt", "events", "outputs", "errors", "progress")
}
_PLAN = Plan(Graph("g", (NodeSpec("a", ((1,),)), NodeSpec("b", join_of=RUN_SCOPE)), 0))
_ROOT = Scope.open(0, _PLAN.scopes[()], None, (0, ()))
ERROR = ErrorRecord("Boom", "boom", "line", MARK["errors"], 1, "work", 7, 1, 2, 1700000000.5)


def item(number: int, payload: Payload = b"plain") -> ItemRecord:
    return ItemRecord(number, 1, (1, (number,)), payload, _ROOT, size=size_of(payload))


def at(number: int) -> Progress:
    failure = ErrorRecord("Boom", "boom", "line", MARK["progress"])
    return Progress(Phase.RUNNING, RunMetrics(number, 1, 0, 0), (number, 1), None, failure)


def everything(run_id: str, payload: bytes = MARK["items"]) -> tuple[RunRecord, Commit, Progress]:
    """A run with rows in every table; its last item has number 100."""
    outputs = [OutputRecord((0, ()), 0, "a", MARK["outputs"] + run_id.encode(), 1)]
    record = RunRecord(
        run_id,
        "flow",
        b"key of " + run_id.encode(),  # which is that of the workflow's pickle: one pickle, one key
        MARK["runs"] + run_id.encode(),
        b"c",
        b"i",
        3,
        1700000000.0,
        None,
        False,
        {"a": "b"},
        ("a", "b"),
        (),
        {"python": "3.11"},
    )
    commit = Commit(
        created=[item(7, payload), *(item(number, MARK["blocks"]) for number in range(20, 32)), item(100)],
        arrived=[JoinInput(0, 1, (2, ()), "a", MARK["arrivals"])],
        opened=[ScopeRecord(1, 0, 0, (0, ()), MARK["scopes"])],
        joined=[(1, 4)],
        depths={(0, 0): 1, (1, 0): 2},
        nodes_emitted=[3],
        held=[(4, 7)],
        failed_batches={1: (0, ERROR._replace(payload=MARK["spoilt"]))},
        events=[EventRecord((0, ()), n, "a", 0, MARK["events"]) for n in range(2)],
        outputs=outputs,
        errors=[ERROR],
        done={"a": 1},
    )
    return record, commit, at(100)


def fill(store: Any) -> None:
    """Two runs, called "run" and "other run"."""
    for name in ("run", "other run"):
        store.create(*everything(name))


def wide(store: Any) -> None:
    """A run called "wide": records came about side by side."""
    record, *_ = everything("wide")
    side = [(1, (3, k)) for k in range(200)]
    items = [ItemRecord(2 + k, 1 + k // 150, order, b"v%d" % k, _ROOT) for k, order in enumerate(side)]
    store.create(record, Commit(created=items), at(201))
    items[60].attempt, items[60].status = 2, WorkItemStatus.FAILED
    arrived = [JoinInput(0, 1, order, "a", b"a" * k) for k, order in enumerate(side[:20])]
    outputs = [OutputRecord(order, 0, "a", b"o%d" % k, k % 3 or None) for k, order in enumerate(side[:20])]
    outputs += [OutputRecord(order, 0, "b", b"o", 1) for order in side[10:90]] + [OutputRecord((0, ()), 5, "b", b"", 1)]
    events = [EventRecord(order, 0, "a", 0, b"e%d" % k) for k, order in enumerate(side[:300:3])]
    logged = Commit(arrived=arrived, outputs=outputs, events=events, done={"a": 20})
    logged.finished, logged.changed = [*range(2, 22), 40, 190, 191], [items[60]]
    store.commit("wide", logged, at(201))


def step(number: int) -> tuple[Commit, Progress]:
    """Item ``number`` is done: an output, an event, and the next one."""
    order = (1, (number,))
    return Commit(
        created=[item(number + 1)],
        finished=[number],
        events=[EventRecord(order, 0, "a", 0, b"event")],
        outputs=[OutputRecord(order, 0, "a", b"output", 1)],
        depths={(0, 0): number},
        done={"b": 1},
    ), at(number + 1)


def facts(store: Any, run_id: str = "run") -> dict[str, Any]:
    """All that a store says of a run."""
    snapshot = store.snapshot(run_id)._asdict()
    sets = {name: sorted(snapshot.pop(name)) for name in ("scopes", "joined", "nodes_emitted")}
    return {
        **snapshot,
        **sets,
        "runs": list(store.runs()),
        "record": store.record(run_id),
        "progress": store.progress(run_id),
        "finished": dict(store.finished(run_id)),
        **{name: list(getattr(store, name)(run_id)) for name in ("events", "errors")},
        "outputs": list(one_by_one(store.outputs(run_id))),
    }


class Reading:
    """``with`` for a reader."""

    def __init__(self, path: str | Path) -> None:
        self.reader = SQLiteStore.open_reader(path)

    def __enter__(self) -> Reader:
        return self.reader

    def __exit__(self, *_: object) -> None:
        self.reader.close()
