"""``Extents``: stretches of a file that are free. Plain numbers: what is in them is ``arena``'s."""

from __future__ import annotations

from bisect import bisect


class Extents:
    """Free stretches in the order of their offsets; neighbours become one. ``total`` is how many bytes they have."""

    def __init__(self) -> None:
        self._found: list[tuple[int, int]] = []  # (offset, size)
        self.total = 0

    def add(self, offset: int, size: int) -> None:
        """One more, which overlaps none of them."""
        found = self._found
        at = bisect(found, (offset, 0))
        self.total += size
        if at < len(found) and found[at][0] == offset + size:
            size += found.pop(at)[1]
        if at and sum(found[at - 1]) == offset:
            offset, before = found.pop(at - 1)
            size, at = size + before, at - 1
        found.insert(at, (offset, size))

    def take(self, size: int) -> int | None:
        """The offset of so many bytes that were free, cut from the smallest stretch that has them; None: none has."""
        fits = [(length, at) for at, (_, length) in enumerate(self._found) if length >= size]
        if not fits:
            return None
        length, at = min(fits)
        offset = self._found[at][0]
        if length == size:
            del self._found[at]
        else:
            self._found[at] = offset + size, length - size
        self.total -= size
        return offset

    def cut(self, most: int) -> list[tuple[int, int]]:
        """Take out what is more than ``most`` bytes, of the smallest stretches first: what is left is of most use."""
        out = []
        for size, offset in sorted((size, offset) for offset, size in self._found) if self.total > most else ():
            spare = min(size, self.total - most)
            if spare <= 0:
                break
            at = bisect(self._found, (offset, 0))
            self._found[at : at + 1] = [(offset, size - spare)] if spare < size else []
            self.total -= spare
            out.append((offset + size - spare, spare))
        return out
