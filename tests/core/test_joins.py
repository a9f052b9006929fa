"""Joins and order keys by example; the properties of both are in ``test_same_answer_as_sequential``."""

from __future__ import annotations

import pytest

from floxide_mp.core.graph import RUN_SCOPE, Graph, NodeSpec
from floxide_mp.core.plan import Plan
from floxide_mp.core.run_state import RunState
from floxide_mp.core.transitions import Phase
from floxide_mp.core.types import OrderKey, Payload
from floxide_mp.errors import WorkflowDefinitionError

Script = dict[str, list[list[tuple[int, bytes]]]]


def steps(graph: Graph, act: Script, most: int = 1000) -> list[tuple[str, OrderKey, Payload]]:
    """The one-process run; ``act`` gives each node's values, step by step (default: one, on the first arm)."""
    state = RunState(Plan(graph))
    state.start(b"input")
    done = []
    while (item := state.claim(1, 0)) is not None and len(done) < most:
        name = graph.nodes[state.plan.places[item.place].node].name
        done.append((name, item.order, item.payload))
        script = act.get(name)
        values = script.pop(0) if script else [(0, name.encode())]
        state.succeed(item, tuple(values), (), len(values) != 1)
    assert state.phase is Phase.COMPLETED or len(done) == most
    assert len({order for _, order, _ in done}) == len(done)
    return done


def of(done: list[tuple[str, OrderKey, Payload]], name: str) -> list[Payload]:
    return [payload for at, _, payload in done if at == name]


def test_a_join_of_the_run_gets_what_arrived_and_from_whom() -> None:
    graph = Graph(
        "g",
        (NodeSpec("a", ((1, 2),)), NodeSpec("b", ((3,),)), NodeSpec("c", ((3,),)), NodeSpec("j", join_of=RUN_SCOPE)),
        0,
    )
    assert of(steps(graph, {}), "j") == [(("b", b"b"), ("c", b"c"))]


def test_an_empty_split_and_a_branch_not_taken_still_join() -> None:
    graph = Graph("g", (NodeSpec("a", ((1,), (2,))), NodeSpec("b", ((2,),)), NodeSpec("j", join_of=RUN_SCOPE)), 0)
    assert of(steps(graph, {"a": [[]]}), "j") == [()]
    assert of(steps(graph, {"a": [[(1, b"x")]]}), "j") == [(("a", b"x"),)]


def test_each_fan_out_has_its_own_join() -> None:
    split, work, join, report = range(1, 5)
    graph = Graph(
        "g",
        (
            NodeSpec("outer", ((split,),)),
            NodeSpec("split", ((work,),)),
            NodeSpec("work", ((join,),)),
            NodeSpec("join", ((report,),), join_of=split),
            NodeSpec("report", join_of=RUN_SCOPE),
        ),
        0,
    )
    script = {
        "outer": [[(0, b"1"), (0, b"2"), (0, b"3")]],
        "split": [[(0, b"x")], [], [(0, b"y"), (0, b"z")]],
        "join": [[(0, b"none")], [(0, b"one")], [(0, b"two")]],
    }
    done = steps(graph, script)
    assert [len(payload) for payload in of(done, "join")] == [0, 1, 2], "the empty one is through first"
    assert [p for _, p in of(done, "report")[0]] == [b"none", b"one", b"two"], "nearer to the start is earlier"


def test_stragglers_do_not_hold_up_a_join_that_they_do_not_lead_to() -> None:
    graph = Graph(
        "g",
        (
            NodeSpec("split", ((1, 2),)),
            NodeSpec("work", ((3,),)),
            NodeSpec("slow", ((2,), ())),
            NodeSpec("j", join_of=0),
        ),
        0,
    )
    done = steps(graph, {"slow": [[(0, b"")]] * 5 + [[(1, b"")]]})
    names = [name for name, _, _ in done]
    assert names.index("j") < len(names) - 3
    assert names.count("slow") == 6


LOOP = Graph(
    "k-means",
    (
        NodeSpec("split", ((1,),)),
        NodeSpec("work", ((2,),)),
        NodeSpec("join", ((0,), (3,)), join_of=0),
        NodeSpec("report", join_of=RUN_SCOPE),
    ),
    0,
)


def test_a_loop_through_a_join_keeps_its_keys_short() -> None:
    """The cost of a step must not grow with the steps before it, so its key must not either."""
    done = steps(LOOP, {"split": [[(0, b"1"), (0, b"2")]] * 1000}, most=4000)
    assert max(len(path) for _, (_, path), _ in done) <= 2
    assert max(number.bit_length() for _, (_, path), _ in done for number in path) <= 64


def test_several_joins_of_one_scope_in_a_loop_have_keys_of_their_own() -> None:
    graph = Graph(
        "g",
        (
            NodeSpec("split", ((1, 2),)),
            NodeSpec("left", ((3,),)),
            NodeSpec("right", ((4,),)),
            NodeSpec("again", ((0,), ()), join_of=0),
            NodeSpec("aside", ((5,),), join_of=0),
            NodeSpec("more", ((5,), ())),
        ),
        0,
    )
    script = {"again": [[(0, b"")]] * 5 + [[(1, b"")]], "more": [[(0, b"")]] * 20 + [[(1, b"")]] * 20}
    done = steps(graph, script)
    assert len(of(done, "again")) == 6


def test_a_join_of_joins_and_joins_that_open_scopes() -> None:
    graph = Graph(
        "g",
        (
            NodeSpec("a", ((1, 2),)),
            NodeSpec("first", ((2,),), join_of=RUN_SCOPE),
            NodeSpec("second", ((3,),), join_of=RUN_SCOPE),
            NodeSpec("work", ((4,),)),
            NodeSpec("third", join_of=2),
        ),
        0,
    )
    done = steps(graph, {"second": [[(0, b"x"), (0, b"y")]], "work": [[(0, b"X")], [(0, b"Y")]]})
    assert of(done, "second") == [(("a", b"a"), ("first", b"first"))]
    assert of(done, "third") == [(("work", b"X"), ("work", b"Y"))]


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        ((NodeSpec("a", join_of=RUN_SCOPE),), "a is a Join and cannot be the start"),
        (
            (NodeSpec("a", ((1,),)), NodeSpec("j", ((0,),), join_of=RUN_SCOPE)),
            "j waits for itself: it is in a loop of its own scope",
        ),
        (
            (NodeSpec("a", ((1, 2),)), NodeSpec("s", ((2,),)), NodeSpec("j", join_of=1)),
            "j is Join(of=s), but a reaches it without passing s",
        ),
        (
            (NodeSpec("s", ((1, 2),)), NodeSpec("back", ((0,),)), NodeSpec("j", join_of=0)),
            "s can be reached again from inside its own scope (from back, before j)",
        ),
        (  # a join that opens a scope: this used to make the plan grow without end
            (
                NodeSpec("s", ((1,),)),
                NodeSpec("j", ((2,),), join_of=0),
                NodeSpec("t", ((0, 3),)),
                NodeSpec("k", join_of=1),
            ),
            "j can be reached again from inside its own scope (from s, before k)",
        ),
        (
            (NodeSpec("s", ((1,),), on_failure=(1,)), NodeSpec("j", join_of=0)),
            "j is Join(of=s), but s reaches it without passing s",  # a fan-out that failed opened no scope
        ),
    ],
)
def test_scopes_that_make_no_sense_are_refused(nodes: tuple[NodeSpec, ...], text: str) -> None:
    with pytest.raises(WorkflowDefinitionError) as caught:
        Plan(Graph("g", nodes, 0))
    assert text in caught.value.problems
