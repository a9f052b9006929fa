"""Graphs as Graphviz and Mermaid text."""

from __future__ import annotations

import enum
import re
import shutil
import subprocess

import pytest

from floxide_mp import BatchNode, CompositeNode, Join, Node, SplitNode, Workflow, WorkflowDefinitionError, node, when
from tests import flows_graphs as flows


class Colour(enum.Enum):
    RED = 1


def half(x: int) -> int:
    return x // 2


def positive(x: int) -> bool:
    return x > 0


@node
def ask(x):
    return x


class Small(Workflow):
    ask, big, retry, done = ask, flows.square, flows.minus, Join()
    start = ask
    edges = {ask: {when(int, lambda v: v > 9): [big], 0: [], object: [done]}, big: [done], retry: [done]}
    on_failure = {big: [retry]}


class Large(Workflow):
    """Something of everything: a composite in a composite, a batch, scopes, and arms of all sorts."""

    ask, batch, split = ask, BatchNode(flows.less_one, 8), SplitNode(range)
    sums, per, minus = CompositeNode(flows.Sums), Join(of=split), flows.minus
    start = batch
    edges = {
        batch: [ask],
        ask: {Colour.RED: [], when(int, positive, half): [split], when(str, take=len): [ask], object: [minus]},
        split: [sums],
        sums: [per],
    }
    on_failure = {sums: [minus], batch: [minus]}


class Loop(Workflow):
    """A composite that leads to itself, and has two ways out."""

    routed, ask = CompositeNode(flows.Routed), ask
    start = routed
    edges = {routed: {int: [routed], object: []}}
    on_failure = {routed: [ask]}


DRAWN = [Small, Large, Loop, flows.Sums, flows.Scoped, flows.Caught]


def test_dot() -> None:
    text = Small.to_dot()
    assert text.startswith('digraph "Small" {')
    assert '"(start)" [label="", shape=point, width=0.15];' in text
    assert '"(start)" -> "ask";' in text
    assert '"ask" [label="ask"];' in text
    assert '"big" -> "retry" [style=dashed, color=red];' in text
    assert '"ask" -> "done" [label="object"];' in text
    assert '"ask" -> "big" [label="when(int, <lambda>)"];' in text
    assert '"done" [label="done", shape=invtrapezium, peripheries=2];' in text
    assert re.search(r'"ask" -> "\(end\)" \[label="0"\];', text)


def test_mermaid() -> None:
    lines = Small.to_mermaid().splitlines()
    assert lines[0] == "flowchart LR"
    assert '    n0["ask"]' in lines
    assert '    n3[\\"done"/]:::last' in lines
    assert '    begin(("&nbsp;")) --> n0' in lines
    assert '    n0 -->|"object"| n3' in lines
    assert '    n0 -->|"when(int, &lt;lambda&gt;)"| n1' in lines
    assert '    n0 -->|"0"| stop((("&nbsp;")))' in lines
    dashed = [line for line in lines if "-.->" in line]
    assert dashed == ["    n1 -.-> n2"]
    edges = [line for line in lines if "-->" in line or "-.->" in line]
    assert lines[-1] == f"    linkStyle {edges.index(dashed[0])} stroke:red"


def test_arms_say_what_they_are_asked_for() -> None:
    labels = ["Colour.RED", "when(int, positive, take=half)", "when(str, take=len)", "object"]
    assert re.findall(r'"ask" -> .*label="(.*)"', Large.to_dot()) == labels
    assert re.findall(r'-->\|"(.*)"\|', Large.to_mermaid()) == labels


def test_a_composite_is_a_frame_and_a_batch_says_how_many() -> None:
    dot = Large.to_dot()
    assert 'subgraph "cluster_sums" {\n        label="sums: Sums"' in dot
    assert 'subgraph "cluster_sums/squares" {\n            label="squares: Squares"' in dot
    assert '"batch" [label="batch\\neach, 8 at a time", shape=box3d];' in dot
    assert '"split" -> "sums/split";' in dot  # the step that the input goes to
    assert '"sums/all" -> "per" [ltail="cluster_sums"];' in dot
    assert '"sums/all" -> "minus" [style=dashed, color=red, ltail="cluster_sums"];' in dot
    assert '"per" [label="per (of split)", shape=invtrapezium, peripheries=2];' in dot
    mermaid = Large.to_mermaid()
    ids = {label: short for short, label in re.findall(r'(n\d+)\W+"([\w: ]+)', mermaid)}
    assert f'    subgraph {ids["sums: Sums"]}["sums: Sums"]\n' in mermaid
    assert f'{ids["batch"]}[["batch<br/>each, 8 at a time"]]' in mermaid
    assert f"{ids['all']} --> {ids['per ']}" in mermaid
    assert f"{ids['sums: Sums']} -.-> {ids['minus']}" in mermaid  # whichever of its steps failed


