"""What must hold of a ``Scheduler`` between two calls: each of its runs is as ``core.invariants`` says, every item that
is leased is in one lease, and all that could be handed out is where it is looked for.
"""

from __future__ import annotations

from collections import Counter

from floxide_mp.coordinator.active_run import ActiveRun
from floxide_mp.coordinator.run_queue import RunQueue
from floxide_mp.coordinator.scheduler import Scheduler
from floxide_mp.core.ready import ByDepth
from floxide_mp.core.records import Chunk
from floxide_mp.types import WorkItemStatus
from tests.core import invariants


def check(scheduler: Scheduler) -> None:
    """Assert all of it."""
    active = scheduler._active
    assert all(scheduler._runs[run_id] is run and not run.state.over for run_id, run in active.items())
    for run in active.values():
        _check_leases(scheduler, run)
        _check_turns(scheduler._run_queue, run)
    assert all(active.get(run_id) is run for run_id, run in scheduler._timed.items())
    assert {id(run) for run in active.values() if run.deadline is not None} == set(map(id, scheduler._timed.values()))
    assert scheduler.memory.used == sum(run.state._counted_bytes for run in active.values()), (
        "a run that is over takes memory"
    )


def _check_leases(scheduler: Scheduler, run: ActiveRun) -> None:
    leases = [
        lease for session in scheduler._sessions.values() for lease in session.leases.values() if lease.run is run
    ]
    leased = [item for lease in leases for item in lease.items]
    invariants.check(run.state, [item for item in leased if isinstance(item, Chunk)])
    alone = Counter(item.id for item in leased if not isinstance(item, Chunk))
    running = [item.id for item in run.state.items.values() if item.status is WorkItemStatus.IN_PROGRESS]
    assert alone == Counter(running), "what is leased is not what workers have"


def _check_turns(turns: RunQueue, run: ActiveRun) -> None:
    """Nothing can go on that nobody would be given. (``sooner`` and who is woken is not looked at here.)"""
    state = run.state
    assert [other for _, other in turns._waiting].count(run) == run.queued
    # What is held back while others use the memory is noted when what the run has leased comes back.
    held_back = isinstance(state._ready, ByDepth) and state.leased > 0
    assert run.queued or held_back or not run.ready, "what may start is not in line"
    assert run in turns._giving or not state.giving, "what has more to give is not in line"
    if state.next_due is not None:
        assert run.due <= state.next_due, "a retry is not waited for"
        assert any(other is run and due == run.due for due, _, other in turns._dues)
