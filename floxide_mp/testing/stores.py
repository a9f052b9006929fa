"""``check_store``: every sentence of ``ports.CheckpointStore``, asked of a store. Nothing here knows which store it is.

What no store can be asked from outside, because it takes a broken medium, is not here: that a commit is all or nothing
when the disk is full, and that it is still there after a crash.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from ..core.graph import RUN_SCOPE, Graph, NodeSpec
from ..core.plan import Plan
from ..core.records import (
    Arrival,
    Commit,
    ErrorRecord,
    EventRecord,
    ItemRecord,
    ItemRow,
    Order,
    OutputRecord,
    Payload,
    Scope,
    ScopeRecord,
)
from ..core.restore import restored
from ..core.state import RunState
from ..core.table import Phase
from ..errors import NotStartedError, StoreError
from ..facts import RunMetrics, WorkItemStatus
from ..ports import CheckpointStore, Progress, RunRecord
from ..retry import RetryPolicy
from ..stores.memory import MemoryStore

MakeStore = Callable[[], CheckpointStore]
Reopen = Callable[[CheckpointStore], CheckpointStore]
Check = Callable[[CheckpointStore, Reopen], None]

_GRAPH: Final = Graph("g", (NodeSpec("start", ((1,),)), NodeSpec("join", join_of=RUN_SCOPE)), 0)
_ROOT: Final = Scope.open(0, Plan(_GRAPH).scopes[()], None, (0, ()))
_BYTES: Final = bytes(range(256))
_TEXT: Final = "odd: é 漢 \U0001f600 \x00 ' \" \udc80 \ud800"
_ERROR: Final = ErrorRecord("pkg.Boom", _TEXT, "line 1\nline 2", _BYTES, 3, "node", 7, 2, 5, 1700000000.25)


def check_store(make_store: MakeStore, reopen: Reopen | None = None) -> None:
    """Ask everything, each of a store of its own.

    Args:
        make_store: gives a new store that holds nothing. It is closed when it has been asked.
        reopen: closes a store and gives one that goes on with the same contents; None if nothing outlives it.

    Raises:
        ExceptionGroup: of what is not as the port says, one AssertionError for each.
    """
    wrong = []
    for name, check in STORE_CHECKS.items():
        try:
            _ask(check, make_store, reopen)
        except Exception as error:
            wrong.append(AssertionError(f"{name.replace('_', ' ')}: {error!r}"))
            wrong[-1].__cause__ = error
    if wrong:
        raise ExceptionGroup(f"{len(wrong)} of {len(STORE_CHECKS)} checks of a store fail", wrong)


def _ask(check: Check, make_store: MakeStore, reopen: Reopen | None) -> None:
    current = [make_store()]

    def again(store: CheckpointStore) -> CheckpointStore:
        if reopen is not None:
            current[0] = reopen(store)
        return current[0]

    try:
        check(current[0], again)
    finally:
        current[0].close()


# -- what is written ----------------------------------------------------------------------------------------------


def _record(run_id: str = "run", **changes: Any) -> RunRecord:
    plain = RunRecord(run_id, "flow", b"key", b"w", b"c", b"i", 0, 1.5, None, False, {"a": "b"}, ("a", "b"), ("x",))
    return plain._replace(**changes)


def _item(number: int, order: Order = (0, ()), payload: Payload = b"p", error: ErrorRecord | None = None) -> ItemRecord:
    return ItemRecord(number, number % 3, order, payload, _ROOT, error)


def _at(items: int = 0, phase: Phase = Phase.RUNNING) -> Progress:
    return Progress(phase, RunMetrics(items, 1, 2, 3), (items, 4), None, None)


def _started(store: CheckpointStore, *items: ItemRecord, run_id: str = "run") -> None:
    store.create(_record(run_id), Commit(created=list(items or (_item(1),))), _at(max(1, len(items))))


def _same(found: object, expected: object, what: str) -> None:
    if found != expected:
        raise AssertionError(f"{what}: {expected!r} was written, {found!r} comes back")


def _fails(call: Callable[[], object], kind: type[Exception], what: str) -> None:
    try:
        call()
    except kind:
        return
    raise AssertionError(f"{what}: no {kind.__name__}")


def _facts(store: CheckpointStore, run_id: str = "run") -> dict[str, Any]:
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
        "events": list(store.events(run_id)),
        "outputs": list(store.outputs(run_id)),
        "errors": list(store.errors(run_id)),
    }


def _compare(store: CheckpointStore, other: CheckpointStore, run_id: str = "run") -> None:
    for (what, found), expected in zip(_facts(store, run_id).items(), _facts(other, run_id).values(), strict=True):
        if what == "due" and len(found) == len(expected):
            expected = [e if abs(f - e) <= 1 else f"about {e}" for f, e in zip(found, expected, strict=True)]
        _same(found, expected, what)


# -- the checks ---------------------------------------------------------------------------------------------------


def a_new_run_is_there_with_its_first_item(store: CheckpointStore, reopen: Reopen) -> None:
    _same(list(store.runs()), [], "runs of a new store")
    _started(store)
    store = reopen(store)
    _same(list(store.runs()), [_record()], "runs")
    _same(store.progress("run"), _at(1), "progress")
    expected = [ItemRow(1, 1, (0, ()), b"p", 0, None, 1, WorkItemStatus.PENDING, 0.0)]
    _same(list(store.snapshot("run").items), expected, "items")


def a_run_that_exists_is_not_made_again(store: CheckpointStore, reopen: Reopen) -> None:
    _started(store)
    before = _facts(store)
    again = Commit(created=[_item(2)], outputs=[OutputRecord((0, ()), 0, "n", b"o")])
    _fails(lambda: store.create(_record(name="other"), again, _at(9)), StoreError, "creating a run twice")
    _same(list(store.runs()), [_record()], "runs")
    _same(_facts(store), before, "the run that was there")
    store.commit("run", Commit(finished=[1]), _at(1))


def unknown_runs_are_not_started(store: CheckpointStore, reopen: Reopen) -> None:
    _started(store)
    for name in ("nosuch", "", "RUN", "run "):
        calls: list[Callable[[], object]] = [
            lambda name=name, read=read: read(name)  # type: ignore[misc]
            for read in (store.progress, store.snapshot, store.events, store.outputs, store.errors)
        ]
        calls.append(lambda name=name: store.commit(name, Commit(phase_changed=True), _at(1)))  # type: ignore[misc]
        for call in calls:
            _fails(call, NotStartedError, f"asking for the run {name!r}")
    _same(list(store.runs()), [_record()], "runs")


def runs_come_oldest_first_as_they_were_written(store: CheckpointStore, reopen: Reopen) -> None:
    records = [
        _record("b", started_at=5.0),
        _record("a", started_at=3.0, timeout=2.5, finish=True, input=None, seed=-(2**80), shape={}, places=(), main=()),
        _record(_TEXT, name=_TEXT, key=_BYTES, workflow=_BYTES, context=b"", input=b"", shape={_TEXT: _TEXT}),
        _record("c", places=(_TEXT, "b"), main=(_TEXT,), seed=2**63, started_at=1700000000.123456),
    ]
    for record in records:
        store.create(record, Commit(created=[_item(1)]), _at(1))
    store = reopen(store)
    _same(list(store.runs()), records, "runs")
    for record in records:
        _same(store.progress(record.run_id), _at(1), f"progress of {record.run_id!r}")


def items_come_in_order_as_they_were_written(store: CheckpointStore, reopen: Reopen) -> None:
    orders: list[Order] = [(d, path) for d in (0, 1, 247, 248, 65536) for path in ((), (0,), (0, 0), (1,), (255,))]
    orders += [(1, (number,)) for number in (247, 248, 256, 1 << 16, 1 << 32, 1 << 59, 1 << 60, (1 << 62) + 5)]
    orders += [(1, (1 << 60, 3)), (1, (3, 1 << 60))]
    payloads: list[Payload] = [b"", b"p", _BYTES, b"x" * 100_000, (), ((_TEXT, b""),), (("a", (("b", _BYTES),)),)]
    items = [
        _item(n, order, payloads[n % len(payloads)], _ERROR if n % 5 == 0 else None)
        for n, order in enumerate(sorted(orders, key=hash), 1)
    ]
    _started(store, *items)
    store = reopen(store)
    expected = [
        ItemRow(i.id, i.place, i.order, i.payload, 0, i.error, 1, WorkItemStatus.PENDING, 0.0) for i in sorted(items)
    ]
    _same(list(store.snapshot("run").items), expected, "items")


def what_changes_of_an_item_is_as_of_its_last_commit(store: CheckpointStore, reopen: Reopen) -> None:
    one, two = _item(1, (0, (0,))), _item(2, (0, (1,)), _BYTES, _ERROR)
    _started(store, one, two)
    one.attempt, one.status, one.due = 9, WorkItemStatus.IN_PROGRESS, 99.0  # not committed
    _same([row.attempt for row in store.snapshot("run").items], [1, 1], "attempts")
    for attempt, status in enumerate((WorkItemStatus.WAITING_RETRY, WorkItemStatus.PENDING, WorkItemStatus.FAILED), 2):
        two.attempt, two.status, two.due = attempt, status, 1000.0 * attempt
        store.commit("run", Commit(changed=[two]), _at(2))
        two.attempt, two.status, two.due = 77, WorkItemStatus.IN_PROGRESS, 77.0
        store = reopen(store)
        row = store.snapshot("run").items[1]
        _same(row[:6], (2, 2, (0, (1,)), _BYTES, 0, _ERROR), "what does not change")
        _same((row.attempt, row.status), (attempt, status), "attempt and status")
        if abs(row.due - 1000.0 * attempt) > 1:
            raise AssertionError(f"due: {1000.0 * attempt} was written, {row.due} comes back")


def finished_items_are_forgotten(store: CheckpointStore, reopen: Reopen) -> None:
    items = [_item(n, (0, (n,))) for n in range(1, 7)]
    _started(store, *items)
    store.commit("run", Commit(changed=[items[1], items[2]], finished=[1, 2]), _at(6))
    brief, late = _item(7, (1, ())), _item(8, (2, ()))
    store.commit("run", Commit(created=[brief, late], changed=[brief], finished=[7, 5]), _at(8))
    store = reopen(store)
    store.commit("run", Commit(finished=[3]), _at(8))
    _same([row.id for row in store.snapshot("run").items], [4, 6, 8], "unfinished items")


def values_wait_at_joins_until_they_fire(store: CheckpointStore, reopen: Reopen) -> None:
    late, early = Arrival(0, 1, (2, (1,)), _TEXT, _BYTES), Arrival(0, 1, (2, (0,)), "n", (("m", b""),))
    other, inner = Arrival(0, 2, (2, (2,)), "n", b"o"), Arrival(1, 1, (1, ()), "n", b"i")
    _started(store)
    store.commit("run", Commit(finished=[1], arrived=[late, other]), _at(1))
    store.commit("run", Commit(created=[_item(2)], opened=[ScopeRecord(1, 0, 0, (0, ()), None)]), _at(2))
    store.commit("run", Commit(arrived=[early, inner], phase_changed=True), _at(2))
    store = reopen(store)
    _same(list(store.snapshot("run").arrivals), [inner, early, late, other], "arrivals")
    brief = Arrival(0, 1, (9, ()), "n", b"")
    store.commit("run", Commit(arrived=[brief], joined=[(0, 1)], created=[_item(3)]), _at(3))
    store = reopen(store)
    _same(list(store.snapshot("run").arrivals), [inner, other], "arrivals after a join has fired")
    _same(list(store.snapshot("run").joined), [(0, 1)], "joins that have fired")


def scopes_and_what_is_theirs_are_forgotten_when_closed(store: CheckpointStore, reopen: Reopen) -> None:
    one = ScopeRecord(1, 0, 2, (0, ()), None)
    two, three = ScopeRecord(2, 1, 3, (1, (5,)), _BYTES), ScopeRecord(3, 1, 3, (1, (6,)), (("a", b"b"),))
    _started(store)
    depths = {(0, 0): 1, (1, 0): 2, (1, 1): 3}
    store.commit("run", Commit(opened=[one, two], joined=[(0, 7), (1, 7)], depths=depths, phase_changed=True), _at(1))
    more = {(0, 0): 4, (2, 5): 6}
    store.commit("run", Commit(opened=[three], spoilt={2: (4, _ERROR)}, depths=more, phase_changed=True), _at(1))
    store.commit("run", Commit(spoilt={2: (1, _ERROR), 3: (0, _ERROR._replace(payload=None))}, finished=[]), _at(1))
    store = reopen(store)
    snapshot = store.snapshot("run")
    _same(sorted(snapshot.scopes), [one, two, three], "open scopes")
    _same(sorted(snapshot.joined), [(0, 7), (1, 7)], "joins that have fired")
    _same(dict(snapshot.depths), {**depths, **more}, "depths")
    _same(dict(snapshot.spoilt), {2: (1, _ERROR), 3: (0, _ERROR._replace(payload=None))}, "failed batches")
    brief = ScopeRecord(4, 0, 2, (3, ()), None)
    store.commit("run", Commit(opened=[brief], depths={(4, 0): 9, (2, 6): 9}, joined=[(4, 7)], closed=[2, 4]), _at(1))
    store = reopen(store)
    snapshot = store.snapshot("run")
    _same(sorted(snapshot.scopes), [one, three], "open scopes")
    _same(sorted(snapshot.joined), [(0, 7), (1, 7)], "joins that have fired")
    _same(dict(snapshot.depths), {(0, 0): 4, (1, 0): 2, (1, 1): 3}, "depths")
    _same(list(snapshot.spoilt), [3], "failed batches")


def what_nodes_hold_is_released_when_they_pass(store: CheckpointStore, reopen: Reopen) -> None:
    _started(store)
    store.commit("run", Commit(held=[(5, 9), (4, 3), (5, 2)], phase_changed=True), _at(1))
    store.commit("run", Commit(held=[(5, 1), (6, 8)], passed=[3], phase_changed=True), _at(1))
    store = reopen(store)
    _same(dict(store.snapshot("run").held), {5: [9, 2, 1], 4: [3], 6: [8]}, "held items, in the order of commits")
    _same(set(store.snapshot("run").passed), {3}, "nodes that passed something on")
    store.commit("run", Commit(held=[(7, 4)], passed=[5, 7], phase_changed=True), _at(1))
    store = reopen(store)
    _same(dict(store.snapshot("run").held), {4: [3], 6: [8]}, "held items")
    _same(set(store.snapshot("run").passed), {3, 5, 7}, "nodes that passed something on")


def events_outputs_and_errors_come_in_the_order_of_commits(store: CheckpointStore, reopen: Reopen) -> None:
    events = [EventRecord((9 - n, (n,)), n, _TEXT if n % 2 else "n", n % 3, _BYTES[n:]) for n in range(9)]
    outputs = [OutputRecord((9 - n, ()), n, "n", (("a", b""),) if n % 2 else _BYTES, n or None) for n in range(9)]
    errors = [_ERROR._replace(number=n + 1, payload=None if n % 2 else b"", worker=n or None) for n in range(9)]
    _started(store)
    for at in (0, 4, 5):
        part = slice(at, {0: 4, 4: 5, 5: 9}[at])
        store.commit("run", Commit(events=events[part], outputs=outputs[part], errors=errors[part]), _at(1))
        store = reopen(store)
    reads: tuple[tuple[Callable[..., Sequence[object]], Sequence[object]], ...]
    reads = (store.events, events), (store.outputs, outputs)
    for read, expected in reads:
        for since in (0, 1, 4, 5, 8, 9, 10, 1000):
            _same(list(read("run", since)), list(expected[since:]), f"{read.__name__} since {since}")
        _same(list(read("run")), list(expected), read.__name__)
    _same(list(store.errors("run")), errors, "errors")


def what_was_read_stays_as_it_was(store: CheckpointStore, reopen: Reopen) -> None:
    held = Commit(held=[(5, 9)], outputs=[OutputRecord((0, ()), 0, "n", b"o")], phase_changed=True)
    _started(store)
    store.commit("run", held, _at(1))
    snapshot, outputs = store.snapshot("run"), store.outputs("run")
    items, before = list(snapshot.items), {node: list(items) for node, items in snapshot.held.items()}
    store.commit("run", Commit(finished=[1], held=[(5, 8)], outputs=held.outputs), _at(1))
    _same((list(snapshot.items), dict(snapshot.held), len(outputs)), (items, before, 1), "what was read before")


def progress_is_that_of_the_last_commit(store: CheckpointStore, reopen: Reopen) -> None:
    _started(store)
    for number, phase in enumerate(Phase):
        failure = (None, _ERROR, _ERROR._replace(payload=None, worker=None, traceback=""))[number % 3]
        metrics = RunMetrics(number, 2**40, number * 3, 7)
        progress = Progress(phase, metrics, (2**40 + number, number), (None, 1700000000.5)[number % 2], failure)
        store.commit("run", Commit(phase_changed=True), progress)
        store = reopen(store)
        _same(store.progress("run"), progress, "progress")


def runs_do_not_mix(store: CheckpointStore, reopen: Reopen) -> None:
    names = "one", "two"
    for name in names:
        _started(store, run_id=name)
    for name in names:
        payload = name.encode()
        commit = Commit(
            created=[_item(2, (1, ()), payload)],
            arrived=[Arrival(0, 1, (1, ()), name, payload)],
            opened=[ScopeRecord(1, 0, 0, (0, ()), payload)],
            depths={(1, 0): len(payload)},
            held=[(4, 2)],
            events=[EventRecord((0, ()), 0, name, 0, payload)],
            outputs=[OutputRecord((0, ()), 0, name, payload)],
            errors=[_ERROR._replace(node=name)],
        )
        store.commit(name, commit, _at(2))
    before = _facts(store, "two")
    store.commit("one", Commit(finished=[1, 2], joined=[(0, 1)], closed=[1], passed=[4]), _at(2, Phase.COMPLETED))
    store = reopen(store)
    _same(_facts(store, "two"), before, "the other run")


def any_thread_may_call(store: CheckpointStore, reopen: Reopen) -> None:
    _started(store)
    wrong: list[BaseException] = []

    def call() -> None:
        try:
            store.commit("run", Commit(created=[_item(2, (1, ()))]), _at(2))
            _same(len(store.snapshot("run").items), 2, "items")
        except BaseException as error:
            wrong.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    if wrong:
        raise wrong[0]
    _same(len(store.snapshot("run").items), 2, "items")


def a_run_of_the_core_is_as_in_memory(store: CheckpointStore, reopen: Reopen) -> None:
    """Joins, loops, batches, retries, held items and failures, with the coordinator's death now and then."""
    for seed in range(6):
        memory, run_id = MemoryStore(), f"run {seed}"
        plan = Plan(_BUSY)
        state = RunState(plan)
        state.start(b"0")
        for number, choose in enumerate(_choices(seed)):
            if number:
                _stimulus(state, choose)
            commit, progress = state.take_commit(), progress_of(state)
            for kept in (memory, store):
                if not number:
                    kept.create(_record(run_id), commit, progress)
                elif commit:
                    kept.commit(run_id, commit, progress)
            if number % 40 == 39:
                store = reopen(store)
                _compare(store, memory, run_id)
                args = progress.phase, progress.metrics, progress.counts, progress.failure
                state = restored(plan, store.snapshot(run_id), *args)
            if state.over and state.phase is not Phase.FAILED:
                break
        _compare(store, memory, run_id)


