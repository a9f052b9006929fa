"""``Home``: the iterators that a worker's session is to go on with, as far as its coordinator knows."""

from __future__ import annotations

from ..core.records import ItemRecord
from ..core.run_state import RunState
from ..core.types import OrderKey


class IteratorAffinity:
    """See the module. Args: session: its number."""

    def __init__(self, session: int) -> None:
        self.session = session
        self._kept: dict[tuple[str, OrderKey], tuple[RunState, int]] = {}

    def keep(self, run_id: str, state: RunState, item: ItemRecord) -> None:
        """It has given a portion of that item's values."""
        self._kept[run_id, item.order] = state, item.id

    def unwanted(self) -> tuple[tuple[str, OrderKey], ...]:
        """Those that it is not to go on with any more: each is told once."""
        if not self._kept:
            return ()
        found = [key for key, (state, item) in self._kept.items() if not state.holds_iterator_of(item, self.session)]
        for key in found:
            del self._kept[key]
        return tuple(found)

    def leave(self) -> None:
        """The session is over: others go on with them, from the beginning."""
        for state, _ in self._kept.values():
            state.release_affinity(self.session)
