"""What the checks of a store are made of: what is written, how what comes back is compared with it, and a run as the
core makes it, which a store and ``MemoryStore`` must say the same of at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from ..api.retry import RetryPolicy
from ..core.graph import RUN_SCOPE, Graph, NodeSpec
from ..core.plan import Plan
from ..core.records import Chunk, Commit, EventRecord, ItemRecord, Scope, one_by_one
from ..core.restore import restored
from ..core.run_state import RunState
from ..core.transitions import Phase
from ..core.types import ErrorRecord, OrderKey, Payload, StreamOffset
from ..ports import CheckpointStore, Progress, RunRecord
from ..stores.memory import MemoryStore
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


def item(
    number: int, order: OrderKey = (0, ()), payload: Payload = b"p", error: ErrorRecord | None = None
) -> ItemRecord:
    return ItemRecord(number, number % 3, order, payload, _ROOT, error)


def block(first: int, order: OrderKey, payloads: int | list[Payload]) -> Chunk:
    """So many, or with these."""
    found: list[Payload] = [b"p%d" % k for k in range(payloads)] if isinstance(payloads, int) else payloads
    return Chunk(first, first % 3, order, found, _ROOT)


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
        "nodes_emitted": sorted(snapshot.nodes_emitted),
        "held": {node: list(items) for node, items in snapshot.held.items()},
        "failed_batches": dict(snapshot.failed_batches),
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
            commit, progress = state.take_commit(), _progress_of(state)
            for kept in (memory, store):
                if not number:
                    kept.create(record(run_id), commit, progress)
                elif commit:
                    kept.commit(run_id, commit, progress)
            if number % 40 == 39:
                store = reopen(store)
                compare(store, memory, run_id)
                args = progress.phase, progress.metrics, progress.counts, progress.failure
                state = restored(plan, store.snapshot(run_id), *args)
            if state.over and state.phase is not Phase.FAILED:
                break
        compare(store, memory, run_id)


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


def _progress_of(state: RunState) -> Progress:
    return Progress(state.phase, state.metrics, state.counts, None, state.failure, state.failed)


def _stimulus(state: RunState, choose: Callable[[int], int]) -> None:
    item = state.claim(1, 1, 1 + choose(9))
    if item is None:
        if state.phase is Phase.FAILED:
            state.resume(0.0)
        elif state.next_due is not None:
            state.due(state.next_due)
        return
    if isinstance(item, Chunk):
        if choose(4):
            written = [((0, b"e%d" % (item.first + n)),) for n in range(len(item))] if choose(2) else []
            arm = choose(len(state.plan.places[item.place].arms))
            state.succeed_all(item, arm, [b"b%d" % choose(9) for _ in range(len(item))], written, 1)
            return
        item, *others = state.split_off(item, 1, 1)
        for other in others:
            state.release(other)
    spec = state.plan.places[item.place].spec
    number, writes = item.id, ((0, b"e%d" % item.id),) * choose(3)
    what = choose(12)
    if what == 0:
        state.fail(item, ERROR, True, float(number))
    elif what == 1 and spec.on_failure is not None:
        state.fail(item, ERROR, False, 0.0)
    elif what == 2:
        state.hold(item, writes)
    elif what == 3 or item.order[0] > 14:
        state.succeed(item, (), writes, True)
    else:
        arms, wide = len(spec.arms), spec.name in ("split", "batch/in")
        if wide and choose(2):
            state.fan_out(item, choose(arms), [b"w%d" % choose(9) for _ in range(8 + choose(8))], writes)
            return
        values = tuple((choose(arms), b"v%d" % choose(9)) for _ in range(1 + choose(4) if wide else 1))
        state.succeed(item, values, writes, wide)


def withdrawn_events_are_taken_out(store: CheckpointStore, reopen: Reopen) -> None:
    for name in ("run", "other"):
        started(store, run_id=name)
        for number in range(4):
            payload = BYTES if number == 1 else b"e%d" % number
            events = [EventRecord((number % 2, (number,)), index, "n", 0, payload) for index in range(2)]
            store.commit(name, Commit(events=events, phase_changed=True), at(1))
    before, other = facts(store), facts(store, "other")
    store.replace(record(), None, frozenset([(1, (1,)), (0, (2,)), (7, ())]))
    expected = {**before, "events": [event for event in before["events"] if event.order[1] in ((0,), (3,))]}
    same(facts(store), expected, "the run, less the events that were withdrawn")
    store = reopen(store)
    again = [EventRecord((1, (1,)), 0, "n", 0, b"again")]
    store.commit("run", Commit(events=again, phase_changed=True), at(1))
    store = reopen(store)
    expected["events"] += again
    same(facts(store), expected, "the run, with one of them written again")
    same(list(store.events("run", 3)), expected["events"][3:], "events from number 3 on")
    same(store.snapshot("run").events, 5, "how many events there are")
    same(facts(store, "other"), other, "the other run")
    store.replace(record(), store.snapshot("run"), {event.order for event in expected["events"]})
    same(list(reopen(store).events("run")), [], "events, all of which were withdrawn")


def what_items_have_given_is_kept_until_they_are_over(store: CheckpointStore, reopen: Reopen) -> None:
    started(store, *(item(n, (0, (n,))) for n in range(1, 9)))
    store.commit(
        "run",
        Commit(
            given={1: StreamOffset(3, 2, 1, 5, 6), 2: StreamOffset(1, 0, 0), 9: StreamOffset(8, 8, 8)},
            created=[item(9)],
        ),
        at(9),
    )
    store = reopen(store)
    expected = {1: StreamOffset(3, 2, 1, 5, 6), 2: StreamOffset(1, 0, 0), 9: StreamOffset(8, 8, 8)}
    same(dict(store.snapshot("run").given), expected, "what items have given")
    before = store.snapshot("run").given
    store.commit("run", Commit(given={1: StreamOffset(2**40, 2**41, 7, 2**32 - 1, 1)}), at(9))
    store.commit(
        "run", Commit(given={2: None, 3: StreamOffset(5, 6, 7), 4: StreamOffset(1, 1, 1)}, finished=[2]), at(9)
    )
    store.commit("run", Commit(given={4: None}, finished=[4]), at(9))
    same(dict(before), expected, "what was read before")
    store = reopen(store)
    expected = {1: StreamOffset(2**40, 2**41, 7, 2**32 - 1, 1), 3: StreamOffset(5, 6, 7), 9: StreamOffset(8, 8, 8)}
    same(dict(store.snapshot("run").given), expected, "what items have given, as of the last commits")
    store.commit("run", Commit(given={1: None, 9: None}, finished=[1, 9]), at(9))
    same(dict(store.snapshot("run").given), {3: StreamOffset(5, 6, 7)}, "what items have given that are not over")
