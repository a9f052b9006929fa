"""``CompositeNode``: a workflow as a node of another. How it becomes part of the outer graph is ``flatten``'s."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..node import Node

if TYPE_CHECKING:
    from collections.abc import Callable


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
