"""Pictures of a declared graph: Graphviz and Mermaid text. Arms are labelled, failure edges dashed and red."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .checks import Declaration
from .nodes.join import Join
from .route import describe

_END = "(end)"  # drawn for arms that lead nowhere beside arms that do not


def to_dot(declared: Declaration) -> str:
    """The graph in Graphviz's language."""
    lines = [f"digraph {_quoted(declared.name)} {{", "    rankdir=LR;", "    node [shape=box, style=rounded];"]
    for name in declared.nodes:
        style = {"join": ", shape=invtrapezium", "terminal": ", peripheries=2", "": ""}[_kind(declared, name)]
        bold = ", penwidth=2" if name == declared.start else ""
        lines.append(f"    {_quoted(name)} [label={_quoted(_label(declared, name))}{style}{bold}];")
    if any(to is None for _, to, _, _ in _edges(declared)):
        lines.append(f"    {_quoted(_END)} [label={_quoted('')}, shape=doublecircle, width=0.15];")
    for at, to, label, failure in _edges(declared):
        styles = [f"label={_quoted(label)}"] if label else []
        styles += ["style=dashed", "color=red"] if failure else []
        attributes = f" [{', '.join(styles)}]" if styles else ""
        lines.append(f"    {_quoted(at)} -> {_quoted(_END if to is None else to)}{attributes};")
    return "\n".join([*lines, "}"]) + "\n"


def to_mermaid(declared: Declaration) -> str:
    """The graph as a Mermaid flow chart."""
    number = {name: f"n{i}" for i, name in enumerate(declared.nodes)}
    lines = ["flowchart LR"]
    for name, short in number.items():
        text = _escaped(_label(declared, name))
        shape = {"join": f'[\\"{text}"/]', "terminal": f'(["{text}"])', "": f'["{text}"]'}[_kind(declared, name)]
        lines.append(f"    {short}{shape}")
    red: list[int] = []
    for count, (at, to, label, failure) in enumerate(_edges(declared)):
        arrow = "-.->" if failure else "-->"
        text = f'|"{_escaped(label)}"|' if label else ""
        target = 'stop((("&nbsp;")))' if to is None else number[to]
        lines.append(f"    {number[at]} {arrow}{text} {target}")
        if failure:
            red.append(count)
    if red:
        lines.append(f"    linkStyle {','.join(map(str, red))} stroke:red")
    return "\n".join(lines) + "\n"


def _edges(declared: Declaration) -> Iterator[tuple[str, str | None, str, bool]]:
    """Origin, successor (None: the branch ends), label, and whether it is taken on failure."""
    for name in declared.nodes:
        edges = declared.edges.get(name, ())
        if isinstance(edges, Mapping):
            for key, arm in edges.items():
                for to in arm or (None,):
                    yield name, to, describe(key), False
        else:
            for to in edges:
                yield name, to, "", False
        for to in declared.on_failure.get(name, ()):
            yield name, to, "", True


def _kind(declared: Declaration, name: str) -> str:
    if isinstance(declared.nodes[name], Join):
        return "join"
    return "" if any(declared.arms(name)) else "terminal"


def _label(declared: Declaration, name: str) -> str:
    of = declared.scope_of(name)
    return name if of is None else f"{name} (of {of})"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
