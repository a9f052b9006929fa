"""Row 106: nodes fork, and their children look at the context, come back from the node, or exit."""

from __future__ import annotations

import pytest

from floxide_mp import Coordinator

from ..conftest import Both
from . import flows_forks as flows


def test_row_106_children_see_what_their_step_sees(both: Both) -> None:
    run = both(flows.Looks, 200)
    assert run.wait().outputs == list(range(200))
    assert list(run.context().log) == list(range(200))


def test_row_106_children_that_need_the_coordinator_are_told(coordinator: Coordinator) -> None:
    writes, pool_writes, looks, log = coordinator.start(flows.Text).wait(30).output
    assert "RuntimeWarning('a process that a node has forked cannot write to the context" in writes
    assert "a process that a node has forked cannot write to the context" in pool_writes
    assert "a process that a node has forked cannot look at the context" in looks
    assert log == "[]"


def test_row_106_pools_of_forked_processes_have_the_context(coordinator: Coordinator) -> None:
    assert coordinator.start(flows.InPool, 7).wait(30).output == [7] * 4


@pytest.mark.parametrize(
    ("place", "how"),
    [
        *((place, how) for place in ("node", "coroutine", "generator") for how in ("returns", "exits", "c")),
        ("thread", "returns"),
        ("value", "returns"),
        ("value", "c"),
    ],
)
def test_row_106_children_that_come_back_are_no_second_worker(place: str, how: str, coordinator: Coordinator) -> None:
    runs = [coordinator.start(flows.ComeBack, (place, how)) for _ in range(3)]
    wanted = {"generator": [place, place], "value": ["pickled"]}.get(place, [place])
    for run in runs:
        assert run.wait(30).outputs == wanted
        assert list(run.context().log) == [1]
        assert run.errors() == []
