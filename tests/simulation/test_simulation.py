"""The real coordinator's logic under seeded schedules of faults, and that such a schedule finds what is wrong.

``FLOXIDE_SIMULATED=100000 pytest tests/simulation/test_simulation.py`` plays that many, ``python -m tests.simulation``
on several processes.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from floxide_mp.coordinator.active_run import ActiveRun
from floxide_mp.coordinator.iterator_affinity import IteratorAffinity
from floxide_mp.coordinator.leases import Ask, KillRequest, Leased, Session
from floxide_mp.coordinator.liveness import SuspendDetector
from floxide_mp.coordinator.run_queue import RunQueue
from floxide_mp.coordinator.scheduler import Scheduler
from floxide_mp.core import restore
from floxide_mp.core.records import Chunk, Commit, ItemRecord
from floxide_mp.core.run_state import RunState
from floxide_mp.errors import FloxideError, StoreError
from floxide_mp.messages import Reply, Report
from floxide_mp.ports import Progress
from floxide_mp.stores import memory
from floxide_mp.types import WorkItemStatus
from floxide_mp.wire.status_page import CurrentItem
from tests.simulation.runner import Failed, simulating

SCHEDULES = int(os.environ.get("FLOXIDE_SIMULATED", "2500"))
MOST = 800  # schedules until a mutant must be found

pytestmark = pytest.mark.timeout(max(600, SCHEDULES // 10))


def test_whatever_goes_wrong_nothing_is_lost_or_doubled_and_nothing_hangs() -> None:
    seen: Counter[str] = Counter()
    with simulating() as runner:
        for seed in range(SCHEDULES):
            played = runner.play(seed)
            seen.update(played.happened)
            seen.update(played.ends)
    # The sample must be one that could have gone wrong.
    assert {"completed", "failed", "cancelled"} <= set(seen)
    assert seen["the coordinator dies"] > SCHEDULES / 10
    assert seen["the coordinator dies in a commit"]
    assert seen["a worker dies"] > SCHEDULES / 10
    assert seen["completed"] > SCHEDULES / 2


def test_a_schedule_follows_from_its_seed() -> None:
    with simulating() as runner:
        assert [runner.play(seed) for seed in range(30)] == [runner.play(seed) for seed in range(30)]


# -- and it can fail: each of these is wrong in one place ----------------------------------------------------------


class Gullible(Scheduler):
    """Takes reports under a lease that is over."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._lost: dict[int, Session] = {}

    def _session_lost(self, session: int, describe: Any, text: str, overdue: KillRequest | None) -> bool:
        if session in self._sessions:
            self._lost[session] = self._sessions[session]
        return super()._session_lost(session, describe, text, overdue)

    def exchange(
        self, session: int, reports: Sequence[Report], want: float, ask: Ask | None = None, busy: bool = False
    ) -> Reply:
        if reports and session in self._lost:
            self._sessions[session] = self._lost.pop(session)
        return super().exchange(session, reports, want, ask, busy)


class Forgetful(Scheduler):
    """What a dead worker had is not given back."""

    def _session_lost(
        self, session: int, describe: Callable[[str], FloxideError], text: str, overdue: KillRequest | None
    ) -> bool:
        if session in self._sessions:
            self._sessions[session].leases.clear()
        return super()._session_lost(session, describe, text, overdue)


@pytest.mark.parametrize("wrong", [Gullible, Forgetful])
def test_a_wrong_scheduler_is_found(wrong: type[Scheduler]) -> None:
    found(wrong)


def test_a_commit_that_is_dropped_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    apply, count = memory._Run.apply, 0

    def lossy(run: memory._Run, commit: Commit, progress: Progress) -> None:
        nonlocal count
        count += 1
        if count % 50 or commit.phase_changed:
            apply(run, commit, progress)

    monkeypatch.setattr(memory._Run, "apply", lossy)
    found()


def test_a_resume_without_the_retries_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = restore._queue

    def queued(state: RunState, item: ItemRecord) -> None:
        if item.status is WorkItemStatus.WAITING_RETRY:
            state._waiting += 1
        else:
            queue(state, item)

    monkeypatch.setattr(restore, "_queue", queued)
    assert "no timer" in found()


