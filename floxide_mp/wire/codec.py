"""Values to bytes and back. Which bytes go where is not decided here; large values, of which only a part is pickled and
the rest lies in shared memory, are for ``large``. Nothing else pickles.

Values are pickled by the standard pickler, by cloudpickle only where that fails (lambdas, local classes). Classes and
functions of ``__main__`` are referred to by name. Workers have them of the script, which they run, or, where it cannot
be run, by value with the workflow: see ``main_module``.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from ..api.node import Node, Way
from ..api.nodes import Arrivals
from ..api.retry import RetryPolicy
from ..api.workflow import Compiled
from ..core.types import ErrorRecord, Packed, Payload, Shared
from ..errors import RemoteError, SerializationError
from ..texts import clipped
from . import by_value, global_digests, main_module, search_path
from .code_digest import OTHER_CODE, changed, codes_of
from .pickle_diagnostics import describe, explained
from .reached import reached

LARGE: Final = 32 << 20  # bytes of a workflow from which on there is a warning
_NONE = pickle.dumps(None, 5)
_PLAIN: Final = frozenset({str, bytes, int, float, bool, type(None)})
MOST_EXCEPTION: Final = 32 << 10  # bytes of a pickled exception that is kept; of larger ones there is the text
_MAIN: Final = tuple(name.encode() for name in main_module.NAMES)

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
    fields: tuple[tuple[str, ...], ...]  # of the nodes' objects, when the workflow was defined: see ``kept_state``
    codes: dict[tuple[str, str], int] = {}  # that nodes reach, as whoever starts the run has it: see ``code_digest``
    globals: dict[tuple[str, str], int] = {}  # that they look up, likewise: see ``global_digests``
    changed: tuple[str, ...] = ()  # nodes of which the process that has opened it has other code

    @classmethod
    def of(cls, compiled: Compiled, retry: RetryPolicy | None) -> Bundle:
        """That of a workflow; ``retry`` is the policy of nodes that have none."""
        specs = compiled.graph.nodes
        policies = tuple(spec.retry or retry for spec in specs)
        names = tuple(spec.name for spec in specs)
        return cls(compiled.nodes, names, compiled.keys, policies, compiled.ways, compiled.fields)


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
        return by_value.dumps(value, aside)
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
    if not _needs_main(payload):
        return payload
    finder = by_value.MainFinder()
    finder.dump(value)
    if not finder.found:
        return payload
    return pickle.dumps(_Carrier(tuple(finder.found), by_value.dumps(finder.found), payload), 5)


def decode(payload: Payload, read_only: bool = False) -> Any:
    """The value of a payload; of a join's, ``Arrivals``.

    Args:
        read_only: its buffers are, where they are beside it.
    """
    if isinstance(payload, bytes):
        return pickle.loads(payload)
    if isinstance(payload, Shared):
        stream, buffers = payload.open()
        return pickle.loads(stream, buffers=[raw.toreadonly() for raw in buffers] if read_only else buffers)
    found: list[tuple[str, Any]] = []
    for name, part in payload:
        found += [(name, decode(one)) for one in part] if isinstance(part, list) else [(name, decode(part))]
    return Arrivals(found)


def _needs_main(payload: bytes) -> bool:
    """Whether something of it may be in the ``__main__`` of whoever made it."""
    return any(name in payload for name in _MAIN)


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
    place = tuple(search_path.here())
    home = main_module.script_here()
    found = reached(bundle.nodes, bundle.keys)
    bundle = bundle._replace(codes=codes_of(found), globals=global_digests.digests_of(found))
    if home is not None:
        sent, missing = _beside_script(home, main)
        payload = (None if sent else _plain(bundle)) or _with(sent, bundle)
        return _pickled((place, home.script, missing), payload, main_module.definitions())
    if not main and (by_name := _by_name(bundle, first_values)) is not None:
        return _pickled((place, None, ()), by_name, ())
    finder = by_value.MainFinder()
    there = vars(sys.modules["__main__"])
    finder.found.update((name, there[name]) for name in main if name in there)
    for part in (bundle, *first_values):
        try:
            finder.dump(part)
        except KeyboardInterrupt:
            raise
        except BaseException:
            pass  # said with its own name when it is encoded
    return _pickled((place, None, by_value.offered()), _with(finder.found, bundle), tuple(finder.found))


def _with(found: dict[str, Any], bundle: Bundle) -> bytes:
    """The pickle of a workflow, and of what is to be put into ``__main__`` for it."""
    try:
        payload = by_value.dumps((found, by_value.reducers(), bundle))
    except KeyboardInterrupt:
        raise
    except BaseException as trouble:
        for name, node, keys in zip(bundle.names, bundle.nodes, bundle.keys, strict=True):
            for part, what in ((node, f"node {name!r}"), (keys, f"edges of {name!r}")):
                if (error := _trouble(part)) is not None:
                    raise explained(part, what, error, _trouble) from None
        advice = f"; {main_module.ADVICE}" if main_module.script_here() is None else ""
        raise SerializationError(f"the workflow cannot be pickled: {describe(trouble)}{advice}") from None
    if len(payload) > LARGE:
        main_module.warn_of_size(len(payload))
    return payload


def _beside_script(home: main_module.MainScript, names: Iterable[str]) -> tuple[dict[str, Any], frozenset[str]]:
    """What workers need of ``__main__`` that running the script does not bring, and the names of what cannot be sent.

    Args:
        home: the script.
        names: those that values of the run refer to, some of which another program's ``__main__`` had: see
        ``export_main_names``.
    """
    there = vars(sys.modules["__main__"])
    lent = {name: there[name] for name in names if name in there and not main_module.is_own(there[name])}
    unrun = main_module.unrun(home, by_value.globals_of)
    sent = {name: value for name, value in (lent | unrun).items() if _trouble(value) is None}
    return sent, frozenset(name for name in unrun if name in home.late and name not in sent)


def _plain(bundle: Bundle) -> bytes | None:
    """The pickle of nothing in ``__main__`` and the bundle, ten times as fast; None where that will not do."""
    if by_value.chosen():
        return None
    try:
        return pickle.dumps(({}, {}, bundle), 5)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return None


def _pickled(first: tuple[Any, ...], payload: bytes, main: tuple[str, ...]) -> Pickled:
    from hashlib import blake2b  # 3 ms, for which each worker would start later

    # Two pickles, one after the other: the path must be in force, and the script run, before the workflow is opened.
    payload = pickle.dumps(first, 5) + payload
    return Pickled(payload, blake2b(payload, digest_size=16).digest(), main)


def _by_name(bundle: Bundle, first_values: Sequence[Any]) -> bytes | None:
    """As ``_plain``; None where something might be named in a ``__main__`` that workers do not have."""
    seen = _Seen()
    payload = _plain(bundle)
    try:
        for first in first_values if payload else ():
            pickle.Pickler(seen, 5, buffer_callback=lambda buffer: False).dump(first)  # no copy of a model of many GB
    except KeyboardInterrupt:
        raise
    except BaseException:
        return None
    return None if seen.main or payload is None or _needs_main(payload) else payload


def decode_bundle(payload: bytes) -> Bundle:
    """The workflow, in a worker: what it needs of ``__main__`` is put there, and ``sys.path`` is extended.

    Raises:
        Exception: the script cannot be run here, or what the workflow needs cannot be imported.
    """
    stream = io.BytesIO(payload)
    place, script, more = pickle.load(stream)
    search_path.take_up(search_path.Place(*place))
    if script is not None:
        main_module.enter(script, not_sent=more)
    else:
        main_module.offer(more, pickle.loads)
    found, reducers, bundle = pickle.load(stream)
    vars(sys.modules["__main__"]).update(found)
    copyreg.dispatch_table.update(reducers)
    made: Bundle = bundle
    return made._replace(changed=changed(made.names, made.nodes, made.keys, made.codes))


def export_main_names(names: Iterable[str], compiled: Compiled) -> None:
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


def other_globals(run_id: str, bundle: Bundle) -> list[str]:
    """A warning, if this process, which has just opened the workflow of a run, has other global data; or none."""
    names = global_digests.changed(bundle.globals)
    return [global_digests.OTHER_DATA.format(run_id, ", ".join(names))] if names else []


def other_code(run_id: str, bundle: Bundle) -> list[str]:
    """A warning, if this process has imported other code of the nodes than the program has; or none."""
    return [OTHER_CODE.format(run_id, ", ".join(bundle.changed))] if bundle.changed else []


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
    return ErrorRecord(type(error).__qualname__, clipped(describe(error)), clipped(text), pickled)


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


class _Seen:
    """A file for which what is written is lost, but for whether something in ``__main__`` may be named there."""

    main = False

    def write(self, data: bytes | memoryview) -> None:
        self.main = self.main or _needs_main(bytes(data))  # which copies none that are ``bytes``


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


def _trouble(value: Any) -> BaseException | None:
    try:
        if type(value) not in _PLAIN:
            by_value.dumps(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # A traceback would hold what asks, which holds the error, and so the pickler with the buffers that it has
        # seen until there is a collection; that of a ``PickleBuffer`` and its memoryview kills CPython (3.11.7).
        return error.with_traceback(None)
    return None
