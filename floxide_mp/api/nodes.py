"""Nodes that come with the package. Their meaning in the graph is the core's; here is what a user writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .context import Context
from .node import OPTIONS, Node, Way, called, node, way_of, with_options
from .transition import NextAll


class SplitNode(Node):
    """Passes on every value of ``function(value)``, or ``function(ctx, value)``, by itself; there may be none.

    Args:
        function: gives an iterable, for which the same holds as for that of ``NextAll``.
    """

    _way: Way | None = None  # how the function is called: a worker gets it with the node

    def __init__(self, function: Callable[..., Iterable[Any]]) -> None:
        self.function = function

    def process(self, ctx: Context, value: Any) -> NextAll[Any]:
        """Apply the function."""
        return NextAll(called(self.function, self._way or way_of(self.function))(ctx, value))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_way": way_of(self.function)}

    def label(self) -> str:
        return f"SplitNode({getattr(self.function, '__name__', 'function')})"


class Arrivals(list[Any]):
    """What reached a join, in the run's order: a list, with ``by_node`` to tell the branches apart."""

    def __init__(self, pairs: Iterable[tuple[str, Any]] = ()) -> None:
        pairs = list(pairs)
        super().__init__(value for _, value in pairs)
        self.nodes: tuple[str, ...] = tuple(name for name, _ in pairs)

    @property
    def by_node(self) -> dict[str, list[Any]]:
        """The values by the name of the node they came from; a node from which nothing came is an empty list."""
        found = _Branches()
        for name, value in zip(self.nodes, self, strict=True):
            found.setdefault(name, []).append(value)
        return found

    def __reduce__(self) -> Any:
        return Arrivals, (list(zip(self.nodes, self, strict=True)),)


class _Branches(dict[str, list[Any]]):
    def __missing__(self, name: str) -> list[Any]:
        return []


class Join(Node):
    """Fires once per scope, when nothing that is alive in the scope can reach it any more.

    Args:
        function: reduces what arrived, ``f(arrivals)`` or ``f(ctx, arrivals)``, and returns like any node;
            without one the list goes on as it is.
        of: the node whose every fan-out is a scope of its own; None: the whole run is the one scope.
        retry, timeout, serial: as on ``Node``.

    It fires also when nothing arrived (an empty split, branches not taken), with an empty list. What arrived is an
    ``Arrivals``, in the order of the one-process run.

    Raises:
        TypeError: for another option.
    """

    _way: Way | None = None  # how the function is called: a worker gets it with the node

    def __init__(
        self,
        function: Callable[..., Any] | None = None,
        of: Node | str | None = None,
        **options: Any,
    ) -> None:
        self.function = function
        self.of = of
        for name, value in options.items():
            if name not in OPTIONS:
                raise TypeError(f"Join has no option {name!r}")
            setattr(self, name, value)

    def process(self, ctx: Context, arrivals: Arrivals) -> Any:
        """Apply the function."""
        if self.function is None:
            return arrivals
        return called(self.function, self._way or way_of(self.function))(ctx, arrivals)

    def __getstate__(self) -> dict[str, Any]:
        # The graph knows the scope; sending its node along would send it twice.
        way = None if self.function is None else way_of(self.function)
        return {**self.__dict__, "of": None, "_way": way}


class CompositeNode(Node):
    """Runs a workflow's steps as steps of the outer run: each is checkpointed, retried and counted by itself.

    Its input goes to the inner start node, each inner output goes on along the outer edges. Inner nodes see the
    outer run's context. A failure that the inner workflow does not catch goes to the outer ``on_failure``, with
    the input of the inner step that failed. In messages the inner nodes are called ``outer/inner``.

    Args:
        workflow: a ``Workflow`` class or instance.

    Raises:
        TypeError: for something else.
    """

    def __init__(self, workflow: Any) -> None:
        made = workflow() if isinstance(workflow, type) and hasattr(workflow, "__declaration__") else workflow
        if not hasattr(made, "declaration"):  # (``Workflow`` itself is of a module that needs this one)
            raise TypeError(f"CompositeNode takes a Workflow, class or instance, not {workflow!r}")
        self.workflow = made

    def handler(self) -> Callable[..., Any]:
        return _never


class PassOn(Node):
    """Hands on its input: the way into or out of a composite, where the graph needs a step there."""

    def process(self, value: Any) -> Any:
        """The value itself."""
        return value


def _never(value: Any) -> Any:
    raise AssertionError("a composite is replaced by its nodes before anything runs")


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
