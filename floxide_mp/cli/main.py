"""The command line: ``python -m floxide_mp MODULE[:NAME]``, or ``floxide-mp MODULE[:NAME]``. What a workflow's run
is from here to its results is in ``job``; each command that only looks has a module of its own.

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

With ``--store PATH`` a run is remembered in that file (``SQLiteStore``). Starting the same run id again with the same
input takes it up where it was, and so does ``resume RUN --store PATH MODULE[:NAME]``, which also goes on with one that
failed or is paused (with ``--allow-changes``: in a graph that has changed, or with other versions), and prints the
results of one that is completed once more. A program that is stopped, or whose run fails, says the command that goes
on; where there is a ``cli_run``, that is the same command again, and takes up the runs to which ``cli_run`` gives ids.
Other processes may look on: ``runs``, ``show RUN``, ``context RUN`` and ``db check|info|backup``, each with
``--store PATH``; of these, only ``context`` opens pickles.

A module that is called like a command is run by ``run MODULE``.

Exit codes: 0 completed (also when nobody reads the results to their end), 1 the run failed, 2 usage, a wrong workflow
or a store that cannot be used, 130 stopped by SIGINT, 143 by SIGTERM, 129 by SIGHUP. The first signal ends the run in
order: nothing starts any more, running steps have 2 seconds, what is done is committed. The second ends everything at
once.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from math import inf, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .. import __version__
from ..api.workflow import Workflow
from ..errors import FloxideError, WorkflowDefinitionError
from ..graph.validate import nearest
from . import formatting, store_option
from . import graph as graph_command
from .formatting import CliError, Parser, say
from .loader import load
from .run import COMPLETED, Job, unwritten
from .terminal import Results, Stop, discard, open_standard_streams

if TYPE_CHECKING:
    from ..coordinator.run_handle import RunResult
    from ..ports import RunRecord
    from ..stores.sqlite.reader import Reader

log = logging.getLogger("floxide_mp")

DEFAULTS: Final = ("workers", "run_id", "input")
TARGET: Final = "module or path to a .py file, and workflow in it"
UNSAID: Final = object()


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments (default: those of the process) say, and return the exit code."""
    open_standard_streams()
    given = sys.argv[1:] if arguments is None else list(arguments)
    command = COMMANDS.get(given[0]) if given else None
    try:
        return run(given) if command is None else command(given[1:])
    except CliError as refusal:
        say(str(refusal))
        return refusal.code
    finally:
        try:
            sys.stdout.flush()
        except OSError:
            discard(1)  # or the interpreter would try again at its end, and complain


def run(arguments: Sequence[str]) -> int:
    """Run a workflow: the command that is meant when none is named."""
    options = _run_options(arguments)
    _log_to_stderr(options)
    with Results() as results, Stop() as stop:
        try:
            workflow = load(options.target)
            driven = hasattr(workflow, "cli_run")
            if driven and options.run_id is not None:
                raise CliError(formatting.message(f"argument --run-id: {workflow.name}.cli_run names its runs itself"))
            defaults = _defaults(workflow)
            value = _converted(workflow, defaults.get("input") if options.input is UNSAID else options.input)
            run_id = defaults.get("run_id") if options.run_id is None else options.run_id
            job = _job(workflow, options, results, stop)
            if driven:
                return replace(job, again=lambda _: store_option.repeating(arguments)).drive(value)
            return job.start(value, run_id)
        except WorkflowDefinitionError as error:
            raise CliError(formatting.wrong_workflow(error)) from None


def resume(arguments: Sequence[str]) -> int:
    """Go on with a run of a store; of a completed one, print the results again."""
    from ..wire.codec import export_main_names

    options = _resume_parser().parse_args(arguments)
    _log_to_stderr(options)
    with Results() as results, Stop() as stop:
        with store_option.reading(options.store) as reader:  # before anything is imported or started
            record = reader.record(store_option.find(reader, options.run).run_id)
            completed = _result_in(reader, record)
        try:
            workflow = load(options.target)
            job = _job(workflow, options, results, stop)
        except WorkflowDefinitionError as error:
            raise CliError(formatting.wrong_workflow(error)) from None
        if record.name != workflow.name:
            raise CliError(formatting.message(f"run {options.run!r} is a run of {record.name}, not of {workflow.name}"))
        if not options.allow_changes:
            _check_unchanged(record, None if completed else workflow, job.again(options.run))
        if completed is None:
            return job.resume(options.run, options.allow_changes, options.timeout)
        export_main_names(record.main, workflow.compiled)
        return job.show(completed)


