"""Kinds of things of ``__main__`` that cloudpickle cannot send by value, or sends as something else: how they are.

Each has a function that gives what the pickler is to write (as ``__reduce__`` does), and one that makes the thing of it
on the other side. Asked by ``by_value``, in the program's process; what is made is made in a worker.
"""

from __future__ import annotations

import contextvars
import enum
import functools
import sys
import types
import typing
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import cloudpickle

try:
    from cloudpickle.cloudpickle import (  # type: ignore[import-untyped]
        _class_getstate,
        _class_setstate,
        _get_or_create_tracker_id,
        _lookup_class_or_track,
    )
except ImportError as error:
    raise ImportError(
        f"floxide_mp needs cloudpickle 3.0 or later, and version {cloudpickle.__version__} is installed "
        f"({cloudpickle.__file__}): python -m pip install 'cloudpickle>=3.0'"
    ) from error

from ..api.workflow import UNDECLARED, Workflow
from .main_module import NAMES

Reduced: TypeAlias = tuple[Any, ...]

_DISPATCHING: Final[Any] = functools.singledispatch(lambda value: None)
_ALIAS: Final[Any] = getattr(typing, "TypeAliasType", ())  # of the ``type`` statement, Python 3.12
NAMED: Final = (typing.NewType, *([_ALIAS] if _ALIAS else []))  # what goes by its name, when it is pickled in a value
# What ``enum`` itself fills as members are made.
_KEPT_BY_ENUM: Final = frozenset(
    {
        *("_generate_next_value_", "_member_names_", "_member_map_", "_member_type_", "_value2member_map_"),
        *("_hashable_values_", "_unhashable_values_", "_unhashable_values_map_", "_sort_order_"),
    }
)


def reduced(obj: Any) -> Reduced | None:
    """What to write of it; None: it is not of these kinds."""
    kind = type(obj)
    if kind is functools.cached_property:  # in Python 3.11 it has a lock
        return _cached_property, (obj.func, obj.attrname)
    if kind is types.FunctionType and obj.__code__ is _DISPATCHING.__code__:
        return _single_dispatch, (obj.__name__,), _dispatched(obj), None, None, _fill_single_dispatch
    if kind is typing.NewType:
        return _new_type, (obj.__name__, obj.__supertype__, obj.__module__, obj.__qualname__)
    if _ALIAS and kind is _ALIAS:
        return _ALIAS, (obj.__name__, obj.__value__, obj.__type_params__)
    if kind is contextvars.ContextVar:
        return _context_variable, (obj.name, *_values_of(obj))
    if kind in (weakref.WeakValueDictionary, weakref.WeakKeyDictionary):
        return kind, (dict(obj),)
    return None


# -- functions and such -------------------------------------------------------------------------------------------


def _cached_property(function: Callable[[Any], Any], name: str | None) -> Any:
    made = functools.cached_property(function)
    made.attrname = name  # as ``__set_name__`` would
    return made


def _dispatched(function: Any) -> dict[str, Any]:
    state = {name: value for name, value in vars(function).items() if name not in vars(_DISPATCHING)}
    return {"registry": dict(function.registry), "state": state, "of": function.__wrapped__}


def _single_dispatch(name: str) -> Any:
    """Empty: what it calls may call it in its turn, so that comes later."""

    def function(*_: Any) -> Any:
        raise TypeError(f"{name} is not there yet")

    function.__name__ = name
    return functools.singledispatch(function)


def _fill_single_dispatch(made: Any, given: Mapping[str, Any]) -> None:
    for kind, function in given["registry"].items():
        made.register(kind, function)
    functools.update_wrapper(made, given["of"], updated=())
    vars(made).update(given["state"])


def _new_type(name: str, supertype: Any, module: str, qualname: str) -> Any:
    kind: Any = typing.NewType
    made = kind(name, supertype)
    made.__module__, made.__qualname__ = module, qualname
    return made


