"""The command line: ``python -m floxide_mp MODULE[:NAME]``, or ``floxide-mp MODULE[:NAME]``.

MODULE is a module's name or a path to a ``.py`` file; NAME is a workflow in it, and may be left out where the module
defines only one, those aside that are parts of it. Each output becomes a line on standard output, in the run's order
(the same for any number of workers): as JSON where it can be said in JSON, else as ``repr``. Everything else goes to
standard error, also what nodes print.

A workflow may say how it wants to be run from here, by any of four class attributes::

    class Thumbnails(Workflow):
        ...
        cli_defaults = {"workers": 2, "run_id": "night", "input": {"size": 64}}   # what was not said on the line

        @staticmethod
        def cli_input(value):              # --input, as JSON gave it or None -> what the start node gets
            return Job(**value)            # a ValueError or TypeError is the user's mistake: exit code 2

        @staticmethod
        def cli_report(result):            # the RunResult -> the lines to print, instead of one for each output
            yield f"{len(result.outputs)} images"

        @staticmethod
        def cli_run(coordinator, value):   # drives the coordinator itself, instead of one start, wait and cli_report
            for size in (64, 256):         # ... and yields the lines to print, each printed as it comes
                yield f"{coordinator.start(Thumbnails, (value, size)).wait().output}"

A ``RunFailedError`` that leaves ``cli_run`` is told like any failed run, as are ``RunCancelledError`` and
``RunTimeoutError``; any other error shows its traceback. Runs get their ids from ``cli_run``, so there is no --run-id.

Exit codes: 0 completed (also when nobody reads the results to their end), 1 the run failed, 2 usage or a wrong
workflow, 130 stopped by SIGINT, 143 by SIGTERM, 129 by SIGHUP. The first signal ends the run in order: nothing
starts any more, running steps have 2 seconds, what is done is committed. The second ends everything at once.
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from floxide_mp import __version__

from . import graph_command, report
from .errors import FloxideError, RunCancelledError, RunFailedError, RunTimeoutError, WorkflowDefinitionError
from .facts import RunStatus
from .report import Parser, Refused, say
from .targets import load
from .terminal import Results, Stop, discard, open_standard_streams
from .workflow import Workflow

if TYPE_CHECKING:
    from .runtime.coordinator import Coordinator
    from .runtime.run import Run, RunResult

log = logging.getLogger("floxide_mp")

COMPLETED: Final = 0
FAILED: Final = 1
REFUSED: Final = 2
DEFAULTS: Final = ("workers", "run_id", "input")
UNSAID: Final = object()


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments (default: those of the process) say, and return the exit code."""
    open_standard_streams()
    given = sys.argv[1:] if arguments is None else list(arguments)
    command = COMMANDS.get(given[0]) if given else None
    try:
        return run(given) if command is None else command(given[1:])
    except Refused as refusal:
        say(str(refusal))
        return REFUSED
    finally:
        try:
            sys.stdout.flush()
        except OSError:
            discard(1)  # or the interpreter would try again at its end, and complain


def run(arguments: Sequence[str]) -> int:
    """Run a workflow: the command that is meant when none is named."""
    options = _parser().parse_args(arguments)
    _log_to_stderr(logging.INFO if options.verbose else logging.ERROR if options.quiet else logging.WARNING)
    with Results() as results, Stop() as stop:
        try:
            workflow = load(options.target)
            defaults = _defaults(workflow)
            value = defaults.get("input") if options.input is UNSAID else options.input
            value = _converted(workflow, value)
            workers = defaults.get("workers") if options.workers is None else options.workers
            run_id = defaults.get("run_id") if options.run_id is None else options.run_id
            return _run(workflow, value, workers, run_id, results, stop)
        except WorkflowDefinitionError as error:
            raise Refused(report.wrong_workflow(error)) from None


def graph(arguments: Sequence[str]) -> int:
    """Draw a workflow."""
    options = graph_command.parse(arguments)
    with Results() as results:
        try:
            lines = graph_command.draw(options)
        except WorkflowDefinitionError as error:
            raise Refused(report.wrong_workflow(error)) from None
        try:
            results.write(lines)
        except OSError as error:
            return _unwritten(error, results)
    return COMPLETED


COMMANDS: Final[Mapping[str, Callable[[Sequence[str]], int]]] = {"run": run, "graph": graph}


