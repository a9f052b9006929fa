"""What is kept of the error of a step: the record of it. Drawn up in the process that runs the step."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any, Final, TypeVar

from ..brief import brief
from ..core.shared import Shared
from ..core.types import ErrorRecord, Payload, size_of
from ..errors import FloxideError, SerializationError
from ..ports import Trouble
from ..texts import clipped
from ..wire import codec
from ..wire.pickle_diagnostics import told
from .ctrl_c import is_callers

_NEEDED: Final = (
    "the workers need this module: they have the coordinator's sys.path and directory of when the run was started; "
    "a module made by hand must be importable there"
)
T = TypeVar("T")
MOST_OPENED: Final = 16 << 20  # bytes of the pickle of an input that is opened once more to say what it is


def asked(look: Callable[..., T], *arguments: Any, otherwise: T) -> T:
    """What a look at an error gives; ``otherwise`` where code of the error's class raises (``__str__``, a property):
    that of one such class ended the worker.
    """
    try:
        return look(*arguments)
    except BaseException as trouble:
        if is_callers(trouble):
            raise
        return otherwise


def record_of(failure: BaseException, redact: bool) -> ErrorRecord:
    """The record of what a step has failed with.

    Args:
        failure: that; may be anybody's, and raise whatever is asked of it.
        redact: whether the values of its node are secret.
    """
    try:
        text = users_traceback(failure)
        return _redacted(failure, text) if redact else codec.encode_error(failure, text)
    except BaseException as trouble:
        if is_callers(trouble):
            raise
        text = f"{type(failure).__name__} (its code raises {type(trouble).__name__} when it is shown or pickled)"
        return codec.encode_error(FloxideError(text), "")


def input_of(payload: Payload) -> str | None:
    """What an item's input is, in a line: as it came, whatever its step did to it. None: it cannot be opened."""
    try:
        # What lies in shared memory beside the pickle is not copied.
        size = len(payload.open()[0]) if isinstance(payload, Shared) else size_of(payload)
        return brief(codec.decode(payload)) if size <= MOST_OPENED else f"{size:,} bytes as a pickle"
    except BaseException as trouble:
        if is_callers(trouble):
            raise
        return None


def _redacted(error: BaseException, text: str) -> ErrorRecord:
    """Of the exception its class, its text and its arguments, and nothing of what else it carries: a request with its
    headers, say. The texts are its own, but for the path to what cannot be pickled, which has keys of dicts in it.
    """
    if isinstance(error, SerializationError) and error.path:
        path, nothing = f": {error.path} is ", ": a part of it is "
        error, text = SerializationError(str(error).replace(path, nothing)), text.replace(path, nothing)
    kind = type(error)
    if kind.__module__ == FloxideError.__module__:
        return codec.encode_error(error, text)
    message = clipped(told(error))
    try:
        record = codec.encode_error(kind.__new__(kind, *error.args), text)
        whole = told(codec.decode_error(record._replace(traceback=""))) == message
    except KeyboardInterrupt:
        raise
    except BaseException:
        return ErrorRecord(kind.__qualname__, message, clipped(text), None)
    kept = record.payload if whole and not isinstance(error, BaseExceptionGroup) else None
    return record._replace(message=message, payload=kept)


def trouble(what: str, failure: BaseException) -> Trouble:
    """That something which is needed before a node is called cannot be opened in this process."""
    if isinstance(failure, ImportError):
        failure.add_note(_NEEDED)
    record = codec.encode_error(failure, users_traceback(failure))
    text = f"{what} cannot be opened: {record.type_name}: {record.message}"
    return Trouble(record._replace(message=f"{text} (no item was lost to this: mend it, and resume the run)"))


def users_traceback(failure: BaseException) -> str:
    """The traceback as text, without this package's frames above the user's."""
    try:
        inner = failure.__traceback__
        while inner is not None and inner.tb_frame.f_globals.get("__name__", "").startswith("floxide_mp."):
            inner = inner.tb_next
        return "".join(traceback.format_exception(type(failure), failure, inner or failure.__traceback__))
    except BaseException as trouble:  # a user's __str__ or __repr__ on the way
        if is_callers(trouble):
            raise
        return f"{type(failure).__name__} (its traceback cannot be shown: {type(trouble).__name__})\n"


def is_missing(failure: BaseException) -> bool:
    """Whether an input could not be opened for want of a module or of something in one; else it is the pickle's own
    trouble, or that of its classes' code, or the failure is the node's.
    """
    frames = [frame for frame, _ in traceback.walk_tb(failure.__traceback__)][1:]  # the first is that of ``Steps.run``
    if not frames or frames[0].f_code is not codec.decode.__code__:
        return False
    if isinstance(failure, ImportError):
        return True
    if any(frame.f_code.co_name == "<module>" for frame in frames):
        return True  # a module is there, and raises when it is imported
    inner = frames[-1].f_globals.get("__name__", "")
    # Raised by the unpickler itself, which did not find a name, or what it imported could not be compiled.
    return isinstance(failure, AttributeError | SyntaxError) and inner.startswith(("floxide_mp.", "cloudpickle."))
