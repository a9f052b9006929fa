"""``Tally``: what a run's rows in the other tables add up to. It is sealed with the run's progress, so a row that is
missing, or is back, shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Tally:
    """As of a run's last commit.

    Attributes:
        revision: how many commits there have been.
        items: unfinished items.
        blocks, arrivals, scopes, spoilt, marks: rows of these tables.
        arrived, held: how many arrivals and held items there have ever been: the last numbers given.
        events, outputs, errors: rows of these tables, and ``..._seal`` the seal of the last one.
        steps: rows of this table, and ``done`` the sum of what they say.
        large: how many values there have ever been that are too large for a row: the last number given.
        living: of the run's row and all rows that come and go (``integrity.RowSum``).
    """

    revision: int = 0
    items: int = 0
    arrivals: int = 0
    arrived: int = 0
    scopes: int = 0
    spoilt: int = 0
    marks: int = 0
    held: int = 0
    events: int = 0
    outputs: int = 0
    errors: int = 0
    event_seal: bytes = b""
    output_seal: bytes = b""
    error_seal: bytes = b""
    steps: int = 0
    done: int = 0
    blocks: int = 0
    large: int = 0
    living: bytes = b""

    def columns(self) -> tuple[Any, ...]:
        """Its values, in order."""
        return (
            *(self.revision, self.items, self.arrivals, self.arrived, self.scopes, self.spoilt),
            *(self.marks, self.held, self.events, self.outputs, self.errors),
            *(
                self.event_seal,
                self.output_seal,
                self.error_seal,
                self.steps,
                self.done,
                self.blocks,
                self.large,
                self.living,
            ),
        )
