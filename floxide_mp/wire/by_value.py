"""Pickling by value, by cloudpickle: what is local, or in a ``__main__`` that workers do not have. Asked by ``codec``.

In the program's process, and in workers for what steps return. What comes of it is opened by the standard unpickler.
"""

from __future__ import annotations

import copyreg
import functools
import io
import pickle
import re
import sys
import types
import typing
from collections import ChainMap
from collections.abc import Callable, Iterable
from typing import Any, Final

import cloudpickle
from cloudpickle.cloudpickle import (  # type: ignore[import-untyped]
    _extract_code_globals,
    _make_skeleton_class,
    _make_skeleton_enum,
)

from ..api.node import FunctionNode
from . import main_module, rebuilt

CLOUDPICKLE: Final[str] = cloudpickle.__version__
_CACHED: Final = type(functools.lru_cache(lambda: None))
MOST_OFFERED: Final = 64 << 10  # bytes of one definition
_PLAIN: Final = frozenset({str, bytes, int, float, bool, type(None)})
_NAMED: Final = (type, types.FunctionType, _CACHED, FunctionNode)


def _code(code: types.CodeType) -> tuple[Any, ...]:
    """As cloudpickle does it, which leaves the file's name out: tracebacks from workers need it."""
    kind, arguments = cloudpickle.Pickler.dispatch_table[types.CodeType](code)
    return kind, (*arguments[:10], code.co_filename, *arguments[11:])


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """By value what is local, or in a ``__main__`` that workers do not have.

    Cached functions too, which cloudpickle leaves to their names.
    """

    dispatch_table = ChainMap({types.CodeType: _code}, cloudpickle.Pickler.dispatch_table)

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, _NAMED) and main_module.by_name(obj):
            return NotImplemented
        if isinstance(obj, typing.TypeVar) and main_module.by_name(obj):
            return obj.__name__
        if isinstance(obj, _CACHED) and _in_main(obj):
            return _cached, (obj.__wrapped__, obj.cache_parameters())
        if isinstance(obj, FunctionNode) and obj.__module__ in main_module.NAMES:
            return obj.by_value()
        if (reduced := rebuilt.reduced(obj)) is not None:
            return reduced
        if _named_by_itself(obj):
            return _new, (type(obj),), object.__getstate__(obj)
        reduced = super().reducer_override(obj)
        if isinstance(obj, type) and isinstance(reduced, tuple):
            if reduced[0] is _make_skeleton_class:
                return rebuilt.class_reduced(obj, reduced)
            if reduced[0] is _make_skeleton_enum:
                return rebuilt.enum_reduced(obj)
        return reduced

    def _dynamic_function_reduce(self, func: types.FunctionType) -> Any:
        """A function of a script that workers run has the script's globals there, not a copy of some of them."""
        make, arguments, (state, slots), *rest = super()._dynamic_function_reduce(func)
        if func.__globals__ is vars(sys.modules["__main__"]) and main_module.script_here() is not None:
            arguments = (arguments[0], _MainGlobals(), *arguments[2:])
            slots = {**slots, "__globals__": {}, "_cloudpickle_submodules": []}
        return make, arguments, (state, slots), *rest


class _MainGlobals:
    """Is pickled in place of the globals of ``__main__``, and unpickled as those of ``__main__`` there."""

    def __reduce__(self) -> Any:
        return _main_globals, ()


def _main_globals() -> dict[str, Any]:
    return vars(sys.modules["__main__"])


def dumps(value: Any, aside: Callable[[pickle.PickleBuffer], object] | None = None) -> bytes:
    """The pickle of a value; ``aside`` is given each buffer of it, as ``pickle.dumps`` does."""
    stream = io.BytesIO()
    Pickler(stream, 5, aside).dump(value)
    return stream.getvalue()


def reducers() -> dict[type, Any]:
    """What ``__main__`` has registered with ``copyreg``."""
    own = main_module.is_own
    table = list(copyreg.dispatch_table.items()) if main_module.script_here() is None else ()
    return {kind: reduce for kind, reduce in table if own(kind) or own(reduce)}


