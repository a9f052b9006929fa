"""Generic nodes: one class, used for several types, and checked by mypy as any generic class.

    python -m floxide_mp examples.generics
    python -m floxide_mp examples.generics --input '"to be or not to be"'

``Top[T]`` keeps the best few of any list. Here one object of it works on words and another on numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from floxide_mp import Arrivals, Join, Node, Workflow, node

T = TypeVar("T")
TEXT = "the quick brown fox jumps over the lazy dog while the other dog sleeps and dreams of the quick fox"


class Top(Node, Generic[T]):
    """The ``count`` largest by ``key``; of equals, the one that came first."""

    def __init__(self, count: int, key: Callable[[T], Any]) -> None:
        self.count = count
        self.key = key

    def process(self, values: Iterable[T]) -> list[T]:
        return sorted(values, key=self.key, reverse=True)[: self.count]


@node
def words(text: str) -> list[str]:
    return text.split()


@node
def lengths(words: list[str]) -> list[int]:
    return [len(word) for word in words]


@node
def frequencies(words: list[str]) -> list[tuple[str, int]]:
    return list(Counter(words).items())


@Join
def summary(found: Arrivals) -> dict[str, Any]:
    by = found.by_node
    return {"frequent": by["frequent"][0], "longest": by["longest"][0]}


class Words(Workflow):
    words, lengths, frequencies, summary = words, lengths, frequencies, summary
    frequent = Top[tuple[str, int]](2, key=lambda pair: pair[1])
    longest = Top[int](3, key=lambda length: length)

    start = words
    edges = {
        words: [lengths, frequencies],
        lengths: [longest],
        frequencies: [frequent],
        frequent: [summary],
        longest: [summary],
    }

    cli_defaults = {"input": TEXT}
