"""What the code of nodes reaches by name in the user's own modules: functions, methods, and data. In the caller's
process and in every worker's. What becomes of it is ``code_digest``'s and ``global_digests``'s.

Looked at are the globals of each function and what its code mentions of modules and classes there, once for each
function, and again when a module was reloaded. What a function imports when it runs is not looked at: it is there in
one process and not yet in another. No code of the user's is run.
"""

from __future__ import annotations

import enum
import functools
import os
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary, ref

from ..api.node import FunctionNode, Node
from ..api.route import when
from . import main_module

Place = tuple[str, str]  # module, and qualified name in it
Keys = tuple[Any, ...] | None  # of the arms of a node; None: it has none
_OURS: Final = "floxide_mp"
_WRAPPERS: Final = (staticmethod, classmethod, type(functools.lru_cache(lambda: None)))
_PLAIN: Final = frozenset({bool, int, float, str, bytes, tuple, list, dict, set, frozenset, type(None)})  # no code
_STANDARD: Final = os.path.dirname(os.__file__) + os.sep


class Looked(NamedTuple):
    """What a function looks up: where there are data, and where there are other functions."""

    data: tuple[Place, ...]
    functions: tuple[tuple[Place, ref[types.FunctionType]], ...]


class Reached(NamedTuple):
    """What functions reach: where there are data, and functions by where they are (several may be under one name)."""

    data: dict[Place, None]
    functions: dict[Place, list[types.FunctionType]]


_known: Final[WeakKeyDictionary[types.FunctionType, Looked]] = WeakKeyDictionary()
_specs: Final[dict[str, object]] = {}  # of the user's modules that were looked at: a reload makes another one


def reached(nodes: Iterable[Node], keys: Iterable[Keys] = ()) -> Reached:
    """What nodes, with the keys of their arms, reach: what they are made of, and all that this looks up."""
    classes = set[type]()
    roots = [root for node, arms in zip_longest(nodes, keys) for root in roots_of(node, arms, classes)]
    if any(getattr(sys.modules.get(name), "__spec__", None) is not spec for name, spec in list(_specs.items())):
        _known.clear()
        _specs.clear()
    data, functions, seen = dict[Place, None](), dict[Place, list[types.FunctionType]](), set[types.FunctionType]()
    left = [((_module_of(root), root.__qualname__), root) for root in roots]
    while left:
        place, function = left.pop()
        at = functions.setdefault(place, [])
        if function not in at:
            at.append(function)
        if function in seen:
            continue
        seen.add(function)
        looked = _known.get(function)
        if looked is None:
            looked = _known[function] = _looked_up(function)
        left += ((there, one) for there, made in looked.functions if (one := made()) is not None)
        data.update(dict.fromkeys(looked.data))
    return Reached(data, functions)


def roots_of(node: Node, keys: Keys = None, classes: set[type] | None = None) -> list[types.FunctionType]:
    """The functions that a node is made of: those that it holds, those of its class, and those at its arms.

    Args:
        classes: those whose methods are known already, which are passed over; a graph of thousands of nodes has few.
    """
    classes = set() if classes is None else classes
    if type(node) in classes and not keys and not vars(node):
        return []
    roots, seen, left = [part for key in keys or () for part in _functions_at(key)], set[int](), [node]
    while left:
        node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        roots += _new_methods(type(node), classes)
        for part in list(vars(node).values()):
            if type(part) in _PLAIN:
                continue
            if _is(part, Node):
                left.append(part)
            elif found := _functions_in(part):
                roots += found
            elif is_users(type(part).__module__):
                roots += _new_methods(type(part), classes)
    return roots


def _new_methods(kind: type, classes: set[type]) -> Iterable[types.FunctionType]:
    if kind in classes:
        return ()
    classes.add(kind)
    return _methods(kind)


def _functions_at(key: Any) -> Iterator[types.FunctionType]:
    """Those of an arm's key."""
    while _is(key, when):
        for part in (key.guard, key.take):
            yield from _functions_in(part)
        key = key.key
    yield from _functions_in(key)


def _is(value: Any, kind: type | tuple[type, ...]) -> bool:
    """As ``isinstance``, which asks the value for its ``__class__``: that may be code of the user's."""
    return issubclass(type(value), kind)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == _OURS


def names_in(code: types.CodeType) -> Iterator[str]:
    """The names of globals and attributes in some code, and in functions inside it."""
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from names_in(const)


