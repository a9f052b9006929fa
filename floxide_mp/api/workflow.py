"""``Workflow``: the declaration of a graph, and its compilation into what the core and the workers need.

What is wrong with a graph is found by ``checks`` when the class is made. How a workflow is run is not decided
here: ``run`` hands over to the launcher that the package installs, and steps of one's own to the backend given.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from ..core.graph import Graph
from ..core.plan import Plan
from ..errors import WorkflowDefinitionError
from ..graph.declaration import Declaration, Drawing, Edges
from ..graph.expand import flatten
from ..graph.validate import as_meant, graph_problems, name_problems, nearest
from .context import Context
from .node import Node, Way, fields_of, way_of
from .nodes import Join
from .stepping import StepBackend, StepCallbacks

_WORDS = ("start", "edges", "on_failure", "context")
UNDECLARED: Final = "__undeclared__"  # what a class has that is about to get the declaration of another: see the codec


@dataclass(frozen=True, slots=True)
class Compiled:
    """A workflow ready to run. ``keys[n]`` are the arms' keys of node ``n``, or None where edges are direct.

    ``ways[n]`` is how the handler of node ``n`` is called, there and in every worker; ``fields[n]``: of its object.
    """

    graph: Graph
    plan: Plan
    nodes: tuple[Node, ...]
    keys: tuple[tuple[Any, ...] | None, ...]
    context: type[Context]
    ways: tuple[Way, ...]
    fields: tuple[tuple[str, ...], ...]


def _to_dot(declared: Declaration) -> str:
    """The graph in Graphviz's language: arms labelled, failure edges dashed and red."""
    from ..graph import draw as picture  # which a worker does not need

    return picture.to_dot(declared)


def _to_mermaid(declared: Declaration) -> str:
    """The graph as a Mermaid flow chart, drawn alike."""
    from ..graph import draw as picture

    return picture.to_mermaid(declared)


