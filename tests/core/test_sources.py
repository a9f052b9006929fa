"""Items that have more to give: who may take it, and when there is room for it."""

from __future__ import annotations

import pytest

from floxide_mp.api.retry import RetryPolicy
from floxide_mp.core import streams
from floxide_mp.core.graph import RUN_SCOPE, Graph, NodeSpec
from floxide_mp.core.plan import Plan
from floxide_mp.core.records import ItemRecord
from floxide_mp.core.run_state import RunState
from floxide_mp.core.streams import Alike
from floxide_mp.core.transitions import Phase
from floxide_mp.core.types import StreamOffset
from tests.core import invariants

from .simulation import ERROR

HERE, THERE = 7, 8  # sessions


def run(*nodes: NodeSpec) -> RunState:
    """A node that gives, and one that works."""
    nodes = nodes or (NodeSpec("give", ((1,),)), NodeSpec("work", retry=RetryPolicy(max_attempts=2)))
    made = RunState(Plan(Graph("g", nodes, 0)))
    made.start(b"input")
    return made


def claimed(made: RunState) -> ItemRecord:
    item = made.claim(1, 0)
    assert isinstance(item, ItemRecord)
    return item


def pulled(made: RunState, session: int | None = HERE) -> ItemRecord:
    assert made.has_stream_for(session)
    item = made.pull(1, 0, session)
    assert item is not None
    return item


def values(count: int, size: int = 1) -> list[tuple[int, bytes]]:
    return [(0, bytes(size))] * count


def test_more_is_taken_while_there_is_room_and_never_while_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MOST_ITEMS", 5)
    monkeypatch.setattr(streams, "LEAST", 1)
    made = run()
    made.portion(claimed(made), values(4), (), HERE)
    made.portion(pulled(made), values(3), (), HERE)
    assert (made.ready, made.has_stream_for(HERE)) == (7, False)
    for _ in range(2):  # leased, waiting for a retry: still in work
        claimed(made)
    made.fail(claimed(made), ERROR, True, 0.0)
    assert not made.has_stream_for(HERE)
    for _ in range(3):
        made.succeed(claimed(made), values(1), (), False)
    assert made.has_stream_for(HERE)
    invariants.check(made)


def test_large_values_leave_less_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MOST_BYTES", 1000)
    monkeypatch.setattr(streams, "LEAST", 2)
    made = run()
    made.portion(claimed(made), values(5, 99), (), HERE)
    assert made.has_stream_for(HERE)
    made.portion(pulled(made), values(1, 199), (), HERE)
    assert not made.has_stream_for(HERE)
    made.succeed(claimed(made), values(1), (), False)
    made.succeed(claimed(made), values(1), (), False)
    made.portion(pulled(made), values(1, 5000), (), HERE)
    for _ in range(3):
        assert not made.has_stream_for(HERE)
        made.succeed(claimed(made), values(1), (), False)
    made.succeed(claimed(made), values(1), (), False)
    assert made.has_stream_for(HERE), "there is always room for some"


def test_who_has_the_iterator_goes_on_with_it_until_it_is_gone() -> None:
    made = run()
    item = claimed(made)
    made.portion(item, values(1), (), HERE)
    assert (made.has_stream_for(HERE), made.has_stream_for(THERE), made.has_stream_for(None)) == (True, False, True)
    assert made.holds_iterator_of(item.id, HERE) and not made.holds_iterator_of(item.id, THERE)
    made.release_affinity(HERE)
    assert made.has_stream_for(THERE) and not made.holds_iterator_of(item.id, HERE)
    made.portion(pulled(made, THERE), values(1), (), THERE)
    assert not made.has_stream_for(HERE)
    pulled(made, None)
    assert not made.holds_iterator_of(item.id, THERE), "whoever waited in vain begins it anew"
    made.release(item)
    assert made.has_stream_for(HERE)
    made.portion(pulled(made), values(1), (), HERE)
    made.worker_died(pulled(made), ERROR, 0.0)
    assert made.has_stream_for(THERE), "its worker is dead"


def test_what_is_taken_first_is_what_comes_last() -> None:
    made = run(NodeSpec("give", ((1,),)), NodeSpec("again", ((2,),)), NodeSpec("work"))
    made.portion(claimed(made), values(2), (), HERE)
    first, second = claimed(made), claimed(made)
    made.portion(second, values(1), (), HERE)
    made.portion(first, values(1), (), HERE)
    assert [pulled(made).id for _ in range(3)] == [second.id, first.id, 1]


def test_nothing_is_taken_of_a_run_that_is_paused_or_ends() -> None:
    made = run()
    item = claimed(made)
    made.pause()
    made.portion(item, values(1), (), HERE)
    assert not made.has_stream_for(HERE) and made.pull(1, 0, HERE) is None
    made.resume(0.0)
    item = pulled(made)
    made.cancel()
    made.portion(item, values(1), (), HERE)
    assert made.phase is Phase.CANCELLED
    assert not made.holds_iterator_of(item.id, HERE)


def test_attempts_count_anew_with_each_portion() -> None:
    made = run(NodeSpec("give", ((1,),), retry=RetryPolicy(max_attempts=2, initial_backoff=0.0)), NodeSpec("work"))
    item = claimed(made)
    for _ in range(5):
        made.fail(item, ERROR, True, 0.0)
        item = pulled(made) if made.values_taken(item.id) else claimed(made)
        assert item.attempt == 2
        made.portion(item, values(1), (), HERE)
        item = pulled(made)
        assert item.attempt == 1
        made.portion(item, (), (), HERE)  # values that it had given before
        item = pulled(made)
    made.fail(item, ERROR, True, 0.0)
    made.portion(pulled(made), (), (), HERE)
    made.fail(pulled(made), ERROR, True, 0.0)
    assert made.phase is Phase.FAILED


def test_a_portion_goes_on_behind_the_one_before_it() -> None:
    made = run(NodeSpec("give", ((1, 2), (1,), ())), NodeSpec("work"), NodeSpec("all", join_of=RUN_SCOPE))
    made.take_commit()
    item = claimed(made)
    made.portion(item, [(0, b"a"), (2, b"b")], ((0, b"x"), (1, b"y")), HERE)
    made.portion(pulled(made), Alike(1, [b"c", b"d"]), ((0, b"z"),), HERE)
    commit = made.take_commit()
    assert commit.given == {item.id: StreamOffset(4, 4, 3)}
    made.fan_out(pulled(made), 2, [b"e", b"f"], ((1, b"w"),))
    last = made.take_commit()
    assert last.given == {item.id: None}
    assert [(e.index, e.payload) for e in (*commit.events, *last.events)] == [
        *((0, b"x"), (1, b"y"), (2, b"z"), (3, b"w"))
    ]
    assert [(o.index, o.payload) for o in (*commit.outputs, *last.outputs)] == [(1, b"b"), (4, b"e"), (5, b"f")]
    created = [i.order for i in commit.created] + [i.order for block in commit.blocks for i in block.items()]
    assert created == [(1, (0,)), (1, (2,)), (1, (3,))]
    assert [arrival.order for arrival in commit.arrived] == [(1, (1,))]
