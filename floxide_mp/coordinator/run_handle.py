"""``Run`` and ``RunResult``: what a user holds of one run. Reads are of committed facts; values are decoded here."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import cached_property, partial
from typing import Any, Final

from ..api import context as contexts
from ..api.arguments import checked_seconds
from ..api.context import Context
from ..api.event_log import LoggedEvent
from ..core.records import EventRecord, OutputChunk, OutputRecord, place
from ..core.transitions import STATUS, Phase
from ..core.types import ErrorRecord, OrderKey
from ..errors import FloxideError, RunCancelledError, RunFailedError, RunTimeoutError
from ..ports import CheckpointStore, Engine, Progress, RunRecord
from ..sigint import defer_sigint, interruptibly
from ..texts import printable
from ..types import Checkpoint, RunInfo, RunMetrics, RunStatus, WorkflowError, WorkItem, WorkItemStatus
from ..wire import codec
from .active_run import ActiveRun, RunEntry
from .commits import GRACE
from .outputs import OutputStream, Sealed, opened, payloads
from .run_queries import whole_record
from .scheduler import Scheduler

STREAMED: Final = 4096  # outputs that are read at a time, where they are streamed


class RunResult:
    """What a completed run gave. Values are decoded when they are first looked at.

    Attributes:
        run_id: the run's id.
        metrics: its exact counts.
    """

    def __init__(
        self,
        record: RunRecord,
        metrics: RunMetrics,
        outputs: list[OutputRecord | OutputChunk],
        events: list[EventRecord],
    ) -> None:
        self.run_id = record.run_id
        self.metrics = metrics
        self._record = record
        self._outputs = sorted(outputs, key=_place)
        self._events = events

    @cached_property
    def outputs(self) -> list[Any]:
        """Every output, in the order of the one-process run.

        Raises:
            Exception: one cannot be opened here (its module is gone, say); a note says which one, and of which node.
        """
        found: list[Any] = []
        for output in self._outputs:
            for payload in payloads(output):
                found.append(opened(payload, self.run_id, f"outputs[{len(found)}]", output.node))
        return found

    @property
    def workers(self) -> list[int | None]:
        """The worker that each output came from. Unlike the outputs, this differs from run to run."""
        return [output.worker for output in self._outputs for _ in payloads(output)]

    @property
    def output(self) -> Any:
        """The one output; None if there is none.

        Raises:
            FloxideError: if there are several.
        """
        if self._count > 1:
            raise FloxideError(f"run {self.run_id} has {self._count} outputs: use .outputs", run_id=self.run_id)
        return self.outputs[0] if self._count else None

    @property
    def _count(self) -> int:
        return sum(len(payloads(output)) for output in self._outputs)

    @cached_property
    def context(self) -> Any:
        """The context after the run: what it began with, and every committed write in order."""
        return replay(self._record, self._events)

    def __repr__(self) -> str:
        return f"<RunResult {self.run_id}: {self._count} outputs, {self.metrics}>"


class Run:
    """A handle on one run; made by ``Coordinator.start`` and ``Coordinator.run``. May be used from any thread.

    When its coordinator is closed, ``info``, ``status`` and ``metrics`` still answer; other reads raise ``StoreError``
    if the store was opened by the coordinator.
    """

    def __init__(self, run_id: str, scheduler: Scheduler, engine: Engine, owner: object = None) -> None:
        self.run_id = run_id
        self._owner = owner  # which is not collected, and so ended, while somebody has the run
        self._scheduler = scheduler
        self._engine = engine

    @defer_sigint
    def wait(self, timeout: float | None = None) -> RunResult:
        """Wait for the end.

        Args:
            timeout: seconds; the run goes on when they are over.

        Raises:
            ValueError: ``timeout`` is no number of seconds.
            TimeoutError: it is not over yet.
            RunFailedError: it failed; the cause is the error of the step that failed it.
            RunTimeoutError: it was longer than its own ``timeout``.
            RunCancelledError: it was cancelled.
            FloxideError: the coordinator was closed before the end.
        """
        if not self._engine.wait(self.run_id, None, None if timeout is None else checked_seconds("timeout", timeout)):
            raise TimeoutError(f"run {self.run_id} is not over after {timeout:g} s")
        return self._result()

    def __await__(self) -> Generator[Any, None, RunResult]:
        """``await run``, in an event loop: as ``wait``, without a thread of the loop's pool. Cancelled, it cancels the
        run.
        """
        from .awaiting import awaited  # asyncio is 40 ms that most programs never need

        by_itself = getattr(self._engine, "runs_by_itself", False)
        return awaited(self, self._scheduler if by_itself else None).__await__()

    def stream(self) -> Iterator[Any]:
        """The outputs as they are committed, in that order; ends with the run, raising like ``wait``.

        They are read some at a time, so all of them need not have room in memory. Where one cannot be opened, ``next``
        raises what that raises, with a note that names it, and the ``next`` after it goes on behind it.
        """
        return OutputStream(self.run_id, self._sealed())

    def _sealed(self) -> Generator[Sealed, None, None]:
        seen = 0
        while new := self._next_outputs(seen):
            for output in new:
                for payload in payloads(output):
                    seen += 1
                    yield payload, output.node
        self._expect_completed()

    @defer_sigint
    def _next_outputs(self, seen: int) -> list[OutputRecord | OutputChunk]:
        """Some of those behind the first so many, waiting for one; none if the run is over."""
        self._engine.wait(self.run_id, seen, None)
        return self._scheduler.read(self.run_id, partial(_outputs, since=seen))

    def _result(self) -> RunResult:
        """What is read, is read in turn; what is opened, such as an error of the user's, is opened afterwards."""
        found = self._scheduler.read(self.run_id, _end)
        if isinstance(found, RunResult):
            return found
        raise self._not_completed(*found)

    @defer_sigint
    def _expect_completed(self) -> None:
        """``wait``, without a look at what came of it."""
        self._engine.wait(self.run_id, None, None)
        run, progress = self._scheduler.read(self.run_id, lambda run, _: (run, run.published))
        if progress.phase is not Phase.COMPLETED:
            raise self._not_completed(run, progress)

    def _not_completed(self, run: RunEntry, progress: Progress) -> FloxideError:
        if STATUS[progress.phase] not in (RunStatus.FAILED, RunStatus.CANCELLED):
            self._scheduler.check_alive()
        return _end_error(run, progress)

    def pause(self) -> None:
        """Start nothing more of it until it is resumed; steps that run are finished.

        Raises:
            AlreadyCompletedError: it is over, or is being cancelled.
            FloxideError: it is about to fail; or its store is on disk, and the coordinator closed.
        """
        self._scheduler.pause(self.run_id)

    def resume(self) -> None:
        """Go on after a pause or a failure; what is unfinished in a failed run is tried again as if for the first time.

        Raises:
            AlreadyCompletedError: it is completed, or cancelled, or being cancelled.
            FloxideError: it is about to fail, and can be resumed when it has; or another coordinator started it:
                ``Coordinator.resume`` takes it up, given its workflow.
        """
        self._scheduler.resume(self.run_id)

    def cancel(self, grace: float = GRACE) -> None:
        """Start nothing more of it. Steps that run have ``grace`` seconds before their workers are ended.

        Raises:
            ValueError: ``grace`` is no number of seconds.
            FloxideError: its store is on disk, the coordinator closed, and the run not over.
        """
        self._scheduler.cancel(self.run_id, checked_seconds("grace", grace))

    def info(self) -> RunInfo:
        """How it stands, as of its last commit."""
        return info_of(self._scheduler.known(self.run_id))

    @property
    def status(self) -> RunStatus:
        """Whether it is on, paused, or how it ended. Of a run that its coordinator has left, how it stood then."""
        return self.info().status

    def metrics(self) -> RunMetrics:
        """How many items there are, completed and failed, and how many retries."""
        return self.info().metrics

    def progress(self) -> dict[str, int]:
        """How many steps of each node are completed, in the order of the graph; those of nodes that have any."""
        done, shape = self._scheduler.read(self.run_id, lambda run, s: (s.finished(self.run_id), run.record.shape))
        return {name: done[name] for name in (*shape, *done) if name in done}

    def context(self) -> Any:
        """The context as committed so far."""
        record, events = self._scheduler.read(
            self.run_id, lambda run, store: (whole_record(run, store), list(store.events(self.run_id)))
        )
        return replay(record, events)

    def errors(self) -> list[WorkflowError]:
        """One row for each failed attempt."""
        return [
            _error_row(self.run_id, e) for e in self._scheduler.read(self.run_id, lambda _, s: s.errors(self.run_id))
        ]

    def work_items(self) -> list[WorkItem]:
        """Everything unfinished, in order: what waits, what runs, what has arrived at a join."""
        return self._scheduler.read(self.run_id, _items)

    def pending_work(self) -> list[WorkItem]:
        """The items that are to be run, or run again."""
        waiting = (WorkItemStatus.PENDING, WorkItemStatus.WAITING_RETRY)
        return [item for item in self.work_items() if item.status in waiting]

    def checkpoint(self) -> Checkpoint:
        """What would be picked up after a crash now."""

        def look(run: RunEntry, store: CheckpointStore) -> tuple[Any, ...]:
            outputs, events = list(store.outputs(self.run_id)), list(store.events(self.run_id))
            result = RunResult(whole_record(run, store), run.published.metrics, outputs, events)
            return result, STATUS[run.published.phase], _items(run, store)

        result, status, items = self._scheduler.read(self.run_id, look)
        return Checkpoint(self.run_id, status, result.context, tuple(items), tuple(result.outputs))

    def __repr__(self) -> str:
        return f"<Run {self.run_id}: {self.status.value}>"