class Workflow:
    """Base of workflows. The class body is the declaration; see the README for the form.

    Class attributes:
        start: the node that gets the run's input.
        edges: ``{node: [successor, ...]}``, or ``{node: {key: [successor, ...]}}`` to route by value.
        on_failure: ``{node: [successor, ...]}``; they get the failed item's input.
        context: the ``Context`` dataclass that the steps of a run share.

    An instance may replace nodes: ``Orders(pay=Pay(test=True))``.

    Raises:
        WorkflowDefinitionError: when the class is made, or an instance with other nodes, with everything that is wrong
            with the graph.
    """

    context: ClassVar[type[Context]] = Context
    __declaration__: ClassVar[Declaration | None] = None
    __launcher__: ClassVar[Callable[[str], Callable[..., Any]]]  # gives functions of ``launch``, by name

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if UNDECLARED in vars(cls):
            return
        cls.__declaration__ = _declare(cls)
        cls.__compiled__ = compile_graph(cls.__declaration__)

    __compiled__: ClassVar[Compiled]

    def __init__(self, **nodes: Node) -> None:
        declaration = self._declared()
        compiled = self.__compiled__
        if nodes:
            declaration = _replaced(declaration, nodes)
            compiled = compile_graph(declaration)
        self.declaration = declaration
        self.compiled = compiled

    @property
    def name(self) -> str:
        """The class's name: what runs are listed under."""
        return self.compiled.graph.name

    def run(self, input: Any = None, ctx: Context | None = None, workers: int | None = 0, **options: Any) -> Any:
        """Run to the end and return the ``RunResult``.

        Args:
            input: what the start node gets.
            ctx: the context to start from; made from ``context`` if not given.
            workers: worker processes; 0: every step runs in this thread; None: as many as this process may use CPUs.
            options: as for ``Coordinator`` and ``Coordinator.start``.

        Raises:
            RunFailedError: the run failed; its cause is the node's error.
            RunTimeoutError: it was longer than its ``timeout``.
            SerializationError: the workflow or its input cannot travel to a worker.
            FloxideError, TypeError, ValueError: as from ``Coordinator`` and ``Coordinator.start``.
        """
        return _launcher(self, "run_once")(self, input, ctx=ctx, workers=workers, **options)

    def run_with_checkpoint(
        self,
        input: Any = None,
        *,
        store: Any,
        run_id: str,
        ctx: Context | None = None,
        workers: int | None = 0,
        **options: Any,
    ) -> Any:
        """Run to the end, remembering each step in ``store`` under ``run_id``, and return the ``RunResult``.

        A run of that id that failed, was paused or was left in the middle goes on where it was; of one that is
        completed the result is given, and nothing is run.

        Args:
            input: what the start node gets; the same whenever the run goes on.
            store: a ``CheckpointStore``, such as a ``MemoryStore``, or the path of a ``SQLiteStore``.
            run_id: the run's name.
            ctx: the context to start from; made from ``context`` if not given.
            workers: worker processes; 0: every step runs in this thread; None: as many as this process may use CPUs.
            options: as for ``Coordinator`` and ``Coordinator.start``.

        Raises:
            RunFailedError: the run failed; its cause is the node's error.
            RunTimeoutError: it was longer than its ``timeout``.
            RunCancelledError: the run was cancelled, which is final.
            SerializationError: the workflow or its input cannot travel to a worker.
            StoreError: the store cannot be used, or the run was made with other versions (``StoreVersionError``).
            FloxideError: the id is taken by another workflow, graph, input, ctx or seed.
        """
        options = {"store": store, "run_id": run_id, "ctx": ctx, "workers": workers, "resume": True, **options}
        return _launcher(self, "run_once")(self, input, **options)

    def resume(self, *, store: Any, run_id: str, workers: int | None = 0, **options: Any) -> Any:
        """Go on with a run that failed, was paused or was left in the middle, and return the ``RunResult``.

        Args:
            store: where it is remembered.
            run_id: its name.
            workers: worker processes; 0: every step runs in this thread; None: as many as this process may use CPUs.
            options: as for ``Coordinator``, and ``allow_changes``, ``timeout``, ``failure`` and
                ``timeout_grace`` as for ``Coordinator.resume``.

        Raises:
            NotStartedError: there is no such run.
            AlreadyCompletedError: it is completed or cancelled.
            RunFailedError: it failed again.
            RunTimeoutError: it was longer than its ``timeout``, which counts anew.
            StoreError: there is no such store, or the run was made with other versions (``StoreVersionError``).
            FloxideError: it is a run of another workflow or graph.
        """
        return _launcher(self, "resume_once")(self, store=store, run_id=run_id, workers=workers, **options)

    def start_distributed(
        self,
        ctx: Context | None,
        input: Any,
        backend: StepBackend,
        run_id: str | None = None,
        *,
        seed: int = 0,
        timeout: float | None = None,
        failure: str = "stop",
    ) -> str:
        """Start a run, of which nothing is run yet, and return its id: ``step_distributed`` runs it, or any worker.

        Args:
            ctx: the context to start from; None: made from ``context``.
            input: what the start node gets.
            backend: a ``Coordinator``, or what its ``proxy()`` gave, in another process.
            run_id: a name for the run; made up if not given.
            seed, timeout, failure: as for ``Coordinator.start``, which also says what is raised.

        Raises:
            TypeError: ``backend`` is neither.
        """
        options = {"seed": seed, "timeout": timeout, "failure": failure}
        return _checked(backend).__start_distributed__(self, input, ctx, run_id, **options)

    def step_distributed(
        self, backend: StepBackend, worker_id: int, callbacks: StepCallbacks | None = None, *, wait: float = 0.1
    ) -> tuple[str, Any] | None:
        """Take one item of a run of this workflow, run it in this thread, and commit what came of it: one turn of a
        worker loop of one's own. The nodes that run are this workflow's, whose graph must be the one that was started.

        Args:
            backend: a ``Coordinator``, or what its ``proxy()`` gave, in another process.
            worker_id: a number for this loop, other than those of the coordinator's worker processes, which count from
                0. A loop that begins with the number of another loop takes its place: the other's item goes back, and
                its next step raises.
            callbacks: what is to be told of each item.
            wait: seconds to wait for something to do.

        Returns:
            run id and output, where the step's value left the graph; a list of those that did, where it was a
            ``NextAll``. None in all other cases, which ``callbacks`` tell apart: ``on_item_processed`` gets the outcome
            of an item (``OutcomeKind``: passed on, held, failed, refused; retries and ``on_failure`` are the
            coordinator's affair), ``on_idle`` is called where there was no item to run.

        Raises:
            FloxideError: the coordinator is closed or gone, a worker process or another loop has this ``worker_id``,
                or the run began in another graph than this.
            ValueError: ``worker_id`` is not a whole number of 0 or more, or ``wait`` no number of seconds.
            TypeError: ``backend`` or ``callbacks`` are none.
        """
        told = StepCallbacks() if callbacks is None else callbacks
        return _checked(backend).__step_distributed__(self, worker_id, told, wait)

    to_dot = Drawing(_to_dot)
    to_mermaid = Drawing(_to_mermaid)

    @classmethod
    def _declared(cls) -> Declaration:
        if cls.__declaration__ is None:
            raise WorkflowDefinitionError(f"{cls.__name__} declares no nodes; derive from it and add some")
        return cls.__declaration__

    @staticmethod
    def build(
        name: str,
        nodes: Mapping[str, Node],
        start: str,
        edges: Mapping[str, Iterable[str] | str | Mapping[Any, Iterable[str] | str]] = {},
        on_failure: Mapping[str, Iterable[str] | str] = {},
        context: type[Context] | None = None,
    ) -> type[Workflow]:
        """A workflow class made by a program: as a class body, with names for nodes.

        Args:
            name: of the class; a line of text.
            nodes: the node objects by name.
            start: the name of the one that gets the run's input.
            edges: successors of each by name, one or several; or by key, to route by value.
            on_failure: successors of each, which get the failed item's input.
            context: the ``Context`` dataclass that the steps of a run share; None: they share nothing.

        Raises:
            WorkflowDefinitionError: with everything that is wrong with the graph.
        """
        if not isinstance(name, str) or not name.isprintable() or not name:
            raise WorkflowDefinitionError(f"a workflow's name is a line of text, not {name!r}")
        words = {"start": start, "edges": edges, "on_failure": on_failure, "context": context or Context}
        return type(name, (Workflow,), {"__given__": (nodes, words), "__module__": __name__, "__doc__": None})


