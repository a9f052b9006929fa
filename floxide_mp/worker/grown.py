"""Whether a value has only got attributes that it had not before: caches that are filled at the first use. Decided
where a worker's process finds that a step has changed a value that all its steps have in common.
"""

from __future__ import annotations

import copyreg
import types
from collections.abc import Callable
from itertools import chain
from typing import Any, Final

from ..wire import oob_pickle

_PLAIN: Final = frozenset({str, bytes, int, float, complex, bool, bytearray, types.NoneType, set, frozenset})
_NAMED: Final = (type, types.BuiltinFunctionType, types.ModuleType)

_Seen = dict[tuple[int, int], tuple[Any, Any]]  # pairs, which must live: another object could have the same id


def only_grown(reopen: Callable[[], Any], now: Any) -> bool:
    """Whether all in which a value differs from what it was is attributes of objects that were not there, or None.

    Args:
        reopen: gives the value as it was. What cannot be opened or compared has changed.
    """
    try:
        return _grown(reopen(), now, {})
    except KeyboardInterrupt:
        raise
    except BaseException:  # a user's __reduce__ or __eq__, or more depth than there is
        return False


def _grown(before: Any, now: Any, seen: _Seen) -> bool:
    kind = type(before)
    if before is now or (id(before), id(now)) in seen:
        return True
    if type(now) is not kind:
        return False
    seen[id(before), id(now)] = before, now
    if kind in _PLAIN or isinstance(before, _NAMED):
        return bool(before == now or (before != before and now != now))
    if kind is types.FunctionType:
        return bool(before.__code__ == now.__code__)
    if kind is oob_pickle.BUFFER:
        return bool(before.raw() == now.raw())
    if kind in (list, tuple):
        return len(before) == len(now) and all(_grown(one, other, seen) for one, other in zip(before, now, strict=True))
    if kind is dict:
        return list(before) == list(now) and all(_grown(before[key], now[key], seen) for key in before)
    *made, state = _reduced(before)
    *made_now, state_now = _reduced(now)
    return _grown(made, made_now, seen) and _state_grown(state, state_now, _names(now), seen)


def _state_grown(before: Any, now: Any, names: set[str], seen: _Seen) -> bool:
    if all(isinstance(state, tuple) and len(state) == 2 for state in (before, now)):  # (of __dict__, of __slots__)
        return all(_state_grown(one, other, names, seen) for one, other in zip(before, now, strict=True))
    if not (isinstance(before, dict | None) and isinstance(now, dict)):
        return _grown(before, now, seen)
    before = {name: value for name, value in (before or {}).items() if value is not None or name not in names}
    return now.keys() - before.keys() <= names and all(
        name in now and _grown(value, now[name], seen) for name, value in before.items()
    )


def _names(value: Any) -> set[str]:
    """Of the attributes that the object itself has."""
    slots = [getattr(cls, "__slots__", ()) for cls in type(value).__mro__]
    return {*getattr(value, "__dict__", ()), *chain.from_iterable([s] if isinstance(s, str) else s for s in slots)}


def _reduced(value: Any) -> tuple[Any, ...]:
    """How a pickle has an object made: the function, its arguments, what the object contains, and its state."""
    reducer = copyreg.dispatch_table.get(type(value))
    reduced = reducer(value) if reducer is not None else value.__reduce_ex__(5)
    if isinstance(reduced, str):
        return reduced, None
    function, arguments, state, items, pairs, *_ = chain(reduced, [None] * 4)
    contains = [list(part) if part is not None else None for part in (items, pairs)]
    return getattr(function, "__qualname__", type(function)), arguments, contains, state