def replay(record: RunRecord, events: list[EventRecord]) -> Context:
    """The context that a run began with, with ``events`` folded in, in the run's order.

    Raises:
        FloxideError: its class has changed so that events cannot be read; names the fields.
    """
    context: Context = contexts.complete(codec.decode(record.context), record.fields)
    ordered = sorted(events, key=place)
    return contexts.fold(
        context,
        ((e.field, LoggedEvent(codec.decode(e.payload), e.node, e.order, e.index)) for e in ordered),
        record.fields,
    )


def info_of(run: RunEntry) -> RunInfo:
    """A run's facts, as of its last commit. One whose store takes nothing at the moment is shown as paused by that."""
    record, progress, trouble = run.record, run.published, run.write_error
    status = STATUS[progress.phase]
    waits = trouble is not None and status is RunStatus.RUNNING
    failure = None if progress.failure is None else failure_text(record.run_id, progress.failure, progress.failed)
    return RunInfo(
        run_id=record.run_id,
        workflow=record.name,
        status=RunStatus.PAUSED if waits else status,
        started_at=record.started_at,
        finished_at=progress.finished_at,
        metrics=progress.metrics,
        error=str(trouble) if waits else failure,
    )


def failure_text(run_id: str, failure: ErrorRecord, failed: int) -> str:
    """Why a run failed, in one line; ``failed`` items have done so for good, and are there."""
    text = printable(failure.message[:1000].split("\n", 1)[0]) or failure.type_name  # it may quote what a stranger sent
    if not failure.node:
        return text if failure.type_name == RunTimeoutError.__name__ else f"run {run_id} failed: {text}"
    where = f"{failure.node} (item {failure.item_id}, attempt {failure.attempt})"
    given = "" if failure.input is None else f"; input: {failure.input}"
    others = f"; {failed - 1} other item{'s' * (failed > 2)} failed: run.errors()" if failed > 1 else ""
    return f"run {run_id} failed at {where}: {failure.type_name}: {text}{given}{others}"


