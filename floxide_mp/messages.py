"""Every record that travels between a worker and its coordinator: the wire format, on one page.

Lives in both processes. User values are opaque in all of it: bytes, or ``Shared``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from .core.types import ErrorRecord, OrderKey, Packed, Payload, StreamOffset

if TYPE_CHECKING:  # a worker has no use for these
    pass


def failed(result: Result) -> bool:
    """Whether it is of a step that failed."""
    return type(result) is tuple and result[0] == FAIL


ONE_BY_ONE: Final = 1e-9  # as ``want``: every lease is one item

# -- what travels between a worker and its coordinator ------------------------------------------------------------

NEXT: Final = 0  # outcomes of a step, as they travel
NEXT_ALL: Final = 1
HOLD: Final = 2
FAIL: Final = 3


# Grants and results of single steps are plain tuples, not named ones: there is one of each per step, and a named tuple
# costs half a microsecond more to make, pickle and open.

Grant: TypeAlias = tuple[int, int, int, OrderKey, Payload, ErrorRecord | None]
"""One item for a worker: item id, number of the node, attempt, order key, payload, error (for ``on_failure`` nodes)."""

_Pairs: TypeAlias = tuple[tuple[int, Payload], ...]
Writes: TypeAlias = tuple[tuple[int, Packed], ...]
StepResult: TypeAlias = tuple[int, _Pairs, Writes, ErrorRecord | None, bool]
"""What came of one step: outcome, values as (arm, payload), writes as (field of the context, payload), the error of
a failure, and whether it may be tried again."""


class Grants(NamedTuple):
    """Items side by side for a worker, all at the first attempt. Id and order key are those of the first of them."""

    first: int
    node: int
    order: OrderKey
    payloads: list[Payload]


class Results(NamedTuple):
    """What came of steps side by side, each with one value, all by one arm. ``writes`` of each, or none at all."""

    branch: int
    payloads: list[Payload]
    writes: list[Writes]


class FanOut(NamedTuple):
    """What came of one step that gave many values (``NEXT_ALL``), all by one arm."""

    branch: int
    payloads: list[Payload]
    writes: Writes


class PartialResult(NamedTuple):
    """Some of what one step gives by an iterator (``NEXT_ALL``), which the worker keeps: it has more. ``sign``: as in
    ``StreamOffset``, ``digest`` and ``hash_probe`` of all that it has given."""

    part: StepResult | FanOut
    sign: tuple[int, int] = (0, 0)


class Suspect(NamedTuple):
    """What came of a step that saw ``ctx.cancelled``: maybe half an answer. If the run may go on, it is undone."""

    part: StepResult | FanOut


class ReadAndWritten(NamedTuple):
    """What came of a serial step that has read the context and written to it: its writes go behind what it has read."""

    part: StepResult | FanOut


class Unreadable(NamedTuple):
    """What an item needs cannot be opened (a class is not there, say): it is as it was, and the run fails.

    With a ``failure``, the item's own bytes may be bad: the step has failed with that, if the coordinator finds so.
    """

    error: ErrorRecord
    failure: StepResult | None = None


Outcome: TypeAlias = StepResult | FanOut | PartialResult | Suspect | ReadAndWritten | Unreadable
"""What came of one step, or of the next part of one."""

Result: TypeAlias = Outcome | Results


class Lease(NamedTuple):
    """Items of one run, in the order they are to be run. Recorded by the coordinator before it is handed out.

    ``key`` is that of the run's workflow, which is another one after a resume with another. ``life`` grows when the
    run was read anew from the store: what was known of its events may not have come to be. ``ahead``: whether the
    worker may go on with their successors (``Description``). ``given``: by the one item, which goes on behind that.
    """

    id: int
    run_id: str
    key: bytes
    items: tuple[Grant | Grants, ...]
    generation: int = 0
    chain: bool = False
    given: StreamOffset | None = None


def only(lease: Lease) -> Grant:
    """The item of a lease of one."""
    (item,) = lease.items
    assert not isinstance(item, Grants)
    return item


class Report(NamedTuple):
    """The results of a lease's next items, in order.

    With ``last``, the lease is over: its items without a result were not started and go back. Otherwise the
    item after the results is running and stays leased; those behind it go back.
    Results behind those of the lease's items are of their successors, with which the worker went on; if that is all
    there is to tell of these, because the first of them is running, ``ahead`` says so.
    ``spent`` is (node, steps, seconds): what the coordinator sizes later leases by.
    """

    lease_id: int
    results: tuple[Result, ...]
    spent: tuple[tuple[int, int, float], ...]
    last: bool = True
    chained: bool = False


class Reply(NamedTuple):
    """``stop`` asks the worker to end; ``waited`` is how many seconds there was nothing to hand out; ``refused`` says
    that not all that was reported is committed. ``running`` is the id of the item that stays leased, after a report
    that was not the last. ``more``: there is so much to do that it is worth asking for the next lease at once.
    ``dropped``: iterators (run, order key of the item) that this worker is not to keep any longer; ``over``: runs."""

    leases: tuple[Lease, ...]
    stop: bool
    waited: float
    refused: bool = False
    running: int = 0
    more: bool = False
    dropped: tuple[tuple[str, OrderKey], ...] = ()
    over: tuple[str, ...] = ()


class Description(NamedTuple):
    """A run, for a worker that meets it. ``workflow`` is None for a worker that has the one with this ``key``.

    ``ahead`` has for each node and arm the node with whose item a worker may go on by itself, or -1.
    ``fields`` are as in ``RunRecord``, and ``hashes`` the ``hash_seed`` and ``hash_probe`` there.
    """

    key: bytes
    workflow: bytes | None
    context: Packed
    seed: int
    chained: tuple[tuple[int, ...], ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    hashes: tuple[int | None, int | None] = (None, None)


Entry: TypeAlias = tuple[OrderKey, int, str, int, Packed]
"""One event, as it travels: the fields of an ``EventRecord``."""


class EventPage(NamedTuple):
    """Some of a run's committed events, in the order of commits; ``more`` says that there are others behind them.

    Travels as columns: of a million named tuples, the pickle takes seven times as long.
    """

    entries: Sequence[Entry]
    more: bool

    def __reduce__(self) -> Any:
        return _page, (tuple(map(list, zip(*self.entries, strict=True))), self.more)


def _page(columns: tuple[list[Any], ...], more: bool) -> EventPage:
    return EventPage(list(zip(*columns, strict=True)), more)
