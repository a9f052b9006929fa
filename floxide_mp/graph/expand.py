"""Composites and batches become part of the graph around them: a declaration with them in, one without out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..api.node import OPTIONS, Node
from ..api.nodes import BatchNode, CompositeNode, Join, PassOn, Spread
from .declaration import Declaration, Edges


@dataclass
class _Flat:
    """The graph so far. ``entry`` is where edges to a composite or batch lead now, ``opens`` what opens its scope."""

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[str, Edges] = field(default_factory=dict)
    on_failure: dict[str, tuple[str, ...]] = field(default_factory=dict)
    of: dict[str, str] = field(default_factory=dict)
    windows: dict[str, int] = field(default_factory=dict)
    collect: dict[str, Edges] = field(default_factory=dict)  # edges to what a batch ends with, not to its entry
    entry: dict[str, str] = field(default_factory=dict)
    opens: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def put(self, name: str, made: Node) -> None:
        if name in self.nodes:
            self.problems.append(f"{name} is what two nodes are called; a step of a composite or batch has that name")
        self.nodes[name] = made


def flatten(declared: Declaration) -> Declaration:
    """The same graph, each composite replaced by its workflow's nodes, called ``composite/node``, and each batch."""
    if not any(isinstance(made, CompositeNode | BatchNode) for made in declared.nodes.values()):
        return declared
    flat = _Flat()
    for name, made in declared.nodes.items():
        if isinstance(made, CompositeNode):
            _splice(flat, declared, name, flatten(made.workflow.declaration))
            if given := [option for option in OPTIONS if getattr(made, option)]:
                flat.problems.append(f"{name}: a composite has no {' or '.join(given)}; give it to the nodes inside")
        elif isinstance(made, BatchNode):
            _spread(flat, declared, name, made)
        else:
            flat.put(name, made)
            if name in declared.edges:
                flat.edges[name] = declared.edges[name]
            if name in declared.on_failure:
                flat.on_failure[name] = declared.on_failure[name]
            if (of := declared.scope_of(name)) is not None:
                flat.of[name] = of
    entry = flat.entry
    return Declaration(
        name=declared.name,
        nodes=flat.nodes,
        start=None if declared.start is None else entry.get(declared.start, declared.start),
        edges={at: _renamed(to, entry) for at, to in flat.edges.items()} | flat.collect,
        on_failure={at: _through(to, entry) for at, to in flat.on_failure.items()},
        context=declared.context,
        of={join: flat.opens.get(of, of) for join, of in flat.of.items()},
        windows=flat.windows,
        problems=declared.problems + flat.problems,
    )


def _splice(flat: _Flat, declared: Declaration, name: str, inner: Declaration) -> None:
    """Put the nodes of ``inner`` in the place of the composite ``name``."""
    if not issubclass(declared.context, inner.context):
        mine, theirs = declared.context.__name__, inner.context.__name__
        flat.problems.append(f"{name}: {inner.name} needs a {theirs} as context, and {declared.name} has a {mine}")
    names = {n: f"{name}/{n}" for n in inner.nodes}
    start = names[str(inner.start)]
    joins = {n: inner.scope_of(n) for n, made in inner.nodes.items() if isinstance(made, Join)}
    outer_joins = any(declared.scope_of(n) == name for n, made in declared.nodes.items() if isinstance(made, Join))
    way_in = start
    if outer_joins or None in joins.values():
        # Joins of the whole inner run, or of the composite, need one step whose fan-out is their scope.
        way_in = _unused(f"{name}/in", names)
        flat.put(way_in, PassOn())
        flat.edges[way_in] = (start,)
    flat.entry[name] = flat.opens[name] = way_in
    out = declared.edges.get(name, ())
    if isinstance(out, Mapping):
        way_out = _unused(f"{name}/out", names)
        flat.put(way_out, PassOn())
        flat.edges[way_out] = out
        out = (way_out,)
    flat.windows.update({names[n]: size for n, size in inner.windows.items()})
    for n, made in inner.nodes.items():
        flat.put(names[n], made)
        edges = inner.edges.get(n, ())
        if isinstance(edges, Mapping):
            flat.edges[names[n]] = {key: _through(arm, names) or out for key, arm in edges.items()}
        else:
            flat.edges[names[n]] = _through(edges, names) or out
        if n in inner.on_failure:
            flat.on_failure[names[n]] = _through(inner.on_failure[n], names)
        elif name in declared.on_failure:
            flat.on_failure[names[n]] = declared.on_failure[name]
        if n in joins:
            of = joins[n]
            flat.of[names[n]] = way_in if of is None else names[of]


def _spread(flat: _Flat, declared: Declaration, name: str, batch: BatchNode) -> None:
    """Put the steps of a batch in its place: one that spreads the inputs, one for each of them, one that collects."""
    way_in, each = f"{name}/in", f"{name}/each"
    for step, made in ((way_in, Spread()), (each, batch.each()), (name, Join(list))):
        flat.put(step, made)
    flat.edges.update({way_in: (each,), name: declared.edges.get(name, ())})
    flat.collect[each] = (name,)
    flat.of[name], flat.windows[each], flat.entry[name] = way_in, batch.batch_size, way_in
    if name in declared.on_failure:
        flat.on_failure.update(dict.fromkeys((way_in, each, name), declared.on_failure[name]))


def _unused(name: str, names: Mapping[str, str]) -> str:
    while name in names.values():
        name += "_"
    return name


def _through(arm: tuple[str, ...], names: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(names.get(to, to) for to in arm)


def _renamed(edges: Edges, names: Mapping[str, str]) -> Edges:
    if isinstance(edges, Mapping):
        return {key: _through(arm, names) for key, arm in edges.items()}
    return _through(edges, names)
