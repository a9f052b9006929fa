"""A run that a store remembers, made into one that goes on. Lives in the coordinator's process."""

from __future__ import annotations

from ..core.plan import Plan
from ..core.records import Snapshot
from ..core.restore import restored
from ..ports import CheckpointStore, RunRecord
from ..retry import RetryPolicy
from .changes import carried_over, same_graph
from .clock import monotonic
from .in_flight import Suspects
from .pace import Pace
from .running import Running
from .tail import Tail, restore_serial_order


def taken_up(
    store: CheckpointStore,
    old: RunRecord,
    record: RunRecord,
    plan: Plan,
    retry: RetryPolicy | None,
    cost: list[float | None],
    suspects: Suspects | None,
) -> tuple[Running, Snapshot | None]:
    """The run as of its last commit, and what is unfinished of it, if the graph is another one and the store is to be
    told.

    Args:
        old: what it began with, or went on with last.
        record: what it goes on with.
        cost: seconds per step by node, as far as known.
        suspects: those of its items that were leased when an earlier program ended.
    """
    kept, snapshot = store.progress(record.run_id), store.snapshot(record.run_id)
    same = same_graph(old, record)
    if not same:
        snapshot = carried_over(old, plan, snapshot)
    stood = kept.phase, kept.metrics, kept.counts, kept.failure
    state = restored(plan, snapshot, *stood, retry, record.finish, monotonic())
    restore_serial_order(state, store, record.run_id, snapshot.events)
    run = Running(record, kept, state, Pace(cost), Tail(snapshot.events), snapshot.outputs)
    run.suspects = suspects
    return run, None if same else snapshot
