"""Why a value cannot be pickled: the smallest part that cannot be, and the path to it. Nothing is pickled here."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from ..api import context
from ..api.node import FunctionNode
from ..errors import SerializationError
from ..texts import quoted
from . import main_module

_EMPTY: Final = types.CellType()  # of a variable that has no value yet


def explained(
    value: Any, what: str, error: BaseException, trouble_of: Callable[[Any], BaseException | None]
) -> SerializationError:
    """The smallest part that cannot be pickled, found by going down as long as some part cannot be.

    Args:
        value: what cannot be pickled.
        what: it is, for a person.
        error: that said so.
        trouble_of: tries it with a part of the value.
    """
    path, reason, advice = what, error, ""
    for _ in range(12):
        if isinstance(value, type | types.FunctionType | FunctionNode) and value.__module__ in main_module.NAMES:
            advice = "" if main_module.script_here() is not None else f"; {main_module.ADVICE}"
        for step, part in _parts(value):
            trouble = trouble_of(part)
            if trouble is not None:
                value, path, reason = part, path + step, trouble
                break
        else:
            break
    kind, why = type(value).__name__, describe(reason)
    if isinstance(reason, RecursionError) or "recursion" in why:
        text = f"{what} cannot be pickled: it is nested too deeply ({kind})"
    else:
        text = f"{what} cannot be pickled: {path} is a {kind}: {why or type(reason).__name__}"
    return SerializationError(text + advice, path=path)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value is made of, as the pickler sees it, each with what to write behind the value's path."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield " (a key of it)", key
            yield f"[{quoted(key)}]", part
    elif isinstance(value, list | tuple | set | frozenset):
        names: Sequence[str] = getattr(type(value), "_fields", ())
        for number, part in enumerate(value):
            yield (f".{names[number]}" if number < len(names) else f"[{number}]"), part
    elif isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
        yield "", value.__func__
    elif isinstance(value, types.FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            if cell != _EMPTY:
                yield f", its variable {name}", cell.cell_contents
        for name in value.__code__.co_names:
            if name in value.__globals__:
                yield f", its global {name}", value.__globals__[name]
        for number, part in enumerate(value.__defaults__ or ()):
            yield f", its default {number}", part
    elif isinstance(value, type):
        for name, part in vars(value).items():
            if name not in ("__dict__", "__weakref__"):
                yield f".{name}", part
    elif isinstance(value, staticmethod | classmethod):
        yield "", value.__func__
    elif isinstance(value, property):
        yield "", value.fget
    elif not isinstance(value, types.ModuleType):
        yield from _state(value)


def _state(value: Any) -> Iterator[tuple[str, Any]]:
    """The parts of an object, asked of the object itself: what its ``__getstate__`` leaves out is not to blame."""
    state: Any
    try:
        reduced = value.by_value() if isinstance(value, FunctionNode) else value.__reduce_ex__(5)
        if isinstance(reduced, str):
            return  # it goes by its name, which has no parts
        if reduced[0] is context.remade:
            arguments, state = reduced[1][:1], reduced[1][1]
        else:
            arguments, state = reduced[1], reduced[2] if len(reduced) > 2 else None
        fields = getattr(value, "__dict__", {})
    except KeyboardInterrupt:
        raise
    except BaseException:
        return
    for number, part in enumerate(arguments):
        if part is type(value):
            yield f", its class {part.__name__}", part
        else:
            name = next((name for name, field in fields.items() if field is part), None)
            yield (f".{name}" if name else f"'s argument {number}"), part
    if isinstance(state, list | tuple) and dataclasses.is_dataclass(value):
        state = {f.name: part for f, part in zip(dataclasses.fields(value), state, strict=False)}
    for part in state if isinstance(state, tuple) else (state,):  # (of __dict__, of __slots__)
        if isinstance(part, dict):
            yield from ((f".{name}", one) for name, one in part.items())
    if state is not None and not isinstance(state, dict | tuple):
        yield "'s state", state


def describe(error: BaseException) -> str:
    """An error's text, of which users' code is part."""
    try:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as trouble:
        return f"<{type(trouble).__name__} in __str__>"