def test_a_composite_that_leads_to_itself_does_so_from_each_of_its_ends() -> None:
    found = re.findall(r'^ *"(.*)" -> "routed/split" \[label="int"\];', Loop.to_dot(), re.MULTILINE)
    assert found == ["routed/squares/total", "routed/less_one"]
    assert len(re.findall(r'-->\|"int"\|', Loop.to_mermaid())) == 2


@pytest.mark.parametrize(("workflow", "count"), [(Large, 2), (Loop, 1), (flows.Caught, 1)])
def test_red_edges_are_counted_through_all_frames(workflow: type[Workflow], count: int) -> None:
    lines = workflow.to_mermaid().splitlines()
    arrows = [line for line in lines if " --> " in line or "-.->" in line or "-->|" in line]
    red = [str(number) for number, line in enumerate(arrows) if "-.->" in line]
    assert len(red) == count
    assert lines[-1] == f"    linkStyle {','.join(red)} stroke:red"


def test_an_instance_shows_the_nodes_that_it_has() -> None:
    assert Small().to_dot() == Small.to_dot()
    assert Small().to_mermaid() == Small.to_mermaid()
    other = Small(big=CompositeNode(flows.Squares))
    assert 'label="big: Squares"' in other.to_dot() and "big: Squares" in other.to_mermaid()
    assert "Squares" not in Small.to_dot() + Small.to_mermaid()


def test_names_are_quoted() -> None:
    class Odd(Node):
        def process(self, value):
            return value

    made = Workflow.build('say "hi" <b>', {'a "b"': Odd(), "`#\\": Odd()}, 'a "b"', {'a "b"': {"two\nlines": ["`#\\"]}})
    assert r'"a \"b\"" [label=' in made.to_dot()
    assert r'"`#\\" [label="`#\\", peripheries=2];' in made.to_dot()
    assert "a &quot;b&quot;" in made.to_mermaid()
    assert r'["&grave;&num;\"]' in made.to_mermaid()
    assert r"""-->|"'two\nlines'"|""" in made.to_mermaid()


@pytest.mark.parametrize("workflow", DRAWN)
def test_every_line_of_mermaid_is_one_that_it_knows(workflow: type[Workflow]) -> None:
    text = r'"[^"#`]+"'
    box = rf"n\d+(\[{text}\]|\[\\{text}/\]|\[\[{text}\]\])(:::last)?"
    node = rf"({box}|begin\(\({text}\)\)|stop(_n\d+)*\(\(\({text}\)\)\)|n\d+)"
    known = rf"flowchart LR|{node}|{node} (-->|-\.->)(\|{text}\|)? {node}|subgraph n\d+\[{text}\]|end"
    known += r"|style begin fill:black|classDef last stroke-width:4px|linkStyle \d+(,\d+)* stroke:red"
    for line in workflow.to_mermaid().splitlines():
        assert re.fullmatch(known, line.strip()), line


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
@pytest.mark.parametrize("workflow", DRAWN)
def test_graphviz_understands_it_without_a_word(workflow: type[Workflow]) -> None:
    done = subprocess.run(["dot", "-Tplain"], input=workflow.to_dot(), capture_output=True, text=True, check=True)
    assert done.stderr == ""
    drawn = {line.split()[1].strip('"') for line in done.stdout.splitlines() if line.startswith("node ")}
    steps = {name for name in workflow().declaration.nodes if f'"{name}" [' in workflow.to_dot()}
    assert steps < drawn


def test_a_workflow_without_nodes_has_no_picture() -> None:
    with pytest.raises(WorkflowDefinitionError):
        Workflow.to_dot()