def _run(workflow: Workflow, value: Any, workers: int | None, run_id: str | None, results: Results, stop: Stop) -> int:
    from .launch import Coordinator  # brings the engines along: not before signals are watched

    driven = hasattr(workflow, "cli_run")
    if driven and run_id is not None:
        raise Refused(report.message(f"argument --run-id: {workflow.name}.cli_run names its runs itself"))
    try:
        coordinator = stop.coordinator = Coordinator(workers)
    except ValueError as error:  # of cli_defaults: the argument is checked
        raise Refused(report.message(str(error))) from None
    except FloxideError as error:
        say(report.message(str(error)))
        return FAILED
    try:
        with coordinator:
            if driven:
                return _drive(workflow, coordinator, value, results, stop)
            try:
                run = coordinator.start(workflow, value, run_id=run_id)
            except WorkflowDefinitionError:
                raise
            except (FloxideError, ValueError) as error:
                if stop.signal:
                    return stop.code
                raise Refused(report.message(str(error))) from None
            pids = ", ".join(str(worker.pid) for worker in coordinator.workers())
            log.info("run %s of %s began; workers are the processes %s", run.run_id, workflow.name, pids)
            try:
                result = _end_of(run, coordinator)
            except RunFailedError as error:
                say(report.failure(error))
                return FAILED
            except FloxideError:
                if not stop.signal:
                    raise
                say(report.stopped(run.info(), stop.name))
                return stop.code
            log.info("%s", report.completed(run.info()))
    finally:
        stop.coordinator = None  # nothing is left that could be ended in order
    return _show(workflow, result, results)


def _end_of(run: Run, coordinator: Coordinator) -> RunResult:
    try:
        return run.wait()
    except RunFailedError:
        raise
    except FloxideError:  # a signal has begun to close the coordinator; the steps that run may still be the last
        coordinator.close()
        return run.wait()


def _drive(workflow: Any, coordinator: Coordinator, value: Any, results: Results, stop: Stop) -> int:
    """Let ``cli_run`` do it. It may start any number of runs, and catch what it likes."""
    try:
        results.write(_lines(workflow.cli_run(coordinator, value)), at_once=True)
    except WorkflowDefinitionError:
        raise
    except FloxideError as error:
        if stop.signal and not isinstance(error, RunFailedError):
            coordinator.close()  # a signal has begun to; the steps that run may still be the last
            for info in coordinator.runs():
                if info.finished_at is None:
                    say(report.stopped(info, stop.name))
            return stop.code
        over = isinstance(error, RunFailedError | RunCancelledError | RunTimeoutError)
        say(report.failure(error) if over else report.theirs(error))
        return FAILED
    except Exception as error:
        return _unwritten(error, results)
    for info in coordinator.runs(RunStatus.COMPLETED):
        log.info("%s", report.completed(info))
    return COMPLETED


def _show(workflow: Workflow, result: RunResult, results: Results) -> int:
    hook = getattr(workflow, "cli_report", None)
    try:
        results.write(map(report.line_of, result.outputs) if hook is None else _lines(hook(result)))
    except Exception as error:
        return _unwritten(error, results)
    return COMPLETED


def _lines(given: Any) -> Iterable[str]:
    """The lines that a hook gives, whether it yields them, returns a list, or has one or none."""
    return [given] if isinstance(given, str) else () if given is None else given


def _unwritten(error: Exception, results: Results) -> int:
    """Not all lines were written: making them failed, or nobody takes them."""
    if not results.lost or not isinstance(error, OSError):
        say(report.theirs(error))
    elif error.errno != errno.EPIPE:
        say(report.message(f"the results cannot be written: {error.strerror}"))
    else:
        return COMPLETED  # the reader has seen enough
    return FAILED


# -- arguments ----------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=report.PROGRAM,
        description="Run a workflow. Outputs go to standard output, one a line; everything else to standard error.",
        epilog="Exit codes: 0 completed, 1 the run failed, 2 usage or a wrong workflow, 130/143 stopped by a signal. "
        f"To draw a workflow instead: {report.PROGRAM} graph MODULE[:NAME].",
        allow_abbrev=False,
    )
    parser.add_argument("target", metavar="MODULE[:NAME]", help="module or path to a .py file, and workflow in it")
    parser.add_argument("--workers", metavar="N", type=_workers, help="processes; 0: none (default: usable CPUs)")
    parser.add_argument("--input", metavar="JSON", type=_json, default=UNSAID, help="what the start node gets")
    parser.add_argument("--run-id", metavar="ID", help="a name for the run (default: made up)")
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("-v", "--verbose", action="store_true", help="say what is done")
    loudness.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
    parser.add_argument("--version", action="version", version=f"{report.PROGRAM} {__version__}")
    return parser


def _workers(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a whole number is needed, 0 (no processes) or more, not {text!r}")
    return int(text)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        hint = f"; a text is written '\"{text}\"'" if text.isidentifier() else ""
        raise argparse.ArgumentTypeError(f"not JSON: {error}{hint}") from None


def _defaults(workflow: Workflow) -> Mapping[str, Any]:
    given = getattr(workflow, "cli_defaults", {})
    if not isinstance(given, Mapping) or not set(given) <= set(DEFAULTS):
        keys = report.listed(DEFAULTS)
        raise Refused(report.message(f"{workflow.name}.cli_defaults is a dict with keys of {keys}, not {given!r}"))
    return given


def _converted(workflow: Workflow, value: Any) -> Any:
    convert = getattr(workflow, "cli_input", None)
    if convert is None:
        return value
    try:
        return convert(value)
    except (ValueError, TypeError) as error:
        raise Refused(report.message(f"argument --input: {error}")) from None
    except Exception as error:
        raise Refused(report.theirs(error)) from None


def _log_to_stderr(level: int) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"{report.PROGRAM}: %(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(level)
    log.propagate = False  # a module that configures logging would have every line twice