def _end(run: RunEntry, store: CheckpointStore) -> RunResult | tuple[RunEntry, Progress]:
    run_id, progress = run.record.run_id, run.published
    if progress.phase is Phase.COMPLETED:
        events = list(store.events(run_id))
        return RunResult(whole_record(run, store), progress.metrics, list(store.outputs(run_id)), events)
    return run, progress


def _end_error(run: RunEntry, progress: Progress) -> FloxideError:
    """What the end of a run without a result is to its waiter. Opens the error of its step, which may be anybody's."""
    run_id = run.record.run_id
    if progress.phase is Phase.CANCELLED:
        return RunCancelledError(f"run {run_id} was cancelled", run_id=run_id)
    failure = progress.failure
    if STATUS[progress.phase] is not RunStatus.FAILED or failure is None:
        when = "when its coordinator was closed" if isinstance(run, ActiveRun) else "when it was left"
        how = f"coordinator.resume(workflow, {run_id!r}) goes on with it"
        return FloxideError(f"run {run_id} was not over {when}; {how}", run_id=run_id)
    if failure.type_name == RunTimeoutError.__name__ and not failure.node:
        return RunTimeoutError(failure.message, run_id=run_id)
    error = RunFailedError(
        failure_text(run_id, failure, progress.failed),
        run_id=run_id,
        node=failure.node or None,
        item_id=failure.item_id or None,
        attempt=failure.attempt or None,
    )
    error.__cause__ = interruptibly(codec.decode_error, failure)
    return error


def _outputs(run: RunEntry, store: CheckpointStore, since: int) -> list[OutputRecord | OutputChunk]:
    return list(store.outputs(run.record.run_id, since, STREAMED))


def _place(output: OutputRecord | OutputChunk) -> tuple[OrderKey, int]:
    """What outputs are sorted by. No other output has its place between the first of a block and the last."""
    return output.order, 0 if isinstance(output, OutputChunk) else output.index


def _items(run: RunEntry, store: CheckpointStore) -> list[WorkItem]:
    if run.published.phase is Phase.CANCELLED:
        return []  # also where the program died before it could say so to the store
    record, snapshot = run.record, store.snapshot(run.record.run_id)
    # Which items are being run is nothing that a store is told.
    state = run.state if isinstance(run, ActiveRun) else None
    found = [
        WorkItem(
            record.run_id,
            row.id,
            record.places[row.place],
            row.attempt,
            row.status if state is None else state.status_of(row.id, row.status),
            row.order,
        )
        for row in snapshot.items
    ]
    for a in snapshot.arrivals:
        found.append(WorkItem(record.run_id, 0, record.places[a.place], 1, WorkItemStatus.ARRIVED, a.order))
    return sorted(found, key=lambda item: item.order)


def _error_row(run_id: str, e: ErrorRecord) -> WorkflowError:
    return WorkflowError(
        e.number, run_id, e.node, e.item_id, e.attempt, e.type_name, e.message, e.traceback, e.worker, e.at, e.input
    )
