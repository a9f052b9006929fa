"""A run as the core makes it, written to a store and to ``MemoryStore``, which must say the same at any time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from ..api.retry import RetryPolicy
from ..core.graph import RUN_SCOPE, Graph, NodeSpec
from ..core.plan import Plan
from ..core.records import Block
from ..core.restore import restored
from ..core.run_state import RunState
from ..core.transitions import Phase
from ..ports import CheckpointStore, Progress
from ..stores.memory import MemoryStore
from .store_facts import ERROR, Reopen, compare, record


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
    if isinstance(item, Block):
        if choose(4):
            written = [((0, b"e%d" % (item.first + n)),) for n in range(len(item))] if choose(2) else []
            arm = choose(len(state.plan.places[item.place].arms))
            state.succeed_all(item, arm, [b"b%d" % choose(9) for _ in range(len(item))], written, 1)
            return
        item, *others = state.single_out(item, 1, 1)
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
            state.spread(item, choose(arms), [b"w%d" % choose(9) for _ in range(8 + choose(8))], writes)
            return
        values = tuple((choose(arms), b"v%d" % choose(9)) for _ in range(1 + choose(4) if wide else 1))
        state.succeed(item, values, writes, wide)
