"""``floxide-mp context RUN``: what the steps of a run have written to its context, with the writes committed so far.

Unlike ``show`` it opens pickles, after the store has checked that they are what was written: the user's modules are
imported here.
"""

from __future__ import annotations

import dataclasses
import json
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from ..api.context import Context, field_names
from ..api.event_log import EventLog
from ..api.merge import Fixed, Merge, SharedState
from ..coordinator.compatibility import check_versions
from ..coordinator.run_handle import replay
from ..core.records import EventRecord
from ..errors import FloxideError, StoreVersionError
from ..ports import RunRecord
from ..wire import codec
from . import formatting, store_option
from .formatting import CliError, Parser
from .loader import import_target


def parse(arguments: Sequence[str]) -> Namespace:
    """The options of the command.

    Raises:
        Refused: they make no sense.
    """
    parser = Parser(
        prog=f"{formatting.PROGRAM} context",
        description="Show the context of a run as its finished steps have written it so far, as one JSON object with "
        "an entry for each field; what JSON cannot say is there as its repr. May be asked while the run is on.",
        epilog="This imports the modules that the values in the context come from. "
        "Exit codes: 0 shown, 2 usage, no such run, or a store or context that cannot be opened.",
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", help="the run's id")
    parser.add_argument("target", metavar="MODULE", nargs="?", help="the workflow's module, where it is not found else")
    store_option.add(parser, "the file that a program was given as --store, or as store=")
    allowed = "open it although another Python, cloudpickle or floxide-mp made it"
    parser.add_argument("--allow-changes", action="store_true", help=allowed)
    return parser.parse_intermixed_args(arguments)


def show(options: Namespace) -> list[str]:
    """The lines of the command.

    Raises:
        Refused: there is no such run, or its context cannot be opened here.
        WorkflowDefinitionError: the graph of a workflow in the module is wrong.
    """
    with store_option.reading(options.store) as reader:
        record = reader.record(store_option.find(reader, options.run).run_id)
        events = list(reader.events(options.run))
    if not options.allow_changes:
        try:
            check_versions(record)
        except StoreVersionError as error:
            raise CliError(formatting.message(str(error))) from None
    if options.target is not None:
        import_target(options.target)
    made = _opened(record, events, options.target)
    shown = {name: _shown(getattr(made, name)) for name in field_names(made)}
    return json.dumps(shown, indent=2, ensure_ascii=False).splitlines()


def _opened(record: RunRecord, events: list[EventRecord], target: str | None) -> Context:
    try:
        return replay(record, events)
    except FloxideError as error:
        raise CliError(formatting.message(str(error))) from None
    except Exception:
        pass  # its classes may be a script's: these came with the workflow, and so did where to look for modules
    try:
        codec.decode_bundle(record.workflow)
        return replay(record, events)
    except FloxideError as error:
        raise CliError(formatting.message(str(error))) from None
    except ModuleNotFoundError as error:
        hint = "" if target else "say which module the workflow is in: ... context RUN --store PATH MODULE"
        raise CliError(formatting.message(f"the context cannot be opened here: {error}", hint)) from None
    except Exception as error:
        raise CliError(formatting.user_traceback(error)) from None


def _shown(value: Any) -> Any:
    """A field, as JSON has it; its ``repr`` if JSON has no such thing."""
    try:
        return json.loads(json.dumps(value, default=_inside, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return repr(value)


def _inside(value: Any) -> Any:
    if isinstance(value, EventLog):
        return list(value)
    if isinstance(value, Fixed | SharedState):
        return value.get()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return vars(value) if isinstance(value, Merge) else repr(value)