def test_a_resumed_run_that_nobody_is_given_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    note = RunQueue.refresh
    monkeypatch.setattr(RunQueue, "refresh", lambda turns, run: None if run.generation else note(turns, run))
    assert "not in line" in found()


def test_writes_of_a_failed_attempt_that_count_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    again = RunState._again

    def written(state: RunState, item: ItemRecord, due: float, now: float) -> None:
        state._write(item.order, state.plan.places[item.place], ((2, b"\x80\x05\x8c\x02n0\x94."),))
        again(state, item, due, now)

    monkeypatch.setattr(RunState, "_again", written)
    found()


def test_a_stop_of_everything_that_counts_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SuspendDetector, "missed", lambda self, now, used: 0.0)
    found()


def test_a_successor_that_is_there_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for the worker that went ahead, and once for whoever comes."""
    succeed = RunState.succeed

    def twice(state: RunState, *args: Any) -> ItemRecord | None:
        after = succeed(state, *args)
        if after is not None:
            state._queue(state._add(after.place, after.order, after.payload, after.scope))
        return after

    monkeypatch.setattr(RunState, "succeed", twice)
    found()


def test_successors_in_a_block_that_are_there_twice_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    succeed_all = RunState.succeed_all

    def twice(state: RunState, *args: Any) -> Chunk | None:
        after = succeed_all(state, *args)
        if after is not None:
            state._ready.push(state._add_block(after.place, after.order, after.payloads, after.scope))
        return after

    monkeypatch.setattr(RunState, "succeed_all", twice)
    found()


def test_a_part_of_a_block_that_goes_back_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    release_all = RunState.release_all

    def twice(state: RunState, block: Chunk) -> None:
        release_all(state, block)
        state._ready.push(block)

    monkeypatch.setattr(RunState, "release_all", twice)
    found()


def test_a_part_of_a_block_that_is_not_remembered_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    take_out = memory._Blocks.take_out

    def lossy(blocks: memory._Blocks, first: int, stop: int) -> int:
        end = take_out(blocks, first, stop)
        if end in blocks._blocks:
            take_out(blocks, end, end + 1)
        return end

    monkeypatch.setattr(memory._Blocks, "take_out", lossy)
    found()


def test_an_item_ahead_that_others_get_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is running, and what led to it was told early."""
    apply = ActiveRun.apply

    def wrong(
        run: ActiveRun, items: Any, results: Any, on: Any, ahead: bool, home: IteratorAffinity
    ) -> list[ItemRecord | Chunk]:
        return apply(run, items, results, on, False, home)

    monkeypatch.setattr(ActiveRun, "apply", wrong)
    found()


def test_who_dies_ahead_again_and_again_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Leased, "chained_from", lambda lease, at: 0)
    assert "nobody is to blame" in found()


def test_the_first_of_a_block_being_blamed_for_another_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    find = Leased.find

    def wrong(lease: Leased, at: CurrentItem | None) -> tuple[ItemRecord | Chunk, int] | None:
        item = find(lease, at)
        return item and (item[0], 0)

    monkeypatch.setattr(Leased, "find", wrong)
    assert "to blame" in found()


def test_telling_what_is_not_written_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    commit_queue = pytest.importorskip("floxide_mp.coordinator.group_commit").GroupCommit
    add = commit_queue.add

    def eager(self: Any, run: Any, *what: Any) -> None:
        add(self, run, *what)
        self._owner.written(run, self._queue[-1].what)

    monkeypatch.setattr(commit_queue, "add", eager)
    found()


def test_a_group_that_is_given_up_when_there_is_no_space_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    commit_queue = pytest.importorskip("floxide_mp.coordinator.group_commit").GroupCommit
    stand = commit_queue._stand

    def given_up(self: Any, error: StoreError) -> None:
        stand(self, error)
        self._drop(list(self._queue)[:1])

    monkeypatch.setattr(commit_queue, "_stand", given_up)
    found()


def found(scheduler: type[Scheduler] = Scheduler) -> str:
    """What the first schedule says that shows it."""
    with simulating(scheduler) as runner:
        for seed in range(MOST):
            try:
                runner.play(seed)
            except Failed as failure:
                text = str(failure)
                assert re.match(rf"seed {seed}: ", text)
                assert text.endswith(f"--runs 1 --seed {seed}")
                return text.splitlines()[0]
    raise AssertionError(f"{MOST} schedules do not show it")
