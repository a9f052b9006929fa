"""What users may ask of a run where it stands now, and what a run that goes on may be given anew. In the coordinator's
process.
"""

from __future__ import annotations

from typing import Any, Final

from ..core.transitions import ENDS, STATUS, Phase
from ..core.types import ErrorRecord
from ..errors import AlreadyCompletedError, FloxideError, RunTimeoutError
from ..ports import Progress, RunRecord
from ..types import RunStatus
from ..wire import codec
from .active_run import ActiveRun, RunEntry

OPTIONS: Final = "timeout", "timeout_grace", "finish"  # of ``RunRecord``: what holds from when it is given anew


def left(progress: Progress) -> Progress:
    """Where a run stands whose program is gone: one that was about to end has ended, since nothing of it runs."""
    return progress._replace(phase=ENDS.get(progress.phase, progress.phase))


def check_not_over(run: RunEntry) -> None:
    """Whether it can go on.

    Raises:
        AlreadyCompletedError: it cannot.
    """
    run_id, status = run.record.run_id, STATUS[run.decided.phase]
    if status is RunStatus.COMPLETED:
        text = f"run {run_id!r} is completed; its result is there: coordinator.run({run_id!r}).wait()"
        raise AlreadyCompletedError(text, run_id=run_id)
    if status is RunStatus.CANCELLED:
        text = f"run {run_id!r} was cancelled, which is final; start it again under another run_id"
        raise AlreadyCompletedError(text, run_id=run_id)


def check_not_ending(run: RunEntry, what: str) -> None:
    """Whether a user's wish would not be forgotten over the end that is near.

    Args:
        what: cannot be done meanwhile.

    Raises:
        AlreadyCompletedError: it is being cancelled.
        FloxideError: it is failing.
    """
    phase = run.state.phase if isinstance(run, ActiveRun) else run.decided.phase
    if phase not in ENDS:
        return
    text = f"run {run.record.run_id!r} is {STATUS[phase].value}: it cannot be {what} any more"
    if phase is Phase.CANCELLING:
        raise AlreadyCompletedError(f"{text}; start it again under another run_id", run_id=run.record.run_id)
    how = "wait for its end (run.wait()), when what still runs is over; then it can be resumed"
    raise FloxideError(f"{text}; {how}", run_id=run.record.run_id)


def check_resumable(run: RunEntry, record: RunRecord | None) -> bool:
    """Whether the run is to be read anew from the store, to go on with what ``record`` has: else it goes on as it is.

    Raises:
        AlreadyCompletedError: it is over for good, or is being cancelled.
        FloxideError: it is about to fail; its workflow is needed; or it cannot go on in this graph yet.
    """
    check_not_over(run)
    check_not_ending(run, "resumed")
    run_id = run.record.run_id
    lost = not isinstance(run, ActiveRun) or run.decided.phase is Phase.BROKEN
    if record is None:
        # What held items were given is in the store only.
        if lost or (isinstance(run, ActiveRun) and _all_held(run)):
            text = f"run {run_id!r} needs its workflow to go on: coordinator.resume(workflow, {run_id!r})"
            raise FloxideError(text, run_id=run_id)
        return False
    if lost or run.decided.phase is Phase.FAILED:
        return True
    if run.record.shape != record.shape:
        text = f"run {run_id!r} goes on in its own graph while the coordinator that paused it is there"
        raise FloxideError(text, run_id=run_id)
    return False


def _all_held(run: ActiveRun) -> bool:
    """Whether the run failed since nothing was left but what is held."""
    return bool(run.state.held) and not run.state.items and run.decided.phase is Phase.FAILED


def options_of(record: RunRecord) -> dict[str, Any]:
    """What may be given anew."""
    return {name: getattr(record, name) for name in OPTIONS}


def check_options(old: RunRecord, status: RunStatus, new: RunRecord) -> None:
    """A run that does not go on by being started again was not given what it then would not have.

    Raises:
        FloxideError: it was; names what differs.
    """
    before, now = options_of(old), options_of(new)
    differing = ["failure" if name == "finish" else name for name in OPTIONS if before[name] != now[name]]
    if differing and status not in (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED):
        text = f"run {new.run_id!r} is {status.value}, with another {' and another '.join(differing)}"
        how = f"coordinator.resume({new.name}, {new.run_id!r}, ...) takes a new one"
        raise FloxideError(f"{text}: {how}", run_id=new.run_id)


def renewed(run: ActiveRun, record: RunRecord) -> bool:
    """What was given anew holds from now on; whether the time-out is another one, which then counts from now."""
    another = record.timeout != run.record.timeout
    run.record = run.record._replace(**options_of(record))
    run.state.finish = record.finish
    if another:
        run.time_left = None
    return another


def timed_out(record: RunRecord) -> ErrorRecord:
    """What a run fails with whose time-out is over."""
    limit, grace = f"{record.timeout:g} s", f"{record.timeout_grace:g} s"
    text = f"run {record.run_id} ran longer than its time-out of {limit}; what still ran had {grace} to end"
    return codec.encode_error(RunTimeoutError(text, run_id=record.run_id), "")
