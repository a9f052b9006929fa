"""Pickling by value, by cloudpickle: what is local, or in a ``__main__`` that workers do not have. Asked by ``codec``.

In the program's process, and in workers for what steps return. What comes of it is opened by the standard unpickler.
"""

from __future__ import annotations

import functools
import io
import pickle
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
)

from ..node import FunctionNode
from ..workflow import UNDECLARED, Workflow
from . import main_module

CLOUDPICKLE: Final[str] = cloudpickle.__version__
_CACHED: Final = type(functools.lru_cache(lambda: None))
_NAMED: Final = (type, types.FunctionType, _CACHED, FunctionNode)


def _code(code: types.CodeType) -> tuple[Any, ...]:
    """As cloudpickle does it, which leaves the file's name out: tracebacks from workers need it."""
    kind, arguments = cloudpickle.Pickler.dispatch_table[types.CodeType](code)
    return kind, (*arguments[:10], code.co_filename, *arguments[11:])


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
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
    _Pickler(stream, 5, aside).dump(value)
    return stream.getvalue()


def chosen() -> bool:
    """Whether the user has modules whose things are to go by value."""
    return bool(cloudpickle.list_registry_pickle_by_value())


def globals_of(code: types.CodeType) -> Iterable[str]:
    """The global names that code looks up, in functions inside it, too."""
    return _extract_code_globals(code)  # type: ignore[no-any-return]


class MainFinder:
    """Notes which classes and functions of ``__main__`` a value refers to, by pickling it and throwing that away."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def dump(self, value: Any) -> None:
        found = self.found

        class Pickler(_Pickler):
            def reducer_override(self, obj: Any) -> Any:
                if isinstance(obj, _NAMED) and _in_main(obj) and not main_module.by_name(obj):
                    name = main_module.name_of(obj).partition(".")[0]  # nested ones are reached through the outer one
                    found[name] = getattr(sys.modules["__main__"], name)
                return super().reducer_override(obj)

        Pickler(_Nowhere(), 5, lambda buffer: False).dump(value)


class _Nowhere:
    """A file for which what is written is lost."""

    def write(self, data: object) -> None:
        pass


def _in_main(obj: Any) -> bool:
    """Whether ``__main__`` has it, under its name; a local one cannot be named at all."""
    return obj.__module__ in main_module.NAMES and main_module.found(main_module.name_of(obj)) is obj


def _cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)
