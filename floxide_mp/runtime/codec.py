"""Values to bytes and back. Which bytes go where is not decided here; large values, of which only a part is pickled and
the rest lies in shared memory, are for ``large``. Nothing else pickles.

Values are pickled by the standard pickler, by cloudpickle only where that fails (lambdas, local classes). Classes and
functions of ``__main__`` travel once, with the workflow, and values refer to them by name.
"""

from __future__ import annotations

import functools
import io
import pickle
import sys
import types
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import cloudpickle
from cloudpickle.cloudpickle import _make_skeleton_class  # type: ignore[import-untyped]

from ..core.shared import Shared
from ..core.terms import ErrorRecord, Packed, Payload
from ..errors import RemoteError, SerializationError
from ..node import Node, Way
from ..nodes.join import Arrivals
from ..retry import RetryPolicy
from ..texts import clipped
from ..workflow import UNDECLARED, Compiled, Workflow
from . import search_path
from .reasons import explained, told

CLOUDPICKLE: Final[str] = cloudpickle.__version__
_NONE = pickle.dumps(None, 5)
_PLAIN: Final = frozenset({str, bytes, int, float, bool, type(None)})
_CACHED: Final = type(functools.lru_cache(lambda: None))
MOST_EXCEPTION: Final = 32 << 10  # bytes of a pickled exception that is kept; of larger ones there is the text

# Pickling and unpickling run users' __reduce__ and __init__, which may raise anything, SystemExit and CancelledError
# included. So ``except BaseException`` here is meant; only an interrupt is let through, since it may be Ctrl-C.


class GivenUp(BaseException):
    """It is to be encoded in another way."""


class Bundle(NamedTuple):
    """What a worker needs of a workflow, by number of node."""

    nodes: tuple[Node, ...]
    names: tuple[str, ...]
    keys: tuple[tuple[Any, ...] | None, ...]
    policies: tuple[RetryPolicy | None, ...]
    ways: tuple[Way, ...]

    @classmethod
    def of(cls, compiled: Compiled, retry: RetryPolicy | None) -> Bundle:
        """That of a workflow; ``retry`` is the policy of nodes that have none."""
        specs = compiled.graph.nodes
        policies = tuple(spec.retry or retry for spec in specs)
        return cls(compiled.nodes, tuple(spec.name for spec in specs), compiled.keys, policies, compiled.ways)


def encode(
    value: Any,
    what: str = "value",
    whose: str = "",
    aside: Callable[[pickle.PickleBuffer], object] | None = None,
) -> bytes:
    """The value as bytes.

    Args:
        value: anything.
        what, whose: it is, for a person.
        aside: is given each buffer of it, which is left out of the bytes if this returns False (PEP 574); some of them
            twice, where the standard pickler fails.

    Raises:
        SerializationError: naming ``what`` and ``whose``, the type and the path to the part that cannot be pickled.
        MemoryError: there is no room for them.
        GivenUp: by ``aside``.
    """
    if value is None:
        return _NONE
    try:
        return pickle.dumps(value, 5, buffer_callback=aside)
    except (KeyboardInterrupt, GivenUp):
        raise
    except BaseException:
        pass
    return encode_by_value(value, what, whose, aside)


def encode_by_value(
    value: Any, what: str, whose: str = "", aside: Callable[[pickle.PickleBuffer], object] | None = None
) -> bytes:
    """As ``encode``, of what the standard pickler cannot pickle."""
    try:
        return _by_value(value, aside)
    except (KeyboardInterrupt, MemoryError, GivenUp):
        raise
    except BaseException as error:
        raise explained(value, what + whose, error, _trouble) from None


def encode_whole(value: Any, what: str) -> bytes:
    """The value as bytes with what it needs of ``__main__``, for workers that have had their workflow before.

    Raises:
        SerializationError: as ``encode``.
    """
    payload = encode(value, what)
    if b"__main__" not in payload:
        return payload
    finder = _MainFinder()
    finder.dump(value)
    return pickle.dumps(_Carrier(tuple(finder.found), _by_value(finder.found), payload), 5) if finder.found else payload


def decode(payload: Payload) -> Any:
    """The value of a payload; of a join's, ``Arrivals``."""
    if isinstance(payload, bytes):
        return pickle.loads(payload)
    if isinstance(payload, Shared):
        stream, buffers = payload.open()
        return pickle.loads(stream, buffers=buffers)
    found: list[tuple[str, Any]] = []
    for name, part in payload:
        found += [(name, decode(one)) for one in part] if isinstance(part, list) else [(name, decode(part))]
    return Arrivals(found)