def chosen() -> bool:
    """Whether the user has modules whose things are to go by value."""
    return bool(cloudpickle.list_registry_pickle_by_value())


def globals_of(code: types.CodeType) -> Iterable[str]:
    """The global names that code looks up, in functions inside it, too."""
    return _extract_code_globals(code)  # type: ignore[no-any-return]


class MainFinder:
    """Notes which classes and functions of ``__main__`` a value refers to, by pickling it and throwing that away.

    Also those that annotations mention which are texts: the standard library looks them up in the module.
    """

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        self._mentioned: set[str] = set()

    def dump(self, value: Any) -> None:
        """Look at a value, too; what it raises is why it cannot be pickled."""
        self._dump(value)
        main = vars(sys.modules["__main__"])
        while self._mentioned:
            name = self._mentioned.pop()
            if name not in self.found and isinstance(main.get(name), _NAMED) and _in_main(main[name]):
                before = dict(self.found)
                try:
                    self._dump(main[name])
                except Exception:
                    self.found = before  # it may not be needed

    def _dump(self, value: Any) -> None:
        found = self.found
        mentioned = self._mentioned

        class Finding(Pickler):
            def reducer_override(self, obj: Any) -> Any:
                if isinstance(obj, _NAMED) and _in_main(obj) and not main_module.by_name(obj):
                    name = main_module.name_of(obj).partition(".")[0]  # nested ones are reached through the outer one
                    found[name] = getattr(sys.modules["__main__"], name)
                    mentioned.update(_mentioned(obj))
                elif _named_by_itself(obj):
                    name = obj.__reduce_ex__(5)
                    found[name] = main_module.found(name)
                elif isinstance(obj, rebuilt.NAMED) and _in_main(obj):
                    name = main_module.name_of(obj)
                    found[name] = main_module.found(name)
                return super().reducer_override(obj)

        Finding(_Nowhere(), 5, lambda buffer: False).dump(value)


def _mentioned(obj: Any) -> Iterable[str]:
    """The names in annotations of a class that are texts."""
    kinds = getattr(obj, "__annotations__", None) if isinstance(obj, type) else None
    for text in kinds.values() if isinstance(kinds, dict) else ():
        if isinstance(text, str):
            yield from re.findall(r"[^\W\d]\w*", text)


def _new(kind: Any) -> Any:
    return kind.__new__(kind)


class _Nowhere:
    """A file for which what is written is lost."""

    def write(self, data: object) -> None:
        pass


class _Limited(io.BytesIO):
    """A file that takes so much and no more."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > MOST_OFFERED:
            raise OverflowError
        return super().write(data)


def offered() -> list[tuple[tuple[str, ...], bytes]]:
    """What ``__main__`` defines, and its plain values, for code that asks for them by name: pickles of dicts.

    Not what cannot be pickled or is large, such as a function that mentions a large table.
    """
    main = list(vars(sys.modules["__main__"]).items())
    every = {name: value for name, value in main if _is_offered(name, value)}
    if (whole := _limited(every)) is not None:
        return [(tuple(every), whole)]
    each = (((name,), _limited({name: value})) for name, value in every.items())
    return [(names, made) for names, made in each if made is not None]


def _is_offered(name: str, value: Any) -> bool:
    return (isinstance(value, _NAMED) and main_module.is_own(value)) or (type(value) in _PLAIN and name[:2] != "__")


def _limited(value: Any) -> bytes | None:
    file = _Limited()
    try:
        Pickler(file, 5).dump(value)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return None
    return file.getvalue()


def _named_by_itself(obj: Any) -> bool:
    """Whether it is an object of a class of ``__main__`` that says of itself that it goes by a name there."""
    kind: Any = type(obj)
    if kind.__module__ not in main_module.NAMES or kind.__reduce__ is object.__reduce__ or isinstance(obj, type):
        return False
    name = obj.__reduce_ex__(5)
    return isinstance(name, str) and main_module.script_here() is None and main_module.found(name) is obj


def _in_main(obj: Any) -> bool:
    """Whether ``__main__`` has it, under its name; a local one cannot be named at all."""
    return obj.__module__ in main_module.NAMES and main_module.found(main_module.name_of(obj)) is obj


def _cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)
