"""The real coordinator's logic under seeded schedules of faults, and that such a schedule finds what is wrong.

``FLOXIDE_SIMULATED=100000 pytest tests/test_simulated.py`` plays that many, ``python -m tests.simulated`` on several
processes.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from floxide_mp.core import restore
from floxide_mp.core.records import Commit, ItemRecord
from floxide_mp.core.state import RunState
from floxide_mp.errors import FloxideError, StoreError
from floxide_mp.facts import WorkItemStatus
from floxide_mp.ports import Progress, Reply, Report
from floxide_mp.runtime.leases import Ask, Overdue, Session
from floxide_mp.runtime.ledger import Ledger
from floxide_mp.runtime.liveness import Attention
from floxide_mp.stores import memory
from tests.simulated.runner import Failed, simulating

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


class Gullible(Ledger):
    """Takes reports under a lease that is over."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._lost: dict[int, Session] = {}

    def _gone(self, session: int, describe: Any, text: str, overdue: Overdue | None) -> bool:
        if session in self._sessions:
            self._lost[session] = self._sessions[session]
        return super()._gone(session, describe, text, overdue)

    def exchange(self, session: int, reports: Sequence[Report], want: float, ask: Ask | None = None) -> Reply:
        if reports and session in self._lost:
            self._sessions[session] = self._lost.pop(session)
        return super().exchange(session, reports, want, ask)


class Forgetful(Ledger):
    """What a dead worker had is not given back."""

    def _gone(self, session: int, describe: Callable[[str], FloxideError], text: str, overdue: Overdue | None) -> bool:
        if session in self._sessions:
            self._sessions[session].leases.clear()
        return super()._gone(session, describe, text, overdue)


@pytest.mark.parametrize("wrong", [Gullible, Forgetful])
def test_a_wrong_ledger_is_found(wrong: type[Ledger]) -> None:
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
    assert "hangs" in found()


def test_writes_of_a_failed_attempt_that_count_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    again = RunState._again

    def written(state: RunState, item: ItemRecord, due: float, now: float) -> None:
        state._write(item.order, state.plan.places[item.place], ((2, b"\x80\x05\x8c\x02n0\x94."),))
        again(state, item, due, now)

    monkeypatch.setattr(RunState, "_again", written)
    found()


def test_a_stop_of_everything_that_counts_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Attention, "missed", lambda self, now, used: 0.0)
    found()


def test_telling_what_is_not_written_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = pytest.importorskip("floxide_mp.runtime.journal").GroupCommit
    add = journal.add

    def eager(self: Any, run: Any, *what: Any) -> None:
        add(self, run, *what)
        self._owner.written(run, self._queue[-1].what)

    monkeypatch.setattr(journal, "add", eager)
    found()


def test_a_group_that_is_given_up_when_there_is_no_space_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = pytest.importorskip("floxide_mp.runtime.journal").GroupCommit
    stand = journal._stand

    def given_up(self: Any, error: StoreError) -> None:
        stand(self, error)
        self._drop(list(self._queue)[:1])

    monkeypatch.setattr(journal, "_stand", given_up)
    found()


def found(ledger: type[Ledger] = Ledger) -> str:
    """What the first schedule says that shows it."""
    with simulating(ledger) as runner:
        for seed in range(MOST):
            try:
                runner.play(seed)
            except Failed as failure:
                text = str(failure)
                assert re.match(rf"seed {seed}: ", text)
                assert text.endswith(f"--runs 1 --seed {seed}")
                return text.splitlines()[0]
    raise AssertionError(f"{MOST} schedules do not show it")
