"""Whether two payloads are pickles of the same value, for a run id that is given again. In the caller's process.

The pickles of equal values differ: a set is in another order in each process, a class has moved. So they are read
without the classes that they name: an object becomes a class's name and a state, which are compared without regard to
the order of sets and dicts. Nothing of the user's runs by that. Where that finds a difference, there is one, unless
classes of the user's own say otherwise (``own_equality``): only then the values are opened.
"""

from __future__ import annotations

import enum
import importlib
import io
import pickle
import sys
from collections import OrderedDict
from collections.abc import Collection, Iterable
from functools import cache, partial
from hashlib import blake2b
from typing import Any, Final

from ..api import context
from ..core.types import Packed, Shared
from ..wire import codec, oob_pickle, rebuilt
from ..wire.main_module import NAMES
from . import own_equality

Name = tuple[str, str]  # module, qualified name


class Likeness(enum.Enum):
    """What is known of two values."""

    SAME = "same"
    MOVED = "moved"  # the same, but for the modules of classes or functions that are not where they were
    OTHER = "other"
    UNKNOWN = "unknown"  # neither can they be read without their classes, nor with them


def compare(before: Packed | None, now: Packed | None, gone: Collection[str] = ()) -> Likeness:
    """Two values.

    Args:
        before, now: their payloads; None is no value.
        gone: attributes of the first that do not count.
    """
    if before is now:
        return Likeness.SAME
    if before is None or now is None:
        return Likeness.OTHER
    if isinstance(before, bytes) and before == now:
        return Likeness.SAME
    try:
        first, second = _Value(before, gone), _Value(now)
        if first.digest(True) == second.digest(True):
            return Likeness.SAME
        if first.digest(False) == second.digest(False):
            return Likeness.MOVED if _moved(first.names - second.names) else Likeness.OTHER
    except Exception:  # a pickle of a kind that is not known here, or one that is too deep
        return _unread(before, now)
    pair = _agreed(before, now, gone)
    return Likeness.SAME if pair is not None and pair[0].digest(True) == pair[1].digest(True) else Likeness.OTHER


def moved(before: Packed | None, now: Packed | None) -> list[str]:
    """What has another module than before, in two values that are the same but for that; nothing in others."""
    try:
        assert before is not None and now is not None
        first, second = _Value(before), _Value(now)
        if first.digest(False) != second.digest(False):
            return []
    except Exception:
        return []  # no value, or one that cannot be read
    there = {name: module for module, name in second.names - first.names}
    lost = [(module, name) for module, name in sorted(first.names - second.names) if name in there]
    return [f"{module}.{name} is {there[name]}.{name} now" for module, name in lost]


def differing(before: Packed | None, now: Packed | None, what: str) -> str:
    """Where the first difference between two values is, such as ``input.tags[2].made``; "" if that is not known.

    Args:
        what: the name of the whole.
    """
    try:
        assert before is not None and now is not None
        first, second = _agreed(before, now) or (_Value(before), _Value(now))
        pair = _Digest(False), _Digest(False)
        return "" if pair[0].of(first.root) == pair[1].of(second.root) else _place(pair, first.root, second.root, what)
    except Exception:
        return ""  # no value, or one that cannot be read


def _unread(before: Packed, now: Packed) -> Likeness:
    """Of values that cannot be read without their classes. What ``==`` of a builtin calls equal may be another."""
    try:
        first, second = codec.decode(before), codec.decode(now)
        if own_equality.equal(first, second):
            return Likeness.SAME
        return Likeness.OTHER if (first == second) is False else Likeness.UNKNOWN
    except Exception:  # their classes are not here any more, or cannot be compared
        return Likeness.UNKNOWN


def _agreed(before: Packed, now: Packed, gone: Collection[str] = ()) -> tuple[_Value, _Value] | None:
    """Both, in which what their own classes call equal is the same; None: nothing is, or they cannot be opened."""
    try:
        pair = own_equality.agreed(codec.decode(before), codec.decode(now))
        return pair and (_Value(pair[0], gone), _Value(pair[1]))
    except Exception:
        return None


def _moved(lost: Collection[Name]) -> bool:
    """Whether each of those is gone from where it was. Those of a script are now in the module that it is."""
    return bool(lost) and all(module in NAMES or not _there(module, name) for module, name in lost)


def _there(module: str, name: str) -> bool:
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception:
        return False
    return True


# -- reading without classes --------------------------------------------------------------------------------------