def _values_of(variable: contextvars.ContextVar[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Its default and its value here, each in a tuple, which is empty if there is none."""
    found: list[tuple[Any, ...]] = []
    for ask in (contextvars.Context().run, lambda get: get()):
        try:
            found.append((ask(variable.get),))
        except LookupError:
            found.append(())
    return found[0], found[1]


def _context_variable(name: str, default: tuple[Any, ...], value: tuple[Any, ...]) -> contextvars.ContextVar[Any]:
    made = contextvars.ContextVar(name, default=default[0]) if default else contextvars.ContextVar[Any](name)
    if value and value != default:
        made.set(value[0])
    return made


# -- classes ------------------------------------------------------------------------------------------------------


def enum_reduced(cls: type[enum.Enum]) -> Reduced:
    """An enum: with aliases, and with members that an ``__init__`` or ``__new__`` of its own has made."""
    members = [(name, _data_of(member), member._value_) for name, member in cls.__members__.items()]
    state, slots = _class_getstate(cls)
    state = {name: value for name, value in state.items() if name not in _KEPT_BY_ENUM and name not in cls.__members__}
    own = {name: _fields(member) for name, member in cls.__members__.items() if member._name_ == name}
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    boundary = getattr(cls, "_boundary_", None)
    options = {"boundary": boundary} if isinstance(boundary, enum.FlagBoundary) else {}
    arguments = type(cls), cls.__name__, cls.__bases__, members, names, options, _get_or_create_tracker_id(cls)
    return _make_enum, arguments, ((state, slots), own), None, None, _fill_enum


def _data_of(member: enum.Enum) -> tuple[Any, ...]:
    """What its data type (``int``, say) is made of."""
    data: Any = type(member)._member_type_  # type: ignore[attr-defined]
    return tuple(data.__getnewargs__(member)) if hasattr(data, "__getnewargs__") else ()


def _fields(member: enum.Enum) -> dict[str, Any]:
    kept = ("_value_", "_name_", "__objclass__", "_sort_order_")
    return {name: value for name, value in vars(member).items() if name not in kept}


def _make_enum(
    metaclass: Any,
    name: str,
    bases: tuple[type, ...],
    members: list[tuple[str, tuple[Any, ...], Any]],
    names: dict[str, Any],
    options: dict[str, Any],
    tracker: Any,
) -> Any:
    body = metaclass.__prepare__(name, bases, **options)
    left = iter([(given, value) for _, given, value in members])

    def make(cls: Any, *_: Any) -> Any:
        given, value = next(left)
        made = cls._member_type_.__new__(cls, *given)
        made._value_ = value
        return made

    body.update(names)
    body["__new__"] = make
    for label, _, value in members:
        body[label] = value
    made = metaclass.__new__(metaclass, name, bases, body, **options)
    # Which made the members here. Not where it is filled: an enum that is in several bundles is filled with each.
    type.__delattr__(made, "__new_member__")
    return _lookup_class_or_track(tracker, made)


def _fill_enum(made: Any, given: Any) -> Any:
    state, own = given
    _class_setstate(made, state)
    for name, fields in own.items():
        vars(made._member_map_[name]).update(fields)
    return made


def class_made(
    metaclass: Any, name: str, bases: tuple[Any, ...], names: dict[str, Any], tracker: Any, extra: Any
) -> Any:
    """A class that is empty yet, for which nothing is called that its metaclass and bases in ``__main__`` define.

    They were called where the class was defined; what they did to it comes with what is in it.
    """
    names = {sys.intern(key): value for key, value in names.items()}
    hooked = {kind for base in bases for kind in getattr(base, "__mro__", ()) if _is_own_hook(kind)}
    if not hooked and metaclass.__module__ not in NAMES:
        made = types.new_class(name, bases, {"metaclass": metaclass}, lambda body: body.update(names))
        return _lookup_class_or_track(tracker, made)
    resolved = types.resolve_bases(bases)
    if resolved is not bases:
        names["__orig_bases__"] = bases
    plain = next(kind for kind in metaclass.__mro__ if kind.__module__ not in NAMES)
    hooks = {kind: vars(kind)["__init_subclass__"] for kind in hooked}
    try:
        for kind in hooks:
            type.__delattr__(kind, "__init_subclass__")
        made = plain.__new__(metaclass, name, resolved, names)
    finally:
        for kind, hook in hooks.items():
            type.__setattr__(kind, "__init_subclass__", hook)
    return _lookup_class_or_track(tracker, made)


def _is_own_hook(kind: type) -> bool:
    return kind.__module__ in NAMES and "__init_subclass__" in vars(kind)


def class_reduced(cls: type, given: Reduced) -> Reduced:
    """What cloudpickle writes of a class, with what it leaves out, and without what cannot be written."""
    kind, label, bases, members, *rest = given[1]
    state, slots = given[2]
    # Without these its objects could not be read by name on the other side (cloudpickle 3.1 leaves them out).
    members = {**members, "__qualname__": cls.__qualname__}
    if "__slots__" in vars(cls) and not hasattr(cls, "_fields"):  # a ``NamedTuple`` makes its own
        members["__slots__"] = vars(cls)["__slots__"]
    if issubclass(cls, Workflow):
        members[UNDECLARED] = True  # it is made empty, and filled with what was declared here
    if typing.NamedTuple in bases:  # one that is generic
        members["__orig_bases__"] = bases
        bases = cls.__bases__
        state = {name: value for name, value in state.items() if name != "__class_getitem__"}
    return class_made, (kind, label, bases, members, *rest), (state, slots), *given[3:]
