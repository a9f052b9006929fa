"""``BatchNode``: a node run on each of many inputs. How it becomes part of the graph around it is ``flatten``'s."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..node import OPTIONS, Node, node, with_options
from ..transition import NextAll
from .composite import CompositeNode
from .join import Join


class BatchNode(Node):
    """Takes an iterable of inputs, and passes on the list of what ``inner`` made of each, in their order.

    Each input is a step of the run: checkpointed, retried and counted by itself, on any worker. The values of a
    ``NextAll`` go into the list one by one, ``Hold`` adds nothing. The first input that fails for good fails the batch
    with its error: those that come ``batch_size`` or more behind it are not begun, and ``on_failure`` of the
    batch gets the whole input. In messages the steps are called ``name/each``.

    Args:
        inner: a node, or a function to make one of. The batch has its options (``retry``, ``timeout``, ``serial``),
            and the step of each input has the batch's.
        batch_size: how many inputs may be in flight: number n is begun when all up to n - batch_size are done.

    Raises:
        TypeError: for something that cannot be run on each input.
        ValueError: for a size that is not a whole number of at least 1.
    """

    def __init__(self, inner: Node | Callable[..., Any], batch_size: int) -> None:
        if isinstance(inner, BatchNode | CompositeNode | Join):
            text = f"BatchNode runs a plain node on each input, not a {type(inner).__name__}"
            raise TypeError(
                f"{text}; for more than one step on each: split = SplitNode(list), end = Join(list, of=split), and "
                "edges from split to those steps (a CompositeNode, say), and from them to end"
            )
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number of at least 1, not {batch_size!r}")
        self.inner = inner if isinstance(inner, Node) else node(inner)
        self.batch_size = batch_size
        vars(self).update((option, value) for option in OPTIONS if (value := getattr(self.inner, option)))

    def each(self) -> Node:
        """The node that runs on each input."""
        return with_options(self.inner, **{option: getattr(self, option) for option in OPTIONS})

    def handler(self) -> Callable[..., Any]:
        return _listed


class Spread(Node):
    """The way into a batch: each input goes on by itself."""

    def process(self, inputs: Iterable[Any]) -> NextAll[Any]:
        """All of them at once: how many may be in flight is counted from the first that is not done."""
        return NextAll(list(inputs))


def _listed(inputs: Iterable[Any]) -> list[Any]:
    raise AssertionError("a batch is replaced by its steps before anything runs")