class _Object:
    """What a pickle says of an object whose class is not looked for: what it is made of, and what it is given then."""

    name: Name  # of its class, or of the function that would have made it

    made_of: tuple[tuple[Any, ...], dict[str, Any]]
    state: Any
    listed: list[Any]
    mapped: list[tuple[Any, Any]]

    def __new__(cls, *arguments: Any, **keywords: Any) -> _Object:
        made = object.__new__(cls)
        made.made_of, made.state, made.listed, made.mapped = (arguments, keywords), None, [], []
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, value: Any) -> None:
        self.listed.append(value)

    def extend(self, values: Iterable[Any]) -> None:
        self.listed.extend(values)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.mapped.append((key, value))

    def __call__(self, *arguments: Any) -> _Object:
        return _called(self, *arguments)


class _called(_Object):  # noqa: N801
    """Of a function that was made by another call. Its first argument is that."""

    name = "", "called"


class _equal(_Object):  # noqa: N801
    """An object that is known by a number: see ``own_equality``."""

    name = "", "equal"


class _Reader(pickle.Unpickler):
    """Opens a pickle. ``names`` are the classes and functions in it."""

    def __init__(self, stream: Any, names: set[Name], buffers: Iterable[Any] = ()) -> None:
        super().__init__(stream, buffers=buffers)
        self._names = names

    def persistent_load(self, number: int) -> Any:
        return _equal(number)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == (oob_pickle.__name__, "_joined"):
            return partial(_read, self._names)  # large values, as they are in stores
        if (module, name) == (context.__name__, context.remade.__name__):
            return _with_state
        if module in ("cloudpickle.cloudpickle", rebuilt.__name__):
            if name in _TRACKED:
                return partial(_by_value, _TRACKED[name])
            if name.endswith("_setstate") or name == "_fill_enum":
                return _set_state
        self._names.add((module, name))
        return _class(module, name)


@cache
def _class(module: str, name: str) -> type[_Object]:
    return type(name, (_Object,), {"name": (module, name)})


def _by_value(tracked: int, *arguments: Any) -> type[_Object]:
    """A class that came along. One argument is a random number of the process that it comes from."""
    parts = (*arguments[:tracked], *arguments[tracked + 1 :])
    return type("by_value", (_Object,), {"name": _BY_VALUE, "parts": parts, "given": None})


def _set_state(of: Any, state: Any) -> None:
    """Of a function or class that came along."""
    if isinstance(of, type):
        of.given = state  # type: ignore[attr-defined]
    else:
        of.state = state


def _with_state(of: type[_Object], state: Any) -> _Object:
    """Of a context, as if it had been pickled by default."""
    made = of()
    made.state = state
    return made


def _read(names: set[Name], stream: Any, *buffers: Any) -> Any:
    return _Reader(io.BytesIO(stream), names, buffers).load()


class _Value:
    """A payload, read."""

    def __init__(self, payload: Packed, gone: Collection[str] = ()) -> None:
        self.names: set[Name] = set()
        stream, buffers = payload.open() if isinstance(payload, Shared) else (payload, [])
        self.root = _read(self.names, stream, *buffers)
        if gone and isinstance(self.root, _Object) and isinstance(self.root.state, dict):
            self.root.state = {name: value for name, value in self.root.state.items() if name not in gone}

    def digest(self, modules: bool) -> bytes:
        """Of all of it; whether the ``modules`` of classes and functions count."""
        return _Digest(modules).of(self.root)