def _launcher(workflow: object, name: str) -> Callable[..., Any]:
    if not isinstance(workflow, Workflow):  # the class was asked, and took the input for the instance
        raise TypeError("run was called on the class: an instance runs, as in Orders().run(...)")
    return type(workflow).__launcher__(name)


def _checked(backend: object) -> StepBackend:
    if not isinstance(backend, StepBackend):
        raise TypeError(f"the backend is a Coordinator, or what its proxy() gave, not {backend!r}")
    return backend


# What a node in a class body cannot be called.
_TAKEN = {name for name in vars(Workflow) if not name.startswith("_")} | {"compiled", "declaration"}


def _declare(cls: type[Workflow]) -> Declaration:
    """What a class body, with those it inherits from, says. A node that is replaced keeps its place in the graph."""
    nodes: Any = {}
    names: dict[int, str] = {}  # of node objects, replaced ones too
    words: dict[str, Any] = {}
    problems: list[str] = []
    for base in reversed(cls.__mro__):
        if "__given__" in vars(base):
            given, more = vars(base)["__given__"]
            words.update(more)
            if isinstance(given, Mapping):
                nodes.update(given)
                names.update((id(made), name) for name, made in given.items())
            else:
                problems.append(f"nodes must be a dict of names to nodes, not {given!r}")
            continue
        for name, value in vars(base).items():
            if name in _WORDS:
                words[name] = value
            elif isinstance(value, Node):
                nodes[name] = value
                names[id(value)] = name
                if name in _TAKEN:
                    problems.append(f"a node cannot be called {name}: Workflow has an attribute of that name")
            else:
                nodes.pop(name, None)
    return _Reader(nodes, names, problems).read(cls.__name__, **words)


