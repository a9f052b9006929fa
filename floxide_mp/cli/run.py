"""``Job``: what ``run`` and ``resume`` do: a workflow on a coordinator of its own, from the start of its workers to its
results, or to the lines that say why there are none and how to go on. What was asked for is read in ``cli``.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ..errors import (
    FloxideError,
    NotStartedError,
    RunCancelledError,
    RunFailedError,
    RunTimeoutError,
    StoreError,
    WorkflowDefinitionError,
)
from ..types import RunInfo, RunStatus
from . import formatting, store_option
from .formatting import CliError, say
from .terminal import Results, Stop

if TYPE_CHECKING:
    from ..coordinator.coordinator import Coordinator
    from ..coordinator.run_handle import Run, RunResult

log = logging.getLogger("floxide_mp")

T = TypeVar("T")
COMPLETED: Final = 0
FAILED: Final = 1
OVER: Final = (RunFailedError, RunCancelledError, RunTimeoutError)  # what an end without a result raises


@dataclass(frozen=True)
class Job:
    """See the module. Each method gives the exit code.

    Args:
        workflow: what to run.
        workers: how many; None: as many as there are usable CPUs.
        store: the path of the store, None for none.
        again: of a run's id, the command that goes on with it; only asked for if there is a store.
        results: where lines go.
        stop: watches for signals.
    """

    workflow: Any  # a Workflow with whatever hooks it has
    workers: int | None
    store: str | None
    again: Callable[[str], str]
    results: Results
    stop: Stop

    def start(self, value: Any, run_id: str | None) -> int:
        """Start a run, or take up the one of that id that was interrupted, and print what it gives."""

        def begin(coordinator: Coordinator) -> Run:
            if run_id is not None:
                self._check_startable(coordinator, run_id)
            return coordinator.start(self.workflow, value, run_id=run_id)

        return self._result_of(begin, run_id)

    def resume(self, run_id: str, allow_changes: bool, timeout: float | None = None) -> int:
        """Go on with a run of the store, and print what it gives. ``timeout``: another one, in seconds."""
        options: dict[str, Any] = {} if timeout is None else {"timeout": timeout}

        def begin(coordinator: Coordinator) -> Run:
            return coordinator.resume(self.workflow, run_id, allow_changes=allow_changes, **options)

        self._prepare_farewell(run_id)
        return self._result_of(begin, run_id)

    def drive(self, value: Any) -> int:
        """Let the workflow's ``cli_run`` do it. It may start any number of runs, and catch what it likes."""
        self._prepare_farewell("")
        return self._coordinate(lambda coordinator: self._driven(coordinator, value))

    def show(self, result: RunResult) -> int:
        """Print what a run gave."""
        hook = getattr(self.workflow, "cli_report", None)
        try:
            if hook is None:
                self.results.write(map(formatting.line_of, result.outputs))
            else:
                self.results.write(_lines(hook(result)), own=True)
        except Exception as error:
            return unwritten(error, self.results)
        return COMPLETED

    # -- inside --------------------------------------------------------------------------------------

    def _coordinate(self, act: Callable[[Coordinator], T]) -> T | int:
        """Do it with a coordinator. The store is opened here, so that it can still be read when that one is closed."""
        from ..api.defaults import Coordinator  # brings the engines along: not before signals are watched

        with ExitStack() as opened:
            try:
                store = None
                if self.store is not None:
                    from ..stores.sqlite.store import SQLiteStore  # 10 ms that runs in memory do not need

                    store = opened.enter_context(closing(SQLiteStore(self.store)))
                coordinator = self.stop.coordinator = Coordinator(self.workers, store)
            except ValueError as error:  # of cli_defaults: the argument is checked
                raise CliError(formatting.message(str(error))) from None
            except StoreError as error:
                raise store_option.refusal(error, self.store or "") from None
            except FloxideError as error:
                say(formatting.message(str(error)))
                return FAILED
            try:
                with coordinator:
                    return act(coordinator)
            except StoreError as error:
                say(formatting.message(str(error)))
                return FAILED
            finally:
                self.stop.coordinator = None  # nothing is left that could be ended in order

    def _result_of(self, begin: Callable[[Coordinator], Run], run_id: str | None) -> int:
        result = self._coordinate(lambda coordinator: self._wait(coordinator, begin, run_id))
        return result if isinstance(result, int) else self.show(result)

    def _wait(
        self, coordinator: Coordinator, begin: Callable[[Coordinator], Run], run_id: str | None
    ) -> int | RunResult:
        try:
            run = begin(coordinator)
        except WorkflowDefinitionError:
            raise
        except (FloxideError, ValueError) as error:
            if self.stop.signal:
                return self._stopped([info for info in coordinator.runs() if info.run_id == run_id])
            raise CliError(formatting.message(str(error))) from None
        self._prepare_farewell(run.run_id)
        pids = ", ".join(str(worker.pid) for worker in coordinator.workers())
        log.info("run %s of %s is on; workers are the processes %s", run.run_id, self.workflow.name, pids)
        try:
            result = _end_of(run, coordinator)
        except OVER as error:
            say(formatting.failure(error))
            if self.store is not None and not isinstance(error, RunCancelledError):
                say(formatting.kept(self.again(run.run_id)))
            return FAILED
        except FloxideError:
            if not self.stop.signal:
                raise
            return self._stopped([run.info()])
        log.info("%s", formatting.completed(run.info()))
        return result

    def _check_startable(self, coordinator: Coordinator, run_id: str) -> None:
        """That a run of that id failed or is paused is said here with the command that goes on with it."""
        try:
            info = coordinator.info(run_id)
        except NotStartedError:
            return
        if info.workflow == self.workflow.name and info.status in (RunStatus.FAILED, RunStatus.PAUSED):
            how = "has failed" if info.status is RunStatus.FAILED else "is paused"
            text = f"run {run_id!r} {how}; choose another --run-id, or go on with it:"
            raise CliError(formatting.message(text, self.again(run_id)))

    def _driven(self, coordinator: Coordinator, value: Any) -> int:
        before = set(coordinator.runs())  # of earlier programs; what is not changed was not touched by this one
        try:
            self.results.write(_lines(self.workflow.cli_run(coordinator, value)), at_once=True, own=True)
        except WorkflowDefinitionError:
            raise
        except FloxideError as error:
            if self.stop.signal and not isinstance(error, RunFailedError):
                coordinator.close()  # a signal has begun to; the steps that run may still be the last
                return self._stopped([info for info in coordinator.runs() if info not in before])
            say(
                formatting.failure(error)
                if isinstance(error, (*OVER, StoreError))
                else formatting.user_traceback(error)
            )
            return FAILED
        except Exception as error:
            return unwritten(error, self.results)
        for info in coordinator.runs(RunStatus.COMPLETED):
            if info not in before:
                log.info("%s", formatting.completed(info))
        return COMPLETED

    def _stopped(self, infos: Iterable[RunInfo]) -> int:
        """A signal came before these were over."""
        left = [info for info in infos if info.finished_at is None]
        if left:
            say(formatting.stopped(left, self.stop.name, self._command(left[0].run_id)))
        return self.stop.code

    def _prepare_farewell(self, run_id: str) -> None:
        if self.store is not None:
            self.stop.resume_hint = formatting.message("ended at once; this goes on:", self._command(run_id))

    def _command(self, run_id: str) -> str:
        return "" if self.store is None else self.again(run_id)


def _end_of(run: Run, coordinator: Coordinator) -> RunResult:
    try:
        return run.wait()
    except OVER:
        raise
    except FloxideError:  # a signal has begun to close the coordinator; the steps that run may still be the last
        coordinator.close()
        return run.wait()


def _lines(given: Any) -> Iterable[str]:
    """The lines that a hook gives, whether it yields them, returns a list, or has one or none."""
    return [given] if isinstance(given, str) else () if given is None else given


def unwritten(error: Exception, results: Results) -> int:
    """Not all lines were written: making them failed, or nobody takes them."""
    if not results.lost or not isinstance(error, OSError):
        say(formatting.user_traceback(error))
    elif error.errno != errno.EPIPE:
        say(formatting.message(f"the results cannot be written: {error.strerror}"))
    else:
        return COMPLETED  # the reader has seen enough
    return FAILED