class _Digest:
    """Digests of what a ``_Reader`` made. Equal ones are of equal values, in whatever order sets and dicts were."""

    def __init__(self, modules: bool) -> None:
        self._modules = modules
        self._known: dict[int, bytes] = {}  # by identity; what is in progress has its depth

    def of(self, value: Any) -> bytes:
        kind = type(value)
        if kind is int:
            return _hash(b"int", hex(value).encode())  # of one with thousands of digits there is no ``repr``
        if kind in _PLAIN:
            return _hash(kind.__name__.encode(), repr(value).encode("utf-8", "surrogatepass"))
        if kind in _BYTES:
            raw = memoryview(value)  # a large one lies beside the pickle, and is read as such a view of it
            return _hash(b"bytes" if raw.readonly else b"bytearray", raw.cast("B"))
        known = self._known.get(id(value))
        if known is None:
            self._known[id(value)] = b"within %d" % len(self._known)  # for what refers to itself
            known = self._known[id(value)] = self._inside(value, kind)
        return known

    def _inside(self, value: Any, kind: type) -> bytes:
        if kind in (list, tuple):
            return _hash(kind.__name__.encode(), *map(self.of, value))
        if kind in (set, frozenset):
            return _hash(kind.__name__.encode(), *sorted(map(self.of, value)))
        if kind is dict:
            return _hash(b"dict", *self._pairs(value.items()))
        if isinstance(value, type) and issubclass(value, _Object):
            if value.name == _BY_VALUE:
                return _hash(b"class", self.of(vars(value)["parts"]), self.of(vars(value)["given"]))
            return _hash(b"name", self._named(value.name))
        if not isinstance(value, _Object):
            raise TypeError(f"a {kind} in a pickle")
        arguments, keywords = value.made_of
        pairs = self._pairs(value.mapped, ordered=_derives(type(value), OrderedDict))
        parts = (
            self._made_of(type(value), arguments),
            self.of(keywords),
            self.of(value.state),
            self.of(value.listed),
            *pairs,
        )
        made = b"" if value.name != _BY_VALUE else self.of(type(value))
        return _hash(b"object", self._named(value.name), made, *parts)

    def _pairs(self, pairs: Iterable[tuple[Any, Any]], ordered: bool = False) -> list[bytes]:
        found = [self.of(key) + self.of(value) for key, value in pairs]
        return found if ordered else sorted(found)

    def _made_of(self, kind: type[_Object], arguments: tuple[Any, ...]) -> bytes:
        if kind is _called and getattr(arguments[0], "made_of", None) == _CODE:
            arguments = (*arguments[:11], *arguments[12:14], *arguments[16:])  # less the file's name and its lines
        elif len(arguments) == 1 and isinstance(arguments[0], list) and _derives(kind, set, frozenset):
            return _hash(b"set", *sorted(map(self.of, arguments[0])))
        return _hash(b"made of", *map(self.of, arguments))

    def _named(self, name: Name) -> bytes:
        return ("\0".join(name) if self._modules else name[1]).encode("utf-8", "surrogatepass")


def _place(pair: tuple[_Digest, _Digest], before: Any, now: Any, path: str) -> str:
    """Where two values begin to differ, that do. Keys of dicts may be anybody's secrets: only names are said."""
    seen = set[int]()  # what refers to itself
    while id(before) not in seen and type(before) is type(now):
        seen.add(id(before))
        parts = _parts(now)
        for step, part in _parts(before).items():
            if step not in parts or pair[0].of(part) != pair[1].of(parts[step]):
                break
        else:
            break
        path += step
        if step not in parts:
            break
        before, now = part, parts[step]
    return path


def _parts(value: Any) -> dict[str, Any]:
    """The values in a value, by how they are written behind its name."""
    if isinstance(value, list | tuple):
        return {f"[{at}]": part for at, part in enumerate(value)}
    if isinstance(value, dict):
        return {f"[{key!r}]": part for key, part in value.items() if isinstance(key, str) and key.isidentifier()}
    if not isinstance(value, _Object):
        return {}
    states = value.state if isinstance(value.state, tuple) else (value.state,)  # of slots there is a second one
    return {f".{name}": part for state in states if isinstance(state, dict) for name, part in state.items()}


def _derives(kind: Any, *bases: type) -> bool:
    """Whether that stands for a class that derives from one of these, as far as it is imported or came along."""
    if not isinstance(kind, type):
        return False
    if not issubclass(kind, _Object):
        return issubclass(kind, bases)
    if kind.name == _BY_VALUE:
        return any(_derives(base, *bases) for base in vars(kind)["parts"][2])
    module, name = kind.name
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    return isinstance(found, type) and issubclass(found, bases)


def _hash(*parts: Any) -> bytes:
    made = blake2b(digest_size=16)
    for part in parts:
        made.update(b"%d:" % len(part))
        made.update(part)
    return made.digest()


_PLAIN: Final = frozenset({str, float, complex, bool, type(None)})
_BYTES: Final = frozenset({bytes, bytearray, memoryview})
_CODE: Final[tuple[tuple[str], dict[str, Any]]] = (
    ("CodeType",),
    {},
)  # what cloudpickle has the type of code objects made of
_BY_VALUE: Final = ("", "by value")
_TRACKED: Final = {  # what makes a class that came along: which of its arguments is that number
    "_make_skeleton_class": 4,
    "_make_skeleton_enum": 5,
    "class_made": 4,
    "_make_enum": 6,
}
