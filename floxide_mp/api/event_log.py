"""``EventLog``: the append-only field of a context, and ``LoggedEvent``, one entry of it with where it came from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from .merge import StepLog, twin

E = TypeVar("E")
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class LoggedEvent(Generic[E]):
    """One write, and where it came from.

    ``order`` is the order key of the step that wrote it, ``(depth, path)``, and ``index`` its place among
    that step's writes: together they are unique in a run and the same on any number of workers.
    """

    event: E
    node: str = ""
    order: tuple[int, tuple[int, ...]] = (0, ())
    index: int = 0


class EventLog(Generic[E]):
    """An append-only log. Inside a step, appending costs no round trip; reading fetches only what is new.

    Iterating gives the events in the run's order, ``len`` how many there are: the committed ones and this step's own.

    Args:
        events: what it begins with.
    """

    __slots__ = ("_events", "_field", "_log")

    def __init__(self, events: Iterable[E] = ()) -> None:
        self._events: list[LoggedEvent[E]] = [LoggedEvent(event, index=i) for i, event in enumerate(events)]
        self._log: StepLog | None = None
        self._field = -1

    def append(self, event: E) -> None:
        """Add an event, as it is now.

        Raises:
            SerializationError: in a step, it cannot be pickled.
        """
        if self._log is None:
            self._events.append(LoggedEvent(event, index=len(self._events)))
        else:
            self._log.write(self._field, event)

    def iter(self) -> Iterator[LoggedEvent[E]]:
        """The entries in the run's order: a child's after its parents', and within a step as appended."""
        if self._log is None:
            yield from self._events
        else:
            # A copy, for this worker's later steps begin with these, and a list, for a look meanwhile may insert.
            yield from copy.deepcopy(self._events)
            yield from list(self._log.read(self._field))

    def __iter__(self) -> Iterator[E]:
        """The events alone, in the same order."""
        if self._log is None:
            return (logged.event for logged in self.iter())
        return self._values(self._log)

    def _values(self, log: StepLog) -> Iterator[E]:
        yield from (logged.event for logged in copy.deepcopy(self._events))
        yield from log.values(self._field)

    def __len__(self) -> int:
        return len(self._events) + (0 if self._log is None else len(self._log.read(self._field)))

    def apply_all(self, state: S, apply: Callable[[E, S], Any]) -> S:
        """Call ``apply(event, state)`` for each event in order; returns ``state``."""
        for event in self:
            apply(event, state)
        return state

    def apply_all_default(self, make: Callable[[], S], apply: Callable[[E, S], Any]) -> S:
        """The same on a fresh ``make()``, which may be a class."""
        return self.apply_all(make(), apply)

    def bind(self, log: StepLog, field: int) -> Self:
        """The field as one step has it: it begins with the same events, and what the step appends goes to ``log``."""
        made = twin(self)
        made._log, made._field = log, field
        return made

    def fold(self, events: Iterable[LoggedEvent[E]]) -> None:
        """Add every one of ``events``, in their order."""
        self._events.extend(events)

    def __reduce__(self) -> Any:
        return _restore, (list(self.iter()),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EventLog) and list(self.iter()) == list(other.iter())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"EventLog({list(self)!r})"


def _restore(events: list[LoggedEvent[Any]]) -> EventLog[Any]:
    log: EventLog[Any] = EventLog()
    log.fold(events)
    return log
