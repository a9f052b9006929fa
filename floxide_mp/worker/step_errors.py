"""The record of a step's error, drawn up in the process that runs the step; and whether a ``KeyboardInterrupt`` there
is a Ctrl-C, which is the caller's, or was raised by the step (by a prompt, say, or a library that limits times), whose
failure it is then as any exception is.
"""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Callable
from types import CodeType, TracebackType
from typing import Any, Final, TypeVar

from ..core.types import ErrorRecord, Payload, Shared, size_of
from ..errors import FloxideError, SerializationError
from ..messages import StepResult, Unreadable
from ..sigint import call
from ..texts import brief, clipped
from ..wire import codec
from ..wire.pickle_diagnostics import describe

_TRACEBACK: Final = vars(BaseException)["__traceback__"]


class Process:
    """This process."""

    is_worker = False  # nobody presses Ctrl-C in it: it is in a group of its own


def is_callers(failure: BaseException | None) -> bool:
    """Whether it is, or may be: where it cannot be known of a ``KeyboardInterrupt``, it is.

    Ctrl-C comes in the main thread only, and what it raises comes out of a handler of SIGINT. That is seen in the
    traceback, unless the handler is Python's own, in C. While somebody waits for an inline run, ours calls it; and
    those of other signals that were there before, ``sys.exit`` on SIGTERM for one. A handler that the step has set is
    the step's.
    """
    if Process.is_worker or failure is None or threading.get_ident() != threading.main_thread().ident:
        return False
    if not issubclass(type(failure), KeyboardInterrupt):
        return _came_out_of(failure, (call.__code__,))
    handler = signal.getsignal(signal.SIGINT)
    code = getattr(handler, "__code__", None)
    if code is None:
        return handler not in (signal.SIG_IGN, signal.SIG_DFL)
    seen: set[int] = set()
    while failure is not None and id(failure) not in seen:
        seen.add(id(failure))  # a chain of causes may be a ring
        if _came_out_of(failure, (code, call.__code__)):
            return True
        failure = failure.__context__
    return False


def _came_out_of(failure: BaseException, codes: tuple[CodeType, ...]) -> bool:
    step: TracebackType | None = _TRACEBACK.__get__(failure)  # by its attribute, a class of somebody's may raise
    while step is not None:
        if step.tb_frame.f_code in codes:
            return True
        step = step.tb_next
    return False


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
    message = clipped(describe(error))
    try:
        record = codec.encode_error(kind.__new__(kind, *error.args), text)
        whole = describe(codec.decode_error(record._replace(traceback=""))) == message
    except KeyboardInterrupt:
        raise
    except BaseException:
        return ErrorRecord(kind.__qualname__, message, clipped(text), None)
    kept = record.payload if whole and not isinstance(error, BaseExceptionGroup) else None
    return record._replace(message=message, payload=kept)


def trouble(what: str, failure: BaseException) -> Unreadable:
    """That something which is needed before a node is called cannot be opened in this process."""
    if isinstance(failure, ImportError):
        failure.add_note(_NEEDED)
    return Unreadable(_unopened(what, codec.encode_error(failure, users_traceback(failure))))


def unopened(what: str, failed: StepResult | Unreadable) -> Unreadable:
    """That an input cannot be opened, for a reason that may be its own. What the step has then ``failed`` with."""
    if isinstance(failed, Unreadable):
        return failed
    assert failed[3] is not None
    return Unreadable(_unopened(what, failed[3]), failed)


def _unopened(what: str, record: ErrorRecord) -> ErrorRecord:
    text = f"{what} cannot be opened: {record.type_name}: {record.message}"
    return record._replace(message=f"{text} (no item was lost to this: mend it, and resume the run)")


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


def is_opening(failure: BaseException) -> bool:
    """Whether a step failed as its input was opened; else the failure is the node's."""
    first = _TRACEBACK.__get__(failure)  # the frame of ``StepRunner.run``
    return first is not None and first.tb_next is not None and first.tb_next.tb_frame.f_code is codec.decode.__code__


def is_missing(failure: BaseException) -> bool:
    """Whether an input that could not be opened (``is_opening``) is so for want of a module or of something in one;
    else it is the pickle's own trouble, or that of its classes' code.
    """
    frames = [frame for frame, _ in traceback.walk_tb(failure.__traceback__)]
    if isinstance(failure, ImportError):
        return True
    if any(frame.f_code.co_name == "<module>" for frame in frames):
        return True  # a module is there, and raises when it is imported
    inner = frames[-1].f_globals.get("__name__", "")
    # Raised by the unpickler itself, which did not find a name, or what it imported could not be compiled.
    return isinstance(failure, AttributeError | SyntaxError) and inner.startswith(("floxide_mp.", "cloudpickle."))