def decode_each(payloads: Iterable[Packed]) -> Iterator[Any]:
    """The values of payloads, each when it is asked for."""
    return (pickle.loads(payload) if isinstance(payload, bytes) else decode(payload) for payload in payloads)


class Pickled(NamedTuple):
    """A workflow as bytes, the key of these bytes, and the names in ``__main__`` of what goes along."""

    payload: bytes
    key: bytes
    main: tuple[str, ...]


def encode_bundle(bundle: Bundle, *first_values: Any, main: Sequence[str] = ()) -> Pickled:
    """A workflow as bytes, with what it and the run's first values need of ``__main__``, and what ``main`` names.

    Raises:
        SerializationError: naming the node and the path to what cannot be pickled.
    """
    # Two pickles, one after the other: the path must be in force before modules are looked for.
    path = pickle.dumps(tuple(search_path.here()), 5)
    if not main and (by_name := _by_name(bundle, first_values)) is not None:
        return _pickled(path + by_name, ())
    finder = _MainFinder()
    there = vars(sys.modules["__main__"])
    finder.found.update((name, there[name]) for name in main if name in there)
    try:
        finder.dump(bundle)
    except KeyboardInterrupt:
        raise
    except BaseException as trouble:
        for name, node, keys in zip(bundle.names, bundle.nodes, bundle.keys, strict=True):
            for part, what in ((node, f"node {name!r}"), (keys, f"edges of {name!r}")):
                if (error := _trouble(part)) is not None:
                    raise explained(part, what, error, _trouble) from None
        raise SerializationError(f"the workflow cannot be pickled: {told(trouble)}") from None
    for first in first_values:
        try:
            finder.dump(first)
        except KeyboardInterrupt:
            raise
        except BaseException:
            pass  # said with its own name when it is encoded
    try:
        payload = path + _by_value((finder.found, bundle))
    except Exception as error:
        raise SerializationError(f"the workflow cannot be pickled: {error}") from None
    return _pickled(payload, tuple(finder.found))


def _pickled(payload: bytes, main: tuple[str, ...]) -> Pickled:
    from hashlib import blake2b  # 3 ms, for which each worker would start later

    return Pickled(payload, blake2b(payload, digest_size=16).digest(), main)


def _by_name(bundle: Bundle, first_values: Sequence[Any]) -> bytes | None:
    """The pickle of nothing in ``__main__`` and the bundle, ten times as fast; None where that will not do, or might
    not: something has no name that workers could import it by, or one in ``__main__``, or is to go by value anyhow.
    """
    if cloudpickle.list_registry_pickle_by_value():
        return None
    seen = _Seen()
    try:
        payload = pickle.dumps(({}, bundle), 5)
        for first in first_values:
            pickle.Pickler(seen, 5, buffer_callback=lambda buffer: False).dump(first)  # no copy of a model of many GB
    except KeyboardInterrupt:
        raise
    except BaseException:
        return None
    return None if seen.main or b"__main__" in payload else payload


def decode_bundle(payload: bytes) -> Bundle:
    """The workflow, in a worker: what it needs of ``__main__`` is put there, and ``sys.path`` is extended."""
    stream = io.BytesIO(payload)
    search_path.take_up(search_path.Place(*pickle.load(stream)))
    found, bundle = pickle.load(stream)
    vars(sys.modules["__main__"]).update(found)
    return bundle  # type: ignore[no-any-return]


def lend(names: Iterable[str], compiled: Compiled) -> None:
    """Put what a run's values need of ``__main__`` there, where the script that it was is now a module of its workflow.

    So a run that a script began goes on in other programs. What is in ``__main__`` already stays.

    Args:
        names: of it.
        compiled: the workflow.
    """
    main = vars(sys.modules["__main__"])
    parts = (compiled.context, *map(type, compiled.nodes), *(node.handler() for node in compiled.nodes))
    for module in dict.fromkeys(getattr(part, "__module__", None) for part in parts):
        for name in names:
            found = getattr(sys.modules.get(module or ""), name, None)
            if name not in main and getattr(found, "__module__", None) == module:
                main[name] = found


def encode_error(error: BaseException, text: str) -> ErrorRecord:
    """An exception as a record: of its texts, head and tail where they are long.

    The exception itself goes along only if it survives the way there and back, and is small.
    """
    pickled = None
    try:
        limited = _Limited()
        pickle.Pickler(limited, 5).dump(error)
        pickled = b"".join(limited.parts)
        back = pickle.loads(pickled)
        back.add_note("")  # as ``decode_error`` will
        if type(back) is not type(error):
            pickled = None
    except KeyboardInterrupt:
        raise
    except BaseException:
        pickled = None
    return ErrorRecord(type(error).__qualname__, clipped(told(error)), clipped(text), pickled)


