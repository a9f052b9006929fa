"""Graphs as Graphviz and Mermaid text."""

from __future__ import annotations

import re

import pytest

from floxide_mp import Join, Node, Workflow, WorkflowDefinitionError, node, when
from tests import flows_graphs as flows


@node
def ask(x: int) -> int:
    return x


class Small(Workflow):
    ask, big, retry, done = ask, flows.square, flows.minus, Join()
    start = ask
    edges = {ask: {when(int, lambda v: v > 9): [big], 0: [], object: [done]}, big: [done], retry: [done]}
    on_failure = {big: [retry]}


def test_dot() -> None:
    text = Small.to_dot()
    assert text.startswith('digraph "Small" {')
    assert '"big" -> "retry" [style=dashed, color=red];' in text
    assert '"ask" -> "done" [label="object"];' in text
    assert '"done" [label="done", shape=invtrapezium];' in text
    assert re.search(r'"ask" -> "\(end\)" \[label="0"\];', text)
    assert "penwidth=2" in next(line for line in text.splitlines() if line.startswith('    "ask" ['))


def test_mermaid() -> None:
    lines = Small.to_mermaid().splitlines()
    assert lines[0] == "flowchart LR"
    assert '    n0 -->|"object"| n3' in lines
    dashed = [line for line in lines if "-.->" in line]
    assert dashed == ["    n1 -.-> n2"]
    edges = [line for line in lines if "-->" in line or "-.->" in line]
    assert lines[-1] == f"    linkStyle {edges.index(dashed[0])} stroke:red"


def test_names_are_quoted() -> None:
    class Odd(Node):
        def process(self, value: int) -> int:
            return value

    made = Workflow.build('say "hi" <b>', {'a "b"': Odd()}, start='a "b"')
    assert r'"a \"b\"" [label=' in made.to_dot()
    assert "a &quot;b&quot;" in made.to_mermaid()


def test_a_workflow_without_nodes_has_no_picture() -> None:
    with pytest.raises(WorkflowDefinitionError):
        Workflow.to_dot()
