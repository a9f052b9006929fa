"""``Feed``: what the coordinator, in its process, takes the input of a run from that is given bit by bit."""

from __future__ import annotations

from typing import Protocol


class Feed(Protocol):
    """Where the input of a run comes from that is given bit by bit."""

    def __len__(self) -> int:
        """How many values are there."""

    def pop(self) -> bytes | None:
        """The next one, if there is one."""

    @property
    def exhausted(self) -> bool:
        """Whether there is none, and none will come."""

    def shut(self) -> None:
        """Nothing is taken any more."""