def decode_error(record: ErrorRecord) -> BaseException:
    """The exception, with the worker's traceback as a note; a ``RemoteError`` where it could not travel."""
    error: BaseException | None = None
    if record.payload is not None:
        try:
            error = pickle.loads(record.payload)
        except KeyboardInterrupt:
            raise
        except BaseException:
            error = None
    if not isinstance(error, BaseException):
        error = RemoteError(f"{record.type_name}: {record.message}", type_name=record.type_name)
    if record.traceback:
        error.add_note("\nin the worker:\n" + record.traceback.rstrip())
    return error


# -- inside -------------------------------------------------------------------------------------------------------


def _code(code: types.CodeType) -> tuple[Any, ...]:
    """As cloudpickle does it, which leaves the file's name out: tracebacks from workers need it."""
    kind, arguments = cloudpickle.Pickler.dispatch_table[types.CodeType](code)
    return kind, (*arguments[:10], code.co_filename, *arguments[11:])


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """By value what is local or in ``__main__``; cached functions too, which cloudpickle leaves to their names."""

    dispatch_table = ChainMap({types.CodeType: _code}, cloudpickle.Pickler.dispatch_table)

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, _CACHED) and _in_main(obj):
            return _cached, (obj.__wrapped__, obj.cache_parameters())
        reduced = super().reducer_override(obj)
        if isinstance(obj, type) and isinstance(reduced, tuple) and reduced[0] is _make_skeleton_class:
            # Without these its objects could not be read by name on the other side (cloudpickle 3.1 leaves them out).
            kind, name, bases, members, *rest = reduced[1]
            members = {**members, "__qualname__": obj.__qualname__}
            if "__slots__" in vars(obj) and not hasattr(obj, "_fields"):  # a ``NamedTuple`` makes its own
                members["__slots__"] = vars(obj)["__slots__"]
            if issubclass(obj, Workflow):
                members[UNDECLARED] = True  # it is made empty, and filled with what was declared here
            reduced = (reduced[0], (kind, name, bases, members, *rest), *reduced[2:])
        return reduced


def _by_value(value: Any, aside: Callable[[pickle.PickleBuffer], object] | None = None) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, 5, aside).dump(value)
    return stream.getvalue()


class _MainFinder:
    """Notes which classes and functions of ``__main__`` a value refers to, by pickling it and throwing that away."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def dump(self, value: Any) -> None:
        found = self.found

        class Pickler(_Pickler):
            def reducer_override(self, obj: Any) -> Any:
                if isinstance(obj, type | types.FunctionType | _CACHED) and _in_main(obj):
                    name = obj.__qualname__.partition(".")[0]  # nested ones are reached through the outer one
                    found[name] = getattr(sys.modules["__main__"], name)
                return super().reducer_override(obj)

        Pickler(_Nowhere(), 5, lambda buffer: False).dump(value)


class _Seen:
    """A file for which what is written is lost, but for whether something in ``__main__`` may be named there."""

    main = False

    def write(self, data: bytes | memoryview) -> None:
        self.main = self.main or b"__main__" in bytes(data)  # which copies none that are ``bytes``


class _Limited:
    """A file that takes so much and no more: what an exception carries may be all that its program has."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._left = MOST_EXCEPTION

    def write(self, data: bytes | memoryview) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise OverflowError
        self.parts.append(bytes(data))


class _Nowhere:
    """A file for which what is written is lost."""

    def write(self, data: object) -> None:
        pass


class _Carrier:
    """Is pickled as a value with the part of ``__main__`` that it needs, and unpickled as the value."""

    def __init__(self, names: tuple[str, ...], found: bytes, payload: bytes) -> None:
        self.parts = names, found, payload

    def __reduce__(self) -> Any:
        return _carried, self.parts


def _carried(names: tuple[str, ...], found: bytes, payload: bytes) -> Any:
    main = vars(sys.modules["__main__"])
    if not all(name in main for name in names):  # where it comes from they are there, and must not be replaced
        main.update(pickle.loads(found))
    return pickle.loads(payload)


def _in_main(obj: Any) -> bool:
    """Whether ``__main__`` has it, under its name; a local one cannot be named at all."""
    if obj.__module__ != "__main__":
        return False
    at: Any = sys.modules["__main__"]
    for name in obj.__qualname__.split("."):
        at = getattr(at, name, None)
    return at is obj


def _cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _trouble(value: Any) -> BaseException | None:
    try:
        if type(value) not in _PLAIN:
            _by_value(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # A traceback would hold what asks, which holds the error, and so the pickler with the buffers that it has
        # seen until there is a collection; that of a ``PickleBuffer`` and its memoryview kills CPython (3.11.7).
        return error.with_traceback(None)
    return None
