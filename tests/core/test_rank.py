"""Ranks are those of the longest way to the end, what loops has none, and ``Ranked`` goes by level, then by order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floxide_mp.coordinator.active_run import ActiveRun, progress_of
from floxide_mp.coordinator.cost_model import CostModel
from floxide_mp.coordinator.event_tail import Tail
from floxide_mp.core.graph import RUN_SCOPE, Graph, NodeSpec
from floxide_mp.core.plan import Plan
from floxide_mp.core.ready import Ranked, levels, upward
from floxide_mp.core.records import Chunk, ItemRecord, id_of
from floxide_mp.core.run_state import RunState
from floxide_mp.ports import RunRecord

from .graphs import graphs

RECORD = RunRecord("run", "drawn", b"", b"", b"", b"input", 0, 0.0, None, False, {}, (), ())


def plan(*nodes: tuple[str, tuple[int, ...]], joins: tuple[int, ...] = ()) -> Plan:
    """Of nodes with one arm."""
    specs = [
        NodeSpec(name, (after,), join_of=RUN_SCOPE if k in joins else None) for k, (name, after) in enumerate(nodes)
    ]
    return Plan(Graph("g", tuple(specs), 0))


DIAMOND = plan(("split", (1, 2)), ("long", (3,)), ("short", (3,)), ("all", ()), joins=(3,))


def by_name(made: Plan, values: list[float] | list[int]) -> dict[str, float]:
    return dict(zip(made.names(), values, strict=True))


def running(made: Plan, cost: list[float | None]) -> ActiveRun:
    state = RunState(made)
    state.start(b"input")
    return ActiveRun(RECORD, progress_of(state, None), state, CostModel(cost), Tail(0))


def names(run: ActiveRun, items: list[ItemRecord]) -> list[str]:
    return [run.state.plan.places[item.place].spec.name for item in items]


# -- ranks --------------------------------------------------------------------------------------------------------


def test_the_rank_is_the_longest_way_to_the_end() -> None:
    rank = upward(DIAMOND, [1.0, 20.0, 3.0, 4.0])
    assert by_name(DIAMOND, rank) == {"split": 25.0, "long": 24.0, "short": 7.0, "all": 4.0}


def test_a_failure_does_not_count_as_a_way() -> None:
    made = Plan(Graph("g", (NodeSpec("a", ((1,),), on_failure=(2,)), NodeSpec("b"), NodeSpec("mend")), 0))
    assert by_name(made, upward(made, [1.0, 1.0, 50.0])) == {"a": 2.0, "b": 1.0, "mend": 50.0}


def test_what_loops_and_what_is_behind_it_goes_last() -> None:
    made = plan(("split", (1, 3)), ("laps", (1, 2)), ("behind", ()), ("aside", ()))
    assert by_name(made, upward(made, [1.0] * 4)) == {"split": 2.0, "laps": 0.0, "behind": 0.0, "aside": 1.0}
    again = Plan(Graph("g", (NodeSpec("a", ((1,),), on_failure=(2,)), NodeSpec("b"), NodeSpec("c", ((0,),))), 0))
    assert upward(again, [1.0] * 3) == [0.0] * 3


@given(graphs(), st.data())
@settings(deadline=None)
def test_a_place_is_ranked_above_all_that_it_leads_to(graph: Graph, data: st.DataObject) -> None:
    made = Plan(graph)
    cost = data.draw(st.lists(st.floats(0.001, 100), min_size=len(graph.nodes), max_size=len(graph.nodes)))
    rank = upward(made, cost)
    for place in made.places:
        after = [rank[t.place] for arm in place.arms for t in arm]
        if rank[place.number]:
            assert rank[place.number] == cost[place.node] + max(after, default=0.0)
        else:  # behind a loop is behind a loop
            assert not any(after)


# -- levels -------------------------------------------------------------------------------------------------------


def test_levels_count_from_the_most_urgent() -> None:
    level = levels(DIAMOND, [1.0, 20.0, 3.0, 4.0])
    assert level is not None
    assert by_name(DIAMOND, level) == {"split": 0, "long": 1, "short": 2, "all": 3}


def test_what_is_not_known_is_taken_for_the_mean_of_what_is() -> None:
    assert levels(DIAMOND, [1.0, None, 3.0, 2.0]) == levels(DIAMOND, [1.0, 2.0, 3.0, 2.0])


def test_where_nothing_is_known_the_steps_to_the_end_are_counted() -> None:
    assert levels(DIAMOND, [None] * 4) == [0, 1, 1, 2]


@pytest.mark.parametrize(
    "made",
    [plan(("split", (1,)), ("work", (2,)), ("all", ()), joins=(2,)), plan(("once", ())), plan(("laps", (0,)))],
)
def test_where_there_is_one_way_there_are_no_levels(made: Plan) -> None:
    assert levels(made, [None] * len(made.places)) is None


# -- the queue ----------------------------------------------------------------------------------------------------

SCOPE = RunState(DIAMOND).root


@given(
    st.lists(st.integers(0, 5), min_size=4, max_size=4),
    st.permutations(range(40)),
    st.lists(st.booleans(), min_size=80, max_size=80),
)
def test_it_is_a_priority_queue_by_level_and_order(level: list[int], numbers: list[int], takes: list[bool]) -> None:
    ranked, model = Ranked(level), dict[int, tuple[int, int]]()
    coming = list(numbers)
    for take in takes:
        if take and model:
            first = min(model, key=model.__getitem__)
            probe = ItemRecord(99, 1, (20, ()), b"", SCOPE)
            assert ranked.yields_to(probe) == ((level[1], 20) < model[first])
            assert ranked.first().id == first
            assert ranked.pop().id == first
            del model[first]
        elif coming:
            number = coming.pop()
            ranked.push(ItemRecord(number, number % 4, (number, ()), b"", SCOPE))
            model[number] = level[number % 4], number
        assert len(ranked) == len(model)
        assert {one.id for one in ranked} == set(model)


def test_a_block_is_taken_in_parts_and_counts_as_its_items() -> None:
    state = RunState(DIAMOND)
    state._ready.push(Chunk(1, 2, (1, (0,)), [b"short"] * 5, SCOPE))
    state._ready.push(Chunk(11, 1, (1, (5,)), [b"long"] * 3, SCOPE))
    state.rank([0, 1, 2, 3])
    assert len(state._ready) == 8
    taken = [state._ready.pop(2) for _ in range(5)]
    assert [(id_of(block), len(block)) for block in taken if isinstance(block, Chunk)] == [
        (11, 2), (13, 1), (1, 2), (3, 2), (5, 1),
    ]  # fmt: skip
    assert not state._ready


# -- leases -------------------------------------------------------------------------------------------------------

WIDE = plan(("split", tuple(range(1, 25))), *((f"n{k}", ()) for k in range(1, 25)))


def wide(cost: list[float | None], workers: int) -> ActiveRun:
    """A run whose 24 nodes are ready."""
    run = running(WIDE, [0.001, *cost])
    (split,) = run.claim(1, 0, 0.004, workers)
    run.state.succeed(split, ((0, b"v"),), (), False)
    return run


def test_two_workers_take_the_longest_first() -> None:
    run = wide([0.01 * k for k in range(1, 25)], 2)
    assert [names(run, run.claim(2 + k, k % 2, 0.004, 2)) for k in range(3)] == [["n24"], ["n23"], ["n22"]]


def test_one_worker_takes_them_in_order() -> None:
    run = wide([0.01 * k for k in range(1, 25)], 1)
    assert [names(run, run.claim(2 + k, 0, 0.004, 1)) for k in range(3)] == [["n1"], ["n2"], ["n3"]]


@pytest.mark.parametrize("long", [0.05, None])
def test_what_may_be_long_is_the_first_of_its_lease(long: float | None) -> None:
    """In order, so that short ones come first."""
    run = wide([0.001, 0.001, long, *[0.001] * 21], 1)
    assert names(run, run.claim(2, 0, 0.1 if long is None else 0.02, 1)) == ["n1", "n2"]
    assert names(run, run.claim(3, 0, 0.02, 1)) == ["n3"]
    assert len(run.claim(4, 0, 0.02, 1)) > 2


def test_serial_ones_keep_their_order_among_themselves() -> None:
    specs = (NodeSpec("split", ((1, 2, 3),)), *(NodeSpec(f"s{k}", serial=True) for k in (1, 2)), NodeSpec("free"))
    run = running(Plan(Graph("g", specs, 0)), [0.1, 1.0, 9.0, 5.0])
    (split,) = run.claim(1, 0, 1.0, 2)
    run.state.succeed(split, ((0, b"v"),), (), False)
    taken = []
    while items := run.claim(2, 0, 1.0, 2):
        taken += names(run, items)
        run.state.succeed(items[0], ((0, b"v"),), (), False)
    assert taken == ["free", "s1", "s2"]