_BUSY: Final = Graph(
    "busy",
    (
        NodeSpec("split", ((1,), (2,))),
        NodeSpec("work", ((3,), (1,)), retry=RetryPolicy(3, 5.0), on_failure=(3,)),
        NodeSpec("batch/in", ((4,),)),
        NodeSpec("join", ((6,), (0,)), join_of=0),
        NodeSpec("batch/each", ((5,),), window=2, on_failure=(6,)),
        NodeSpec("batch", ((6,),), join_of=2),
        NodeSpec("all", join_of=RUN_SCOPE),
    ),
    0,
)


def _choices(seed: int) -> Iterator[Callable[[int], int]]:
    """Numbers that look like chance, and are the same everywhere."""
    value = seed * 7919 + 1

    def below(limit: int) -> int:
        nonlocal value
        value = (value * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (value >> 33) % limit

    for _ in range(400):
        yield below


def progress_of(state: RunState) -> Progress:
    return Progress(state.phase, state.metrics, state.counts, None, state.failure)


def _stimulus(state: RunState, choose: Callable[[int], int]) -> None:
    item = state.claim(1, 1)
    if item is None:
        if state.phase is Phase.FAILED:
            state.resume(0.0)
        elif state.next_due is not None:
            state.due(state.next_due)
        return
    spec = state.plan.places[item.place].spec
    number, writes = item.id, ((0, b"e%d" % item.id),) * choose(3)
    what = choose(12)
    if what == 0:
        state.fail(item, _ERROR, True, float(number))
    elif what == 1 and spec.on_failure is not None:
        state.fail(item, _ERROR, False, 0.0)
    elif what == 2:
        state.hold(item, writes)
    elif what == 3 or item.order[0] > 14:
        state.succeed(item, (), writes, True)
    else:
        arms, wide = len(spec.arms), spec.name in ("split", "batch/in")
        values = tuple((choose(arms), b"v%d" % choose(9)) for _ in range(1 + choose(4) if wide else 1))
        state.succeed(item, values, writes, wide)


STORE_CHECKS: Final[Mapping[str, Check]] = {
    check.__name__: check
    for check in (
        a_new_run_is_there_with_its_first_item,
        a_run_that_exists_is_not_made_again,
        unknown_runs_are_not_started,
        runs_come_oldest_first_as_they_were_written,
        items_come_in_order_as_they_were_written,
        what_changes_of_an_item_is_as_of_its_last_commit,
        finished_items_are_forgotten,
        values_wait_at_joins_until_they_fire,
        scopes_and_what_is_theirs_are_forgotten_when_closed,
        what_nodes_hold_is_released_when_they_pass,
        events_outputs_and_errors_come_in_the_order_of_commits,
        what_was_read_stays_as_it_was,
        progress_is_that_of_the_last_commit,
        runs_do_not_mix,
        any_thread_may_call,
        a_run_of_the_core_is_as_in_memory,
    )
}