def runs(arguments: Sequence[str]) -> int:
    """List the runs of a store."""
    from . import runs as runs_command

    return _print(runs_command.list_runs, runs_command.parse_runs(arguments))


def show(arguments: Sequence[str]) -> int:
    """Show one run of a store."""
    from . import runs as runs_command

    return _print(runs_command.show, runs_command.parse_show(arguments))


def context(arguments: Sequence[str]) -> int:
    """Show what the steps of a run have written."""
    from . import context as context_command

    return _print(context_command.show, context_command.parse(arguments))


def db(arguments: Sequence[str]) -> int:
    """Look after a store's file."""
    from . import db as db_command

    return _print(db_command.do, db_command.parse(arguments))


def graph(arguments: Sequence[str]) -> int:
    """Draw a workflow."""
    return _print(graph_command.draw, graph_command.parse(arguments))


COMMANDS: Final[Mapping[str, Callable[[Sequence[str]], int]]] = {
    f.__name__: f for f in (run, resume, runs, show, context, db, graph)
}


def _print(lines_of: Callable[[Namespace], Iterable[str]], options: Namespace) -> int:
    """Print the lines that the options ask for."""
    with Results() as results:
        try:
            lines = lines_of(options)
        except WorkflowDefinitionError as error:
            raise CliError(formatting.wrong_workflow(error)) from None
        try:
            results.write(lines)
        except OSError as error:
            return unwritten(error, results)
    return COMPLETED


def _job(workflow: Workflow, options: Namespace, results: Results, stop: Stop) -> Job:
    workers = _defaults(workflow).get("workers") if options.workers is None else options.workers

    def again(run_id: str) -> str:
        return store_option.resuming(run_id, options.store, options.target, options.workers)

    return Job(workflow, workers, options.store, again, results, stop)


def _check_unchanged(record: RunRecord, workflow: Workflow | None, command: str) -> None:
    """What a run left can be opened here, and this ``workflow`` can go on with it, if it is to.

    Raises:
        Refused: it was made by other versions, or in another graph.
    """
    from ..coordinator.compatibility import check_shape, check_versions

    try:
        check_versions(record)
        if workflow is not None:
            check_shape(record, workflow.compiled)
    except FloxideError as error:
        raise CliError(formatting.message(str(error), f"{command} --allow-changes")) from None


def _result_in(reader: Reader, record: RunRecord) -> RunResult | None:
    """What a completed run gave; None for one that is not."""
    from ..coordinator.run_handle import RunResult
    from ..core.transitions import Phase

    run_id = record.run_id
    with reader.read_transaction():
        progress = reader.progress(run_id)
        if progress.phase is not Phase.COMPLETED:
            return None
        return RunResult(record, progress.metrics, list(reader.outputs(run_id)), list(reader.events(run_id)))


# -- arguments ----------------------------------------------------------------------------------------------------


def _run_parser() -> Parser:
    parser = Parser(
        prog=formatting.PROGRAM,
        description="Run a workflow. Outputs go to standard output, one a line; everything else to standard error.",
        epilog="Exit codes: 0 completed, 1 the run failed, 2 usage, a wrong workflow or a store that cannot be used, "
        f"130/143 stopped by a signal. Other commands, each with its own --help ({formatting.PROGRAM} COMMAND --help): "
        "resume goes on with a run; runs, show and context look into a store, also while a program writes to it; "
        "db looks after its file; graph draws a workflow.",
        allow_abbrev=False,
    )
    parser.add_argument("target", metavar="MODULE[:NAME]", help=TARGET)
    store_option.add(parser, "remember the run in this file, which is made if it is not there: see resume", False)
    _add_workers(parser)
    what = "what the start node gets; @FILE: the JSON in that file, -: that on standard input"
    parser.add_argument("--input", metavar="JSON", type=_json, default=UNSAID, help=what)
    parser.add_argument("--run-id", metavar="ID", help="a name for the run (default: made up)")
    _add_loudness(parser)
    parser.add_argument("--version", action="version", version=f"{formatting.PROGRAM} {__version__}")
    return parser


