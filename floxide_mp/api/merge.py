"""Context fields that are one value: ``Fixed``, ``SharedState`` and the base of user-made ones, ``Merge``.

A field is *free* in the caller's hands and *bound* inside a step. Bound, its writes are events on the
run's log and its reads are a fold over that log; who records and folds is the ``Scheduler`` it is bound to.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar

T = TypeVar("T")
B = TypeVar("B")


class StepLog(Protocol):
    """What a bound field talks to: the log of the run, as this step may see and extend it."""

    def write(self, field: int, value: Any) -> None:
        """Record one write of this step, as ``value`` is now."""

    def read(self, field: int) -> Sequence[Any]:
        """All writes to that field: ``LoggedEvent`` objects in order, this step's own last. Not to be changed."""

    def values(self, field: int) -> Iterator[Any]:
        """The same, the events alone: those that are there now, each decoded when it is asked for."""

    def fold(self, field: int, initial: Merge) -> Merge:
        """A copy of ``initial`` with all writes to that field merged in."""

    def fixed(self, field: int, value: Any) -> Any:
        """The ``value`` of a ``Fixed`` field, as it was when the run started, whatever other steps did to it."""


def twin(original: B) -> B:
    """Another object of the same class with the same attributes, whatever its class thinks of copies."""
    made = object.__new__(type(original))
    state = object.__getstate__(original)
    for fields in state if isinstance(state, tuple) else (state,):  # (of __dict__, of __slots__)
        for name, value in (fields or {}).items():
            object.__setattr__(made, name, value)
    return made


class Fixed(Generic[T]):
    """A value given when the run starts and never changed.

    Each worker process opens it once for all steps of the run, so steps leave it as it is, and copy what they are to
    change. Large arrays in it cannot be written to (NumPy: ``ValueError``). A step that changes anything else
    (``ctx.table.value["a"] = 1``) fails, and others do not see the change. Where the value, without arrays, texts and
    ``bytes``, is more than 32 KiB as a pickle, there is not a look after each step, but for 50 ms and 1 % of the time
    of each worker; a change that is found later fails the run. One after the last look, or in a value of more than
    32 MiB, or that the worker cannot pickle, is not noticed. An attribute that was not there, or None, may be filled:
    a cache.
    """

    __slots__ = ("_field", "_log", "_value")

    _value: T
    _log: StepLog | None
    _field: int

    def __init__(self, value: T) -> None:
        for name, given in (("_value", value), ("_log", None), ("_field", -1)):
            object.__setattr__(self, name, given)

    @property
    def value(self) -> T:
        """The value. It cannot be set (AttributeError)."""
        if self._log is None:
            return self._value
        value: T = self._log.fixed(self._field, self._value)
        return value

    def get(self) -> T:
        """The value."""
        return self.value

    def bind(self, log: StepLog, field: int) -> Self:
        made = twin(self)
        object.__setattr__(made, "_log", log)
        object.__setattr__(made, "_field", field)
        return made

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "value":
            raise AttributeError(
                "the value of a Fixed is given when the run starts, and never set: for a value that steps set, "
                "make the field a SharedState; before the run, make a new Fixed(...)"
            )
        object.__setattr__(self, name, value)

    def __getstate__(self) -> dict[str, Any]:
        return {"value": self.value}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Fixed.__init__(self, state["value"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fixed) and bool(self.value == other.value)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Fixed({self.value!r})"


class SharedState(Generic[T]):
    """One value that steps may set; of all sets, the last in the run's order counts."""

    __slots__ = ("_field", "_log", "_value")

    def __init__(self, value: T) -> None:
        self._value = value
        self._log: StepLog | None = None
        self._field = -1

    def get(self) -> T:
        """The value as of now: what this step set, else the last committed one."""
        if self._log is None:
            return self._value
        events = self._log.read(self._field)
        # A copy of what there was at first: this worker's later steps begin with it, too.
        return events[-1].event if events else copy.deepcopy(self._value)

    def set(self, value: T) -> None:
        """From here on it is this value, as it is now.

        Raises:
            SerializationError: in a step, it cannot be pickled.
        """
        if self._log is None:
            self._value = value
        else:
            self._log.write(self._field, value)

    def bind(self, log: StepLog, field: int) -> Self:
        """The field as one step has it: what it is at first is the same, and what the step sets goes to ``log``."""
        made = twin(self)
        made._log, made._field = log, field
        return made

    def fold(self, events: Iterable[Any]) -> None:
        """Take over every set of ``events`` (``LoggedEvent`` objects), in their order."""
        for logged in events:
            self._value = logged.event

    def __reduce__(self) -> Any:
        return SharedState, (self._value,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SharedState) and bool(self.get() == other.get())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"SharedState({self.get()!r})"


class Merge(ABC):
    """Base of values that many steps add to at once: a sum, a maximum, a set, a histogram.

    Derive, implement ``merge``, and use the class as a field of a ``Context``. In a step,
    ``ctx.total.merge(Total(5))`` is a write and never waits; any other look at ``ctx.total`` reads the
    value as of now. ``merge`` should be associative, since that is what makes the order of workers not matter.
    """

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Take ``other`` into this value, in place."""

    def fold(self, events: Iterable[Any]) -> None:
        """Merge every value of ``events`` (``LoggedEvent`` objects), in their order."""
        for logged in events:
            # A merge may keep parts of its argument and change them later: the log's copy must not change.
            self.merge(copy.deepcopy(logged.event))


class MergeCell:
    """Stands in a step for a ``Merge`` field: ``merge`` is recorded, everything else reads the folded value."""

    __slots__ = ("_field", "_initial", "_log")

    def __init__(self, initial: Merge, log: StepLog, field: int) -> None:
        object.__setattr__(self, "_initial", initial)
        object.__setattr__(self, "_log", log)
        object.__setattr__(self, "_field", field)

    def merge(self, other: Merge) -> None:
        self._log.write(self._field, other)

    def _now(self) -> Merge:
        now: Merge = self._log.fold(self._field, self._initial)
        return now

    def __getattr__(self, name: str) -> Any:
        return getattr(self._now(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"write to this field with .merge(...), not by setting {name!r}: the write would be lost")

    def __eq__(self, other: object) -> bool:
        return bool(self._now() == other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._now())

    def __reduce__(self) -> Any:
        return _itself, (self._now(),)

    def __bool__(self) -> bool:
        return bool(self._now())

    def __contains__(self, part: Any) -> bool:
        return part in self._now()  # type: ignore[operator]

    def __getitem__(self, key: Any) -> Any:
        return self._now()[key]  # type: ignore[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._now())  # type: ignore[call-overload, no-any-return]

    def __len__(self) -> int:
        return len(self._now())  # type: ignore[arg-type]


def _itself(value: Merge) -> Merge:
    return value
