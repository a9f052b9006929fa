"""Row 117: where the values that are made and not used yet take much memory, what uses them goes first, and what makes
more waits; whatever the bounds, nothing waits for ever.
"""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_mp.core.graph import RUN_SCOPE, Graph, NodeSpec
from floxide_mp.core.leases import Memory
from floxide_mp.core.plan import Plan
from floxide_mp.core.ready import ByDepth, Ready
from floxide_mp.core.records import Chunk, ItemRecord
from floxide_mp.core.run_state import RunState
from floxide_mp.core.transitions import Phase
from floxide_mp.core.types import ErrorRecord
from tests.core import invariants

SIZE = 1000
VALUE = b"v" * SIZE
SPLIT, MAKE, USE, ALL = range(4)
ERROR = ErrorRecord("Boom", "boom", "", None)
SWEEP = Plan(
    Graph(
        "sweep",
        (
            NodeSpec("split", ((MAKE,),)),
            NodeSpec("make", ((USE,),)),
            NodeSpec("use", ((ALL,),)),
            NodeSpec("all", join_of=RUN_SCOPE),
        ),
        0,
    )
)
SCOPE = RunState(SWEEP).root


class Sweep:
    """Steps that make a value each, which the next ones use, on so many workers that take as long as each other."""

    def __init__(self, memory: Memory, count: int = 40) -> None:
        self.memory = memory
        self.state = RunState(SWEEP)
        self.state.share(memory)
        self.state.start(b"")
        self.busy: deque[ItemRecord] = deque()
        self.most = 0  # bytes that were unfinished at a time
        self.begin(1)
        self.state.fan_out(self.busy.popleft(), 0, [b"n"] * count, ())
        self.look()

    def look(self) -> None:
        self.state.take_commit()
        self.most = max(self.most, self.state.bytes)
        invariants.check(self.state)

    def begin(self, workers: int) -> None:
        """Workers that have nothing take what they may."""
        while len(self.busy) < workers and (item := self.state.claim(1, 0)) is not None:
            if isinstance(item, Chunk):
                (item,) = self.state.split_off(item, 1, 0)
            self.busy.append(item)
        self.look()

    def end(self) -> None:
        """The step that runs longest is over."""
        item = self.busy.popleft()
        payload = (b"n", VALUE, b"r", b"sum")[item.place]
        self.state.succeed(item, ((0, payload),), (), False)
        self.look()

    def places(self) -> list[int]:
        return [item.place for item in self.busy]

    def run(self, workers: int) -> None:
        while not self.state.over:
            self.begin(workers)
            assert self.busy, "nothing runs, and nothing may start"
            self.end()
        assert self.state.phase is Phase.COMPLETED
        assert not self.state.bytes and not self.memory.used


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_row_117_what_is_deep_goes_first_from_some_bytes_on(workers: int) -> None:
    sweep = Sweep(Memory(deep=3 * SIZE, growth=SIZE / 2))
    sweep.run(workers)
    assert sweep.most <= (3 + 2 * workers) * SIZE


def test_row_117_the_order_is_that_of_the_keys_below_that() -> None:
    sweep = Sweep(Memory(), count=10)
    sweep.run(1)
    assert sweep.most >= 10 * SIZE
    assert isinstance(sweep.state._ready, Ready)


@pytest.mark.parametrize("workers", [2, 8, 40])
def test_row_117_what_makes_more_waits_from_the_bound_on(workers: int) -> None:
    sweep = Sweep(Memory(most=6 * SIZE, growth=SIZE / 2))
    sweep.begin(1)
    sweep.end()  # what the step makes is known from its first time on
    sweep.run(workers)
    assert sweep.most <= 7 * SIZE


def test_row_117_what_makes_more_goes_on_if_nothing_else_can() -> None:
    sweep = Sweep(Memory(most=SIZE / 2, deep=0, growth=1))
    sweep.begin(1)
    sweep.end()
    sweep.begin(2)
    assert sweep.places() == [USE]  # the other one waits for it
    assert sweep.state.ready == 0
    assert sweep.state.first() is None
    sweep.end()
    sweep.begin(2)
    assert sweep.places() == [MAKE]
    sweep.run(2)


def test_row_117_a_value_that_waits_for_its_retry_stops_nobody() -> None:
    sweep = Sweep(Memory(most=SIZE / 2, deep=0, growth=1), count=3)
    sweep.begin(1)
    sweep.end()
    sweep.begin(1)
    item = sweep.busy.popleft()
    sweep.state._again(item, 100.0, 0.0)
    sweep.begin(2)
    assert sweep.places() == [MAKE]
    sweep.end()
    sweep.state.due(100.0)
    sweep.run(2)


def test_row_117_an_item_that_has_failed_for_good_counts_when_it_is_tried_again() -> None:
    memory = Memory(growth=1)
    sweep = Sweep(memory, count=1)
    sweep.begin(1)
    sweep.end()
    sweep.begin(1)
    sweep.state.fail(sweep.busy.popleft(), ERROR, False, 0.0)
    sweep.look()
    assert sweep.state.phase is Phase.FAILED
    assert memory.used == 0
    sweep.state.resume(0.0)
    sweep.look()
    assert memory.used >= SIZE
    sweep.run(1)


def test_row_117_a_run_goes_deep_for_the_values_of_another() -> None:
    memory = Memory(deep=3 * SIZE, growth=SIZE / 2)
    sweep, other = Sweep(memory), Sweep(memory)
    while memory.used <= 3 * SIZE:
        sweep.begin(1)
        sweep.end()
    other.begin(1)
    other.end()
    other.begin(1)
    assert other.places() == [USE]
    other.state.cancel()
    other.look()
    other.end()
    sweep.run(2)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), unique=True, max_size=12), st.booleans(), st.data())
def test_by_depth_is_a_priority_queue_at_both_ends(
    keys: list[tuple[int, int]], deepest: bool, data: st.DataObject
) -> None:
    """Items are (depth, branch); each branch is at a place of its own."""
    queue = ByDepth(Ready())
    for number, (depth, branch) in enumerate(keys):
        queue.push(ItemRecord(number, branch, (depth, (branch,)), b"", SCOPE))
    held = data.draw(st.sets(st.integers(0, 3)))
    left = [key for key in keys if key[1] not in held]
    while (item := queue.best(deepest, held.__contains__)) is not None:
        key = item.order[0], item.order[1][0]
        assert key == min(left, key=lambda one: ((-one[0] if deepest else one[0]), one[1]))
        assert queue.count(held.__contains__) == len(left)
        assert queue.pop(item) is item
        left.remove(key)
    assert not left
    assert len(queue) == len(list(queue)) == sum(branch in held for _, branch in keys)
