"""Numbers for the global data that the code of nodes looks up: whether a worker has what the program has. In the
caller's process, where a workflow is pickled, and in workers that have just opened one.

What is found by name (a script with a ``__main__`` guard, a module) a worker makes anew: it does not see what the
program has changed there since. That was a wrong answer without a word. It is for a warning: so it may miss something
(large values, objects of other libraries), must be cheap, and runs no code of the user's.
"""

from __future__ import annotations

import functools
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from zlib import crc32

from . import main_module
from .reached import Reached, is_users

OTHER_DATA: Final = (
    "run {}: in a worker another value than in the program is found under {}. Workers run the script's top, and import "
    'modules, by themselves: what the program changes there later (under its `if __name__ == "__main__":`, say) they '
    "do not see, and results that hang on it are those of the value that a worker has. Set it at the top of the script "
    "or module, or hand it to the steps: as input, or as a field of the context"
)
MOST: Final = 1024  # values within one global, of which there is no number if there are more
WIDE: Final = 256  # values in one container, of which the length alone counts if there are more
LONG: Final = 64 << 10  # bytes of a text or array; of longer ones head and tail count
_UNKNOWN: Final = 0
_NUMBERS: Final = frozenset({bool, float, complex, type(None)})  # and others of which the ``repr`` says all
_SEQUENCES: Final = frozenset({list, tuple, deque})
_MAPPINGS: Final = frozenset({dict, OrderedDict, defaultdict, Counter, types.MappingProxyType})
_SETS: Final = frozenset({set, frozenset})
_CONTAINERS: Final = _SEQUENCES | _MAPPINGS | _SETS
_NAMESPACES: Final = frozenset({"types.SimpleNamespace", "argparse.Namespace"})
_SHOWN: Final = frozenset(  # by their ``repr``
    {"decimal.Decimal", "fractions.Fraction", "pathlib.PosixPath", "pathlib._local.PosixPath", "uuid.UUID"}
    | {f"datetime.{name}" for name in ("date", "time", "datetime", "timedelta")}
)
_NAMED: Final = (type, types.FunctionType, types.BuiltinFunctionType)


_first: Final[dict[tuple[str, str], int]] = {}  # in a worker: as it was before any step of a workflow that looks it up


def digests_of(reached: Reached) -> dict[tuple[str, str], int]:
    """The number of each global that the code of nodes may look up, by module and qualified name."""
    own = main_module.script_here() is not None
    found = {place: _digest_at(place) for place in reached.data if own or place[0] != "__main__"}
    return {place: digest for place, digest in found.items() if digest != _UNKNOWN}


def changed(before: Mapping[tuple[str, str], int]) -> tuple[str, ...]:
    """The names of those that are others in this worker. Steps of before, which may have changed them, do not count."""
    other = []
    for place, digest in before.items():
        here = _first.get(place)
        if here is None:
            here = _first[place] = _digest_at(place)
        if here not in (digest, _UNKNOWN):
            other.append(".".join(place).removeprefix("__main__."))
    return tuple(other)


# -- the numbers ----------------------------------------------------------------------------------------------------


def _digest_at(place: tuple[str, str]) -> int:
    """That of what is at a place; ``_UNKNOWN``: there is nothing, or nothing that could be compared."""
    module, name = place
    outer, *inner = name.split(".")
    value = getattr(sys.modules.get(module), "__dict__", {}).get(outer, _digest_at)
    for part in inner:
        value = vars(value).get(part, _digest_at) if isinstance(value, type) else _digest_at
    try:
        return _Digest().of(value, top=True)
    except (_NotCompared, RecursionError):
        return _UNKNOWN


class _NotCompared(Exception):
    """Too large, or of a kind that nothing is known of."""


class _Digest:
    """Numbers of values: equal ones have equal numbers, in each process. Sets have no order."""

    def __init__(self) -> None:
        self._left = MOST
        self._within: set[int] = set()  # by identity, what it is inside of

    def of(self, value: Any, top: bool = False) -> int:
        """That of one. Where it is of an unknown kind, its kind's, or, at the ``top``, an error."""
        kind = type(value)
        self._left -= 1
        if self._left < 0 or (top and isinstance(value, _NAMED)):
            raise _NotCompared
        if kind in _NUMBERS:
            return _number(kind.__name__, repr(value))
        if kind is int:
            return _number("int", hex(value))
        if _name_of(kind) in _SHOWN:
            return _number(_name_of(kind), repr(value))
        if kind is str:
            return _number("str", len(value), value[:LONG], value[-LONG:])
        if isinstance(value, _NAMED):
            return _number("name", value.__module__ or "", value.__qualname__)
        if id(value) in self._within:
            return _number("within itself")
        self._within.add(id(value))
        made = self._inside(value, kind, top)
        self._within.discard(id(value))
        return made

    def _inside(self, value: Any, kind: type, top: bool) -> int:
        if kind in _CONTAINERS:
            if len(value) > WIDE:
                return _number(kind.__name__, len(value))
            if kind in _MAPPINGS:
                pairs = [(self.of(key), self.of(part)) for key, part in value.items()]
                return _number(kind.__name__, sorted(pairs))
            parts = [self.of(part) for part in value]
            return _number(kind.__name__, sorted(parts) if kind in _SETS else parts)
        if (state := _state(value, kind)) is not None:
            return _number("object", kind.__qualname__, self.of(state))
        if (raw := _raw(value)) is not None:
            return _number("raw", *raw)
        if top:
            raise _NotCompared
        return _number("of kind", _name_of(kind))


def _state(value: Any, kind: type) -> dict[str, Any] | None:
    """What is in an object of a class of the user's, but for what its class has kept there; None: it is of no such."""
    if not is_users(kind.__module__) and _name_of(kind) not in _NAMESPACES:
        return None
    try:
        state = dict(object.__getattribute__(value, "__dict__"))
    except AttributeError:
        state = {}
    for base in kind.__mro__:
        for name, slot in list(vars(base).items()):
            if isinstance(slot, types.MemberDescriptorType):
                with suppress(AttributeError):  # it is not filled
                    state[name] = slot.__get__(value)
    containers: tuple[Any, ...] = (dict, list, set)
    for container in containers:
        if isinstance(value, container):
            state[""] = container.copy(value)
    return {n: part for n, part in state.items() if not isinstance(vars(kind).get(n), functools.cached_property)}


def _raw(value: Any) -> tuple[object, ...] | None:
    """What counts of bytes, or of an array: its kind, shape, and at the most ``LONG`` bytes at its head and tail."""
    try:
        view = memoryview(value)
        if any(mark in view.format for mark in "OP&T"):  # addresses, which are others in each process
            return None
        flat = view.cast("B")
    except (TypeError, ValueError, BufferError):
        return None
    return view.format, view.shape, bytes(flat[:LONG]), bytes(flat[-LONG:])


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _number(*parts: object) -> int:
    return crc32(repr(parts).encode("utf-8", "surrogatepass")) or 1