def _run_options(arguments: Sequence[str]) -> Namespace:
    options, unknown = _run_parser().parse_known_args(arguments)
    words = [word for word in unknown if not word.startswith("-")]
    if words and options.target.isidentifier() and not _is_module(options.target):
        listed = ", ".join(COMMANDS)
        near = nearest(options.target, COMMANDS)
        raise CliError(formatting.message(f"there is no command {options.target!r}{near}; commands: {listed}"))
    if unknown:
        _run_parser().error(f"unrecognized arguments: {' '.join(unknown)}")
    return options


def _is_module(name: str) -> bool:
    return find_spec(name) is not None or Path(name).is_dir() or Path(f"{name}.py").is_file()


def _resume_parser() -> Parser:
    parser = Parser(
        prog=f"{formatting.PROGRAM} resume",
        description="Go on with a run that was interrupted or killed, that failed, or that is paused. Steps that are "
        "finished are not run again. It prints what run would have printed; for a run that is completed, too, and then "
        "nothing is run. The workflow may have been mended meanwhile; a graph that has changed is refused, or allowed.",
        epilog="Exit codes: those of run.",
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", help=f"the run's id; {formatting.PROGRAM} runs lists them")
    parser.add_argument("target", metavar="MODULE[:NAME]", help=TARGET)
    store_option.add(parser, "the file that the run is remembered in")
    _add_workers(parser)
    allowed = "go on although the graph has changed, or another Python, cloudpickle or floxide-mp began the run"
    parser.add_argument("--allow-changes", action="store_true", help=allowed)
    limit = "give the run so much time from now on (default: the time-out that it has, anew)"
    parser.add_argument("--timeout", metavar="SECONDS", type=_seconds, help=limit)
    _add_loudness(parser)
    return parser


def _add_workers(parser: Parser) -> None:
    parser.add_argument("--workers", metavar="N", type=_workers, help="processes; 0: none (default: usable CPUs)")


def _add_loudness(parser: Parser) -> None:
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("-v", "--verbose", action="store_true", help="say what is done")
    loudness.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = nan
    if not 0 < found < inf:
        raise argparse.ArgumentTypeError(f"seconds are needed, more than 0, not {text!r}")
    return found


def _workers(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a whole number is needed, 0 (no processes) or more, not {text!r}")
    return int(text)


def _json(given: str) -> Any:
    """The value of ``--input``: JSON, or ``@FILE`` or ``-`` (standard input), which hold it."""
    text, where = given, ""
    try:
        if given == "-":
            text, where = sys.stdin.read(), "standard input: "
        elif given.startswith("@"):
            text, where = Path(given[1:]).read_text(encoding="utf-8"), f"{given[1:]}: "
        return json.loads(text)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{given[1:]} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        hint = f"; a text needs quotes of its own: --input {shlex.quote(json.dumps(text))}"
        bare = not where and text[:1] not in ("", "{", "[", '"')
        raise argparse.ArgumentTypeError(f"{where}not JSON: {error}{hint if bare else ''}") from None


def _defaults(workflow: Workflow) -> Mapping[str, Any]:
    given = getattr(workflow, "cli_defaults", {})
    if not isinstance(given, Mapping) or not set(given) <= set(DEFAULTS):
        keys = formatting.listed(DEFAULTS)
        raise CliError(formatting.message(f"{workflow.name}.cli_defaults is a dict with keys of {keys}, not {given!r}"))
    return given


def _converted(workflow: Workflow, value: Any) -> Any:
    convert = getattr(workflow, "cli_input", None)
    if convert is None:
        return value
    try:
        return convert(value)
    except (ValueError, TypeError) as error:
        raise CliError(formatting.message(f"argument --input: {error}")) from None
    except Exception as error:
        raise CliError(formatting.user_traceback(error)) from None


def _log_to_stderr(options: Namespace) -> None:
    level = logging.INFO if options.verbose else logging.ERROR if options.quiet else logging.WARNING
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatting.LogLines(f"{formatting.PROGRAM}: %(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(level)
    log.propagate = False  # a module that configures logging would have every line twice
