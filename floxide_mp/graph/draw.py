"""Pictures of a declared graph: Graphviz and Mermaid text.

A point leads to where it starts. Arms are labelled; failure edges are dashed and red; joins, batches and nodes after
which nothing comes have shapes or borders of their own. A composite is a frame around the steps of its workflow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..api.nodes import BatchNode, CompositeNode, Join
from ..api.route import describe
from .declaration import Declaration

_END = "(end)"  # drawn for arms that lead nowhere beside arms that do
_START = "(start)"


@dataclass(frozen=True, slots=True)
class _Box:
    """A node. ``inside`` is what a composite is of."""

    path: str
    lines: tuple[str, ...]
    shape: str  # step, join or batch
    last: bool
    inside: _Drawing | None = None

    def entry(self) -> str:
        """The step that an edge to this box leads to."""
        return self.path if self.inside is None else self.inside.boxes[self.inside.start].entry()

    def exits(self) -> list[str]:
        """The steps that its outputs come from."""
        if self.inside is None:
            return [self.path]
        ends = {arrow.at for arrow in self.inside.arrows if arrow.to is None}
        return [path for box in self.inside.boxes.values() if box.last or box.path in ends for path in box.exits()]


@dataclass(frozen=True, slots=True)
class _Arrow:
    """From one box to another, or to the end (None). ``label`` is the arm's key."""

    at: str
    to: str | None
    label: str = ""
    failure: bool = False


@dataclass(frozen=True, slots=True)
class _Drawing:
    """One workflow. ``prefix`` stands before its nodes' names in paths, as it does in messages."""

    prefix: str
    start: str
    boxes: dict[str, _Box]  # by path
    arrows: tuple[_Arrow, ...]

    def everything(self) -> Iterator[_Box]:
        for box in self.boxes.values():
            yield box
            if box.inside is not None:
                yield from box.inside.everything()


def _drawn(declared: Declaration, prefix: str = "") -> _Drawing:
    boxes = {prefix + name: _box(declared, name, prefix) for name in declared.nodes}
    return _Drawing(prefix, f"{prefix}{declared.start}", boxes, tuple(_arrows(declared, prefix)))


def _box(declared: Declaration, name: str, prefix: str) -> _Box:
    made, path, last = declared.nodes[name], prefix + name, not any(declared.arms(name))
    if isinstance(made, CompositeNode):
        inner = made.workflow.declaration
        return _Box(path, (f"{name}: {inner.name}",), "step", last, _drawn(inner, f"{path}/"))
    if isinstance(made, BatchNode):
        return _Box(path, (name, f"each, {made.batch_size} at a time"), "batch", last)
    of = declared.scope_of(name)
    label = name if of is None else f"{name} (of {of})"
    return _Box(path, (label,), "join" if isinstance(made, Join) else "step", last)


def _arrows(declared: Declaration, prefix: str) -> Iterator[_Arrow]:
    for name in declared.nodes:
        at, edges = prefix + name, declared.edges.get(name, ())
        if isinstance(edges, Mapping):
            for key, arm in edges.items():
                for to in arm or (None,):
                    yield _Arrow(at, None if to is None else prefix + to, describe(key))
        else:
            for to in edges:
                yield _Arrow(at, prefix + to)
        for to in declared.on_failure.get(name, ()):
            yield _Arrow(at, prefix + to, failure=True)


# -- Graphviz -----------------------------------------------------------------------------------------------------

_DOT_SHAPES = {"step": "", "join": ", shape=invtrapezium", "batch": ", shape=box3d"}


