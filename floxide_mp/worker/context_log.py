"""``RunLog``: a worker's copy of one run's event log, as far as its steps have looked. Any number of threads may look
at the same time: a node may have threads of its own. What the step that runs adds to it is in ``step_view``.
"""

from __future__ import annotations

import copy
import threading
from bisect import bisect, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from typing import Any, Final

from ..api.event_log import LoggedEvent
from ..api.merge import Merge
from ..messages import Entry, EventPage
from ..wire import codec

LAG: Final = 64  # events at the end that are folded anew at each look: where late ones of slower workers come in
FEW: Final = 16  # new events that are put in their places one by one

_number: Final = itemgetter(3)
_payload: Final = itemgetter(4)


def _logged(entry: Entry) -> LoggedEvent[Any]:
    order, index, node, _, payload = entry
    return LoggedEvent(codec.decode(payload), node, order, index)


def pages(since: int, fetch: Callable[[int], EventPage]) -> Iterator[Sequence[Entry]]:
    """A run's events from number ``since`` on."""
    more = True
    while more:
        entries, more = fetch(since)
        if not entries:
            return
        yield entries
        since += len(entries)


@dataclass(slots=True, eq=False)
class _Field:
    """One field's events in the run's order, and the fold of the first ``folded`` of them.

    ``shuffled`` counts how often an event was put before one that was there already.
    """

    entries: list[Entry] = field(default_factory=list)
    folded: int = 0
    value: Merge | None = None
    shuffled: int = 0

    def add(self, new: list[Entry]) -> None:
        """Put them in their places. No two entries have the same place, so what is behind it is never compared."""
        at = bisect(self.entries, min(new))
        self.shuffled += at < len(self.entries)
        if len(new) <= FEW:
            for entry in new:
                insort(self.entries, entry)
        else:
            self.entries[at:] = sorted(self.entries[at:] + new)  # which takes little: both are in order, or nearly
        if at < self.folded:
            self.folded, self.value = 0, None


class _Fresh(Sequence[LoggedEvent[Any]]):
    """Events decoded anew at each look: what a step does to them is not seen by the worker's next step."""

    def __init__(self, lock: threading.RLock, committed: list[Entry], own: list[Entry]) -> None:
        self._lock = lock  # another thread's look may put entries among those that are committed
        self._committed = committed
        self._own = own

    def __len__(self) -> int:
        return len(self._committed) + len(self._own)

    def __getitem__(self, at: int) -> LoggedEvent[Any]:  # type: ignore[override]
        with self._lock:
            at = range(len(self))[at]
            before = len(self._committed)
            entry = self._committed[at] if at < before else self._own[at - before]
        return _logged(entry)

    def __iter__(self) -> Iterator[LoggedEvent[Any]]:
        with self._lock:
            committed = list(self._committed)
        return map(_logged, chain(committed, self._own))


class RunLog:
    """The committed events of one run. A look fetches what is new, so it costs nothing per event already seen.

    No code of users runs, and nothing is asked of the coordinator, while the lock is held; it is one that the same
    thread may take again, since the garbage collector runs finalizers anywhere, and these may look, too.

    Args:
        run_id, seed: of the run.
        fetch: gives the run's committed events from a number on, a page at a time.
    """

    def __init__(self, run_id: str, seed: int, fetch: Callable[[int], EventPage]) -> None:
        self.run_id, self.seed = run_id, seed
        self._fetch = fetch
        self._lock = threading.RLock()
        self._seen = 0
        self._fields: dict[int, _Field] = {}

    def read(self, field: int, own: list[Entry]) -> Sequence[LoggedEvent[Any]]:
        """All events of a field of the context, those of the step that looks (its ``own``) last."""
        return _Fresh(self._lock, self._look(field).entries, own)

    def values(self, field: int, own: list[Entry]) -> Iterator[Any]:
        """The values of the same events as of now, each decoded when it is asked for."""
        known = self._look(field)
        with self._lock:
            payloads = list(map(_payload, chain(known.entries, own)))
        return codec.decode_each(payloads)

    def fold(self, field: int, initial: Merge, own: list[Entry]) -> Merge:
        """A copy of ``initial`` with the same events merged in."""
        known = self._look(field)
        with self._lock:
            # The fold is taken out: another thread that looks meanwhile makes its own, and a merge that raises leaves
            # nothing that is half done.
            folded, value, shuffled = known.folded, known.value, known.shuffled
            known.folded, known.value = 0, None
            entries = known.entries[folded:]
        settled = max(folded, folded + len(entries) - LAG)
        if settled > folded:
            value = copy.deepcopy(initial) if value is None else value
            value.fold(map(_logged, entries[: settled - folded]))
        now = copy.deepcopy(initial if value is None else value)
        with self._lock:
            if known.shuffled == shuffled and known.folded <= settled:
                known.folded, known.value = settled, value
        now.fold(map(_logged, entries[settled - folded :]))
        now.fold(map(_logged, own))
        return now

    def see_all(self) -> None:
        """Have here all that is committed by now."""
        self._look(0)

    def in_child(self) -> None:
        """A step has forked, and this is the child, where no other thread will ever let go of the lock."""
        self._lock = threading.RLock()

    def _look(self, field: int) -> _Field:
        """The field, with all events that are committed by now."""
        while True:
            seen = self._seen
            new: list[Entry] = []
            for entries in pages(seen, self._fetch):
                new += entries
            with self._lock:
                if self._seen != seen:
                    continue  # another thread has looked meanwhile, and has put the same events in their places
                self._seen += len(new)
                for number in set(map(_number, new)):
                    self._field(number).add([entry for entry in new if entry[3] == number])
                return self._field(field)

    def _field(self, number: int) -> _Field:
        found = self._fields.get(number)
        if found is None:
            found = self._fields[number] = _Field()
        return found