def held_by(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function has of its own, by name: defaults of its parameters, and the values in its closure."""
    code = function.__code__
    for number, value in enumerate(function.__defaults__ or ()):
        yield f"default {number}", value
    yield from (function.__kwdefaults__ or {}).items()
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # it is empty
            pass


def is_users(name: str | None) -> bool:
    """Whether a module is the user's own, neither a library's nor one of this package."""
    if name in main_module.NAMES:
        return True
    file = getattr(sys.modules.get(name or ""), "__file__", None)
    if not isinstance(file, str) or _is_ours(name or ""):
        return False
    return not file.startswith(_STANDARD) and "site-packages" not in file and "dist-packages" not in file


# -- one function ---------------------------------------------------------------------------------------------------


def _module_of(function: types.FunctionType) -> str:
    return "__main__" if (name := function.__module__ or "") in main_module.NAMES else name


def _looked_up(function: types.FunctionType) -> Looked:
    there = function.__globals__
    here = "__main__" if there is vars(sys.modules["__main__"]) else there.get("__name__", "")
    found = _Found(tuple(dict.fromkeys(names_in(function.__code__))))
    found.note(here)
    for name in found.mentioned:
        if name in there:
            found.add(here, name, there[name])
    wrapped = getattr(function, "__wrapped__", None)
    for value in (wrapped, *(value for _, value in held_by(function))):
        found.add_unnamed(value)
    functions = tuple((place, ref(one)) for place, one in found.functions)
    return Looked(tuple(dict.fromkeys(found.data)), functions)


class _Found:
    """What a function looks up, so far.

    Args:
        mentioned: all names in its code, those of attributes among them.
    """

    def __init__(self, mentioned: tuple[str, ...]) -> None:
        self.mentioned = mentioned
        self.data: list[Place] = []
        self.functions: list[tuple[Place, types.FunctionType]] = []
        self._classes: set[tuple[int, bool]] = set()  # by identity

    def note(self, module: str) -> None:
        """It hangs on a module."""
        if module not in _specs and module not in main_module.NAMES and is_users(module):
            _specs[module] = getattr(sys.modules[module], "__spec__", None)

    def add(self, module: str, name: str, value: Any) -> None:
        """What is under a name of a module."""
        if _is(value, types.ModuleType):
            inside: Mapping[str, Any] = vars(value) if is_users(value.__name__) else {}
            self.note(value.__name__)
            for mentioned in self.mentioned:
                if mentioned in inside and not _is(inside[mentioned], types.ModuleType):
                    self.add(value.__name__, mentioned, inside[mentioned])
        elif _is(value, type):
            self._add_class(value, module, name)
        else:
            self._add_plain(module, name, value)

    def add_unnamed(self, value: Any) -> None:
        """What has no name here: its code only, by its own account."""
        if _is(value, type):
            self._add_class(value, code_only=True)
            return
        functions = _functions_in(value)
        for function in functions:
            if is_users(function.__module__):
                self.note(function.__module__)
                self.functions.append(((_module_of(function), function.__qualname__), function))
        if not functions:
            self._add_class(type(value), code_only=True)

    def _add_class(self, kind: type, module: str = "", name: str = "", code_only: bool = False) -> None:
        if (id(kind), code_only) in self._classes or not is_users(kind.__module__):
            return
        self._classes.add((id(kind), code_only))
        own = "__main__" if kind.__module__ in main_module.NAMES else kind.__module__
        if not module or vars(sys.modules[own]).get(kind.__qualname__) is kind:  # one name, by whatever it is looked up
            module, name = own, kind.__qualname__
        self.note(own)
        no_data = code_only or issubclass(kind, enum.Enum)
        for inner, part in list(vars(kind).items()):
            hidden = no_data or _is(part, type) or (inner.startswith("_") and inner.endswith("_"))
            self._add_plain(module, f"{name}.{inner}", part, hidden)
        for base in filter(lambda base: is_users(base.__module__), kind.__mro__[1:]):
            self._add_class(base, code_only=code_only)
            for inner, part in list(vars(base).items()):
                # Under the name of this class, too: another delivery may give it a method of its own instead.
                if next(one for one in kind.__mro__ if inner in vars(one)) is base:
                    self._add_plain(module, f"{name}.{inner}", part, hidden=True)

    def _add_plain(self, module: str, name: str, value: Any, hidden: bool = False) -> None:
        """Code or data; no data if ``hidden``."""
        functions = _functions_in(value)
        for function in functions:
            if function.__module__ == module or is_users(function.__module__):
                self.note(function.__module__)
                self.functions.append(((module, name), function))
        if not functions and not hidden:
            self.data.append((module, name))
            self._add_class(type(value), code_only=True)


def _functions_in(value: Any) -> list[types.FunctionType]:
    """The functions that something callable consists of; none: it is none that is known."""
    kind = type(value)
    if kind is types.FunctionType:
        return [value]
    if kind in _PLAIN:
        return []
    if _is(value, FunctionNode):
        return _functions_in(value.function)
    if _is(value, Node):
        return roots_of(value)
    if _is(value, _WRAPPERS):
        return _functions_in(value.__wrapped__)
    if _is(value, (functools.partial, functools.partialmethod, functools.cached_property)):
        return _functions_in(value.func)
    if _is(value, types.MethodType):
        return [*_functions_in(value.__func__), *_methods(type(value.__self__))]
    if _is(value, property):
        return [part for one in (value.fget, value.fset, value.fdel) for part in _functions_in(one)]
    try:
        wrapped = object.__getattribute__(value, "__dict__").get("__wrapped__")  # of a library's decorator: numba, say
    except (AttributeError, TypeError):
        return []
    return [wrapped] if type(wrapped) is types.FunctionType else []


def _methods(kind: type) -> Iterator[types.FunctionType]:
    for base in kind.__mro__:
        if base is not object and not _is_ours(base.__module__):
            for _, part in sorted(vars(base).items()):
                if not _is(part, Node):
                    yield from _functions_in(part)