class _Reader:
    """Turns what a user wrote, node objects or names, into names. What makes no sense becomes a problem."""

    def __init__(self, nodes: dict[str, Node], names: dict[int, str], problems: list[str]) -> None:
        self.nodes = nodes
        self.names = names
        self.problems = problems + _twice(nodes)
        self.problems += [f"a node's name is a text, not {name!r}" for name in nodes if not isinstance(name, str)]

    def read(self, name: str, context: Any, start: Any = None, edges: Any = (), on_failure: Any = ()) -> Declaration:
        return Declaration(
            name,
            self.nodes,
            None if start is None else self._name(start, "start"),
            {at: self._edges(to, f"edges of {at}") for at, to in self._by_name(edges, "edges").items()},
            {
                at: self._successors(to, f"on_failure of {at}")
                for at, to in self._by_name(on_failure, "on_failure").items()
            },
            context,
            {n: self.names[id(v.of)] for n, v in self.nodes.items() if isinstance(v, Join) and id(v.of) in self.names},
            problems=self.problems,
        )

    def _name(self, value: Any, where: str) -> str:
        if isinstance(value, str):
            return value
        if id(value) in self.names:
            return self.names[id(value)]
        what = value.label() if isinstance(value, Node) else repr(value)
        hint = " (an instance is needed, not the class)" if isinstance(value, type) and issubclass(value, Node) else ""
        if inspect.isroutine(value):
            self.problems.append(f"{where}: {value.__qualname__} is a plain function; is @node missing above it?")
        else:
            self.problems.append(f"{where}: {what} is not a node of this workflow{hint}")
        return ""

    def _by_name(self, given: Any, where: str) -> dict[str, Any]:
        if not isinstance(given, Mapping):
            if given != ():
                self.problems.append(f"{where} must be a dict of nodes to lists of nodes, not {given!r}")
            return {}
        found: dict[str, Any] = {}
        for origin, to in given.items():
            at = self._name(origin, where)
            if at in found:
                self.problems.append(f"{where}: {at} is there twice")
            if at:
                found[at] = to
        return found

    def _edges(self, to: Any, where: str) -> Edges:
        if not isinstance(to, Mapping):
            return self._successors(to, where)
        if not to:
            self.problems.append(f"{where}: a dict of routes with no route in it")
        return {key: self._successors(one, where) for key, one in to.items()}

    def _successors(self, to: Any, where: str) -> tuple[str, ...]:
        if isinstance(to, Node | str):
            to = [to]
        # Not a set: its order, which the run's order hangs on, is another one in another process.
        if isinstance(to, Set | Mapping) or not isinstance(to, Iterable):
            self.problems.append(f"{where}: a list of nodes is needed, not {to!r}")
            return ()
        names = [name for value in to if (name := self._name(value, where))]
        for name in dict.fromkeys(names):
            if (count := names.count(name)) > 1:
                often = "twice" if count == 2 else f"{count} times"
                self.problems.append(f"{where}: {name} is there {often}: each successor is named once")
        return tuple(names)


def _twice(nodes: Mapping[str, Any]) -> list[str]:
    names: dict[int, str] = {}
    return [
        f"{names[id(value)]} and {name} are one node object; a node has one place in a graph: "
        f"for the second one, {name} = copy.copy({names[id(value)]})"
        for name, value in nodes.items()
        if names.setdefault(id(value), name) != name
    ]


def _replaced(declaration: Declaration, nodes: dict[str, Node]) -> Declaration:
    problems = [
        f"there is no node {name!r} to replace{nearest(name, declaration.nodes)}"
        for name in nodes
        if name not in declaration.nodes
    ]
    problems += [
        f"{name}: a node is needed, not {value!r}" for name, value in nodes.items() if not isinstance(value, Node)
    ]
    changed = copy.copy(declaration)
    changed.nodes = {**declaration.nodes, **{n: made for n, made in nodes.items() if isinstance(made, Node)}}
    changed.problems = problems + _twice(changed.nodes)
    return changed


def compile_graph(declaration: Declaration) -> Compiled:
    """Check a declaration, with its composites taken apart, and turn it into numbers.

    Raises:
        WorkflowDefinitionError: with every problem that was found.
    """
    wrong_names = name_problems(declaration)
    declaration = flatten(as_meant(declaration))
    wrong_otherwise, plan = graph_problems(declaration)
    problems = dict.fromkeys(wrong_names + wrong_otherwise)
    if problems or plan is None:
        lines = "".join(f"\n  - {problem}" for problem in problems)
        raise WorkflowDefinitionError(
            f"workflow {declaration.name} cannot work:{lines}", problems=tuple(problems), workflow=declaration.name
        )
    keys = tuple(
        tuple(arms) if isinstance(arms := declaration.edges.get(name), Mapping) else None for name in declaration.nodes
    )
    nodes = tuple(declaration.nodes.values())
    handlers = [made.handler() for made in nodes]
    ways, fields = tuple(map(way_of, handlers)), tuple(map(fields_of, handlers))
    return Compiled(plan.graph, plan, nodes, keys, declaration.context, ways, fields)
