"""A run that a store remembers, made into one that goes on. Lives in the coordinator's process."""

from __future__ import annotations

from ..api.retry import RetryPolicy
from ..clock import monotonic
from ..core.plan import Plan
from ..core.records import Snapshot, started_over
from ..core.restore import restored
from ..core.transitions import Phase
from ..errors import FloxideError
from ..ports import CheckpointStore, RunRecord
from ..types import WorkItemStatus
from .active_run import ActiveRun, some
from .compatibility import carried_over, same_graph
from .cost_model import CostModel
from .event_tail import Tail, restore_serial_order
from .in_flight import Suspects
from .run_checks import left


def start_over(store: CheckpointStore, old: RunRecord, record: RunRecord, plan: Plan) -> bool:
    """Where nothing is left of a failed run but held items, these are pending again in the store, and what they wrote
    is withdrawn: else the run would fail as it has failed. Whether that is so.

    Args:
        old: what the run began with, or went on with last.
        record: what it goes on with.

    Raises:
        FloxideError: they cannot be started over, or have no place in the new graph.
    """
    if left(store.progress(record.run_id)).phase is not Phase.FAILED:
        return False
    snapshot = store.snapshot(record.run_id)
    if not all(row.status is WorkItemStatus.HELD for row in snapshot.items):
        return False
    if snapshot.items:
        if not same_graph(old, record):
            carried_over(old, plan, snapshot)  # which refuses it before anything is changed
        orders = frozenset([row.order for row in snapshot.items])
        store.replace(store.record(record.run_id), started_over(snapshot), orders)  # ``old`` may be its header only
        return True
    if snapshot.held:
        names = list(old.shape)
        held = ", ".join([f"{names[node]} (items {some(found)})" for node, found in sorted(snapshot.held.items())])
        text = f"run {record.run_id!r} cannot be resumed: nothing is left of it but what is held by {held}, which "
        text += "cannot be started over, since what comes behind it has not waited for it"
        how = "mend what holds it, and start the run again under another run_id"
        raise FloxideError(f"{text}; {how}", run_id=record.run_id)
    return False


def taken_up(
    store: CheckpointStore,
    old: RunRecord,
    record: RunRecord,
    plan: Plan,
    retry: RetryPolicy | None,
    cost: list[float | None],
    suspects: Suspects | None,
) -> tuple[ActiveRun, Snapshot | None]:
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
    run = ActiveRun(record, kept, state, CostModel(cost), Tail(snapshot.events), snapshot.outputs)
    run.suspects = suspects
    return run, None if same else snapshot
