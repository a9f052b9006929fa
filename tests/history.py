"""What was seen of a run from outside, and what must be true of it. Knows nothing of the engine: only what steps did,
what users were told, and what the same workflow gives when nothing disturbs it.

Steps are known by their order keys, events and outputs are whatever can be compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, NamedTuple

Order = tuple[int, tuple[int, ...]]
COMPLETED: Final = "completed"
FINAL: Final = frozenset({COMPLETED, "cancelled"})  # what a run never leaves


class Executed(NamedTuple):
    """A step was begun: what a node itself writes down. ``late``: by a worker that is known to be given up."""

    node: str
    order: Order
    attempt: int
    late: bool = False


class Told(NamedTuple):
    """What a user was told: how the run stands, and all outputs and events, in the order of their commits.

    ``committed`` are the steps whose commits can be seen in the events.
    """

    status: str
    outputs: Sequence[Hashable]
    events: Sequence[Hashable]
    committed: Sequence[Order]


class End(NamedTuple):
    """What there is when all is over. ``outputs`` are in the run's order. ``whole``: it was not cancelled, and did not
    fail on the way.

    The context is here three times: as the result says, as the checkpoint says, and folded from the events.
    """

    status: str
    whole: bool
    outputs: Sequence[Any]
    contexts: tuple[Any, Any, Any]
    committed: Sequence[Order]


class Undisturbed(NamedTuple):
    """The run in which nothing goes wrong. ``steps``: node by order key, also of those that ``failed``, who commit
    no event."""

    status: str
    outputs: Sequence[Any]
    context: Any
    steps: Mapping[Order, str]
    failed: Collection[Order]


class HistoryError(AssertionError):
    """Something happened that must not."""


@dataclass(slots=True)
class History:
    """What happened, in that order."""

    seen: list[Executed | Told] = field(default_factory=list)

    def check(self, undisturbed: Undisturbed, end: End) -> None:
        """Everything that must be true.

        Raises:
            HistoryError: something is not.
        """
        told = [fact for fact in self.seen if isinstance(fact, Told)]
        _check_told(told)
        _check_end(told, end)
        self._check_steps(undisturbed, end)
        if end.whole:
            _same("how it ended", end.status, undisturbed.status)
            _same("the outputs", end.outputs, undisturbed.outputs)
            _same("the context", end.contexts[0], undisturbed.context)

    def _check_steps(self, undisturbed: Undisturbed, end: End) -> None:
        """Each is there, once, was executed before, and not again after somebody was told."""
        known: set[Order] = set()
        executed: set[Order] = set()
        for fact in self.seen:
            if isinstance(fact, Told):
                known.update(fact.committed)
                if not known <= executed:
                    raise HistoryError(f"committed, and never executed: {_some(known - executed)}")
                continue
            executed.add(fact.order)
            node = undisturbed.steps.get(fact.order)
            if node != fact.node:
                raise HistoryError(f"{fact.node} at {fact.order} is no step of the undisturbed run, which has {node}")
            if fact.order in known and not fact.late:
                raise HistoryError(f"{fact.order} was executed again after its commit was told")
        again = _twice(end.committed)
        _hold(not again, f"committed more than once: {_some(again)}")
        should = set(undisturbed.steps) - set(undisturbed.failed)
        strange = set(end.committed) - should
        _hold(not strange, f"committed, and not a step that the undisturbed run commits: {_some(strange)}")
        if end.whole:
            _hold(set(end.committed) == should, f"never committed: {_some(should - set(end.committed))}")
            idle = should - executed  # what failed may have killed its workers before it began
            _hold(not idle, f"never executed: {_some(idle)}")


def fold(events: Iterable[tuple[Order, int, str, Any]]) -> dict[str, list[Any]]:
    """The context that (order, index, field, value) make, in any order: by field, in the run's order."""
    context: dict[str, list[Any]] = {}
    for _, _, name, value in sorted(events, key=lambda event: event[:2]):
        context.setdefault(name, []).append(value)
    return context


def _check_told(told: Sequence[Told]) -> None:
    """What was told once stays so: there once, in its place."""
    for one, other in pairwise(told):
        for what, before, after in (("outputs", one.outputs, other.outputs), ("events", one.events, other.events)):
            if after[: len(before)] != before:
                raise HistoryError(f"{what} that were told are not there any more: {before}, then {after}")
        if one.status in FINAL and (one.status != other.status or one[1:] != other[1:]):
            raise HistoryError(f"something happened after the end: {one}, then {other}")
    if told:
        for what, records in (("output", told[-1].outputs), ("event", told[-1].events)):
            if len(set(records)) != len(records):
                raise HistoryError(f"an {what} is there more than once: {_twice(records)[:3]}")


def _check_end(told: Sequence[Told], end: End) -> None:
    first, *others = end.contexts
    for other in others:
        _same("the context, its checkpoint or what its events make", first, other)
    if told:
        _same("how the run ended", end.status, told[-1].status)
        _same("what is committed", Counter(end.committed), Counter(told[-1].committed))


def _same(what: str, one: Any, other: Any) -> None:
    if one != other:
        raise HistoryError(f"{what} should be the same:\n  {one}\n  {other}")


def _hold(good: bool, text: str) -> None:
    if not good:
        raise HistoryError(text)


def _twice(records: Sequence[Any]) -> list[Any]:
    return [record for record, count in Counter(records).items() if count > 1]


def _some(orders: Iterable[Order]) -> str:
    return ", ".join(map(str, sorted(orders)[:5]))
