"""The values of a run's ``Fixed`` fields, in a worker's process. Each is opened once, for all steps, since that may be
dear (a model, a client); so what a step does to one is looked for when the step is over: else the answer would depend
on which steps the same worker has run before. A value that has only got attributes that it had not before (a cache that
is filled at the first use) has not changed.
"""

from __future__ import annotations

import copyreg
import dataclasses
import enum
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from dataclasses import field as part
from itertools import chain
from typing import Any, Final

from ..clock import monotonic
from ..wire import oob_pickle

_PLAIN: Final = frozenset({str, bytes, int, float, complex, bool, bytearray, types.NoneType, set, frozenset})
_BY_NAME: Final = (type, types.BuiltinFunctionType, types.ModuleType)

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
    if kind in _PLAIN or isinstance(before, _BY_NAME):
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


MOST: Final = 1 << 15  # bytes of a pickle, and of buffers, that are compared after a step that looked: some 0.1 ms
FIRST: Final = 0.05  # seconds of looks at larger ones that a worker has in any case, so that short runs are looked at
SHARE: Final = 0.01  # ... and of the time of the run in this worker, from then on

CHANGED: Final = (
    "the step of {node} has changed the value of {field}, a Fixed, which is one for all steps of a worker: copy it "
    "first (copy.deepcopy({field}.value)); what other steps are to see belongs into the context (SharedState, Merge, "
    "EventLog). A cache in such a value may be an attribute that is not there, or None, at first, or one that its "
    "__getstate__ leaves out"
)

CHANGED_EARLIER: Final = (
    "one of the steps of {nodes} has changed the value of {field}, a large Fixed, which is one for all steps of a "
    "worker and is not looked at after each step: steps that ran in this worker since the last look may have seen the "
    "change, so results of this run may be wrong, and it is not to be resumed: mend the step, and start a new run. "
    "Copy what a step is to change (copy.deepcopy({field}.value)); what other steps are to see belongs into the "
    "context (SharedState, Merge, EventLog)"
)

_ATOMS: Final = frozenset({str, bytes, int, float, complex, bool, types.NoneType, range, types.EllipsisType})
_NAMED: Final = (enum.Enum, type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)
# By name: a worker that has none of these has not imported their modules.
_CONSTANT: Final = frozenset(
    {
        *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
        *(f"pathlib.{name}" for name in ("PosixPath", "PurePosixPath", "PureWindowsPath")),
        *("decimal.Decimal", "fractions.Fraction", "uuid.UUID", "re.Pattern", "zoneinfo.ZoneInfo"),
    }
)


class ChangedEarlierError(Exception):
    """The value of a ``Fixed`` has changed, and not only the last step may have done that.

    Args:
        field: its number.
        nodes: names of the nodes whose steps have had the value since the last look.
    """

    def __init__(self, field: int, nodes: Iterable[str]) -> None:
        super().__init__(field, nodes)
        self.field, self.nodes = field, sorted(nodes)


@dataclass(slots=True)
class _Kept:
    value: Any
    witness: oob_pickle.Apart | None  # of how it is; None: it cannot change, or that cannot be seen
    cost: float = 0.0  # seconds that a look takes; 0: so few that there is one after each step
    ran: set[str] = part(default_factory=set)  # nodes whose steps have had it since the last look
    seen: bool = False  # there was a look


class FixedValues:
    """The values by number of field."""

    def __init__(self) -> None:
        self._kept: dict[int, _Kept] = {}
        self._changed: dict[int, oob_pickle.Apart] = {}  # how they were
        self._begun = monotonic()
        self._spent = 0.0  # seconds of looks at large values

    def open(self, field: int, value: Any) -> Any:
        """The value for a step. ``value`` is the one that the worker has opened, which no step has had in its hands
        before it is given out here.
        """
        kept = self._kept.get(field)
        if kept is None:
            before = self._changed.pop(field, None)
            kept = self._kept.setdefault(field, _keep(value if before is None else before.open()))
        return kept.value

    def changed(self, fields: Iterable[int], node: str = "") -> list[int]:
        """Those of the fields whose values a step of ``node`` has changed. The next step has these as they were.

        Raises:
            ChangedEarlierError: one of them has changed, and another step may have done that.
        """
        changed = [field for field in fields if self._is_changed(field, node)]
        earlier = {field: ran for field in changed if (ran := self._kept[field].ran)}
        self.restore(changed)
        for field, ran in earlier.items():
            raise ChangedEarlierError(field, ran | {node})
        return changed

    def restore(self, fields: Iterable[int]) -> None:
        """The next step has these as they were, whatever was done to them."""
        for field in fields:
            kept = self._kept.get(field)
            if kept is not None and kept.witness is not None:
                self._changed[field] = kept.witness
                del self._kept[field]

    def _is_changed(self, field: int, node: str) -> bool:
        kept = self._kept.get(field)
        if kept is None or kept.witness is None:
            return False
        if not kept.cost:
            return self._differs(field, kept, kept.witness, MOST)
        before = monotonic()
        if kept.seen and self._spent + kept.cost > FIRST + SHARE * (before - self._begun):
            kept.ran.add(node)
            return False
        if self._differs(field, kept, kept.witness, oob_pickle.MOST_READ_ONLY):
            return True
        kept.cost = monotonic() - before
        self._spent += kept.cost
        kept.seen = True
        kept.ran.clear()
        return False

    def _differs(self, field: int, kept: _Kept, witness: oob_pickle.Apart, most: int) -> bool:
        if witness.same(oob_pickle.apart(kept.value, most, MOST)):
            return False
        if not only_grown(witness.open, kept.value):
            return True
        self._kept[field] = _keep(kept.value)
        return False


def _keep(value: Any) -> _Kept:
    if is_constant(value):
        return _Kept(value, None)
    value = oob_pickle.read_only(value, MOST)
    before = monotonic()
    witness = witness_of(value, oob_pickle.MOST_READ_ONLY)
    if witness is None or len(witness.stream) <= MOST:
        return _Kept(value, witness)
    return _Kept(value, witness, (monotonic() - before) / 2)


def witness_of(value: Any, most: int = MOST) -> oob_pickle.Apart | None:
    """The value as it is now. Of what is pickled in another way each time, or in more than ``most`` bytes, there is
    none; but which of its parts are one object, and in which order a set has them, may be another than in the pickle
    that the value came with.
    """
    first, second = oob_pickle.apart(value, most, MOST), oob_pickle.apart(value, most, MOST)
    if first is None:
        return None
    # Pandas has its buffers anew for each pickle.
    return next((witness for witness in (first, first._replace(places=[])) if witness.same(second)), None)


def is_constant(value: Any) -> bool:
    """Whether nobody can change the value, as far as that can be told: numbers, texts, paths, and tuples of such."""
    kind = type(value)
    if (
        kind in _ATOMS
        or isinstance(value, _NAMED)
        or f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}" in _CONSTANT
    ):
        return True
    if isinstance(value, tuple | frozenset):
        return not hasattr(value, "__dict__") and all(map(is_constant, value))
    parameters = getattr(kind, "__dataclass_params__", None)
    if parameters is not None and parameters.frozen:
        return all(is_constant(getattr(value, field.name)) for field in dataclasses.fields(value))
    return False