def to_dot(declared: Declaration) -> str:
    """The graph in Graphviz's language."""
    drawing = _drawn(declared)
    start = drawing.boxes[drawing.start].entry()
    lines = [
        f"digraph {_quoted(declared.name)} {{",
        "    rankdir=LR;",
        "    compound=true;",
        "    node [shape=box, style=rounded];",
        f'    {_quoted(_START)} [label="", shape=point, width=0.15];',
        *_dot_lines(drawing, "    "),
        f"    {_quoted(_START)} -> {_quoted(start)};",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _dot_lines(drawing: _Drawing, margin: str) -> Iterator[str]:
    for box in drawing.boxes.values():
        label = "\\n".join(_quoted(line)[1:-1] for line in box.lines)
        if box.inside is not None:
            yield f"{margin}subgraph {_quoted(f'cluster_{box.path}')} {{"
            yield f'{margin}    label="{label}"; style=rounded;'
            yield from _dot_lines(box.inside, margin + "    ")
            yield f"{margin}}}"
        else:
            more = _DOT_SHAPES[box.shape] + (", peripheries=2" if box.last else "")
            yield f'{margin}{_quoted(box.path)} [label="{label}"{more}];'
    end = _quoted(drawing.prefix + _END)
    if any(arrow.to is None for arrow in drawing.arrows):
        yield f'{margin}{end} [label="", shape=doublecircle, width=0.15];'
    for arrow in drawing.arrows:
        at = drawing.boxes[arrow.at]
        styles = [f"label={_quoted(arrow.label)}"] if arrow.label else []
        styles += ["style=dashed", "color=red"] if arrow.failure else []
        tails = at.exits()
        if at.inside is not None and arrow.at != arrow.to:  # into its own frame it cannot come from the frame
            tails = tails[:1]
            styles += [f"ltail={_quoted(f'cluster_{at.path}')}"]
        to = end if arrow.to is None else _quoted(drawing.boxes[arrow.to].entry())
        attributes = f" [{', '.join(styles)}]" if styles else ""
        yield from (f"{margin}{_quoted(tail)} -> {to}{attributes};" for tail in tails)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# -- Mermaid ------------------------------------------------------------------------------------------------------

_MERMAID_SHAPES = {"step": ('["', '"]'), "join": ('[\\"', '"/]'), "batch": ('[["', '"]]')}


def to_mermaid(declared: Declaration) -> str:
    """The graph as a Mermaid flow chart."""
    drawing = _drawn(declared)
    ids = {box.path: f"n{number}" for number, box in enumerate(drawing.everything())}
    written: list[_Arrow] = []
    body = list(_mermaid_lines(drawing, ids, "stop", written, "    "))
    start = ids[drawing.boxes[drawing.start].entry()]
    lines = ["flowchart LR", *body, f'    begin(("&nbsp;")) --> {start}', "    style begin fill:black"]
    lines += ["    classDef last stroke-width:4px"]
    if red := [str(number) for number, arrow in enumerate(written) if arrow.failure]:
        lines.append(f"    linkStyle {','.join(red)} stroke:red")
    return "\n".join(lines) + "\n"


def _mermaid_lines(
    drawing: _Drawing, ids: Mapping[str, str], end: str, written: list[_Arrow], margin: str
) -> Iterator[str]:
    """Boxes, then arrows; ``written`` gets the latter, since Mermaid knows them by number."""
    for box in drawing.boxes.values():
        me, text = ids[box.path], "<br/>".join(map(_escaped, box.lines))
        if box.inside is not None:
            yield f'{margin}subgraph {me}["{text}"]'
            yield from _mermaid_lines(box.inside, ids, f"{end}_{me}", written, margin + "    ")
            yield f"{margin}end"
        else:
            before, after = _MERMAID_SHAPES[box.shape]
            yield f"{margin}{me}{before}{text}{after}{':::last' if box.last else ''}"
    for arrow in drawing.arrows:
        at = drawing.boxes[arrow.at]
        line = "-.->" if arrow.failure else "-->"
        text = f'|"{_escaped(arrow.label)}"|' if arrow.label else ""
        to = f'{end}((("&nbsp;")))' if arrow.to is None else ids[drawing.boxes[arrow.to].entry()]
        # Arrows from a frame spoil the layout, and one into the same frame cannot be drawn.
        tails = [at.path] if arrow.failure and arrow.at != arrow.to else at.exits()
        written += [arrow] * len(tails)
        yield from (f"{margin}{ids[tail]} {line}{text} {to}" for tail in tails)


# The text stands in quotes; ``#`` begins an entity there, and backticks make it Markdown.
_ENTITIES = str.maketrans({"&": "&amp;", '"': "&quot;", "<": "&lt;", ">": "&gt;", "#": "&num;", "`": "&grave;"})


def _escaped(text: str) -> str:
    return " ".join(text.split()).translate(_ENTITIES)
