"""Our stores do what the port says; and a store that does not is found out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from floxide_mp.core.records import Commit, OutputRecord, Snapshot
from floxide_mp.ports import CheckpointStore, Progress, RunRecord
from floxide_mp.stores.memory import MemoryStore
from floxide_mp.stores.sqlite import SQLiteStore
from floxide_mp.testing import STORE_CHECKS, check_store


@pytest.mark.parametrize("check", STORE_CHECKS.values(), ids=STORE_CHECKS)
def test_memory(check: Callable[..., None]) -> None:
    check(MemoryStore(), lambda store: store)


@pytest.mark.parametrize("check", STORE_CHECKS.values(), ids=STORE_CHECKS)
@pytest.mark.parametrize("reopening", [False, True], ids=["open", "reopened"])
def test_sqlite(check: Callable[..., None], reopening: bool, tmp_path: Path) -> None:
    opened = [SQLiteStore(tmp_path / "runs.db")]

    def reopen(store: CheckpointStore) -> CheckpointStore:
        if reopening:
            store.close()
            opened[0] = SQLiteStore(tmp_path / "runs.db")
        return opened[0]

    check(opened[0], reopen)
    opened[0].check()
    opened[0].close()


def test_all_at_once(tmp_path: Path) -> None:
    check_store(MemoryStore)
    numbers = iter(range(1000))

    def reopen(store: CheckpointStore) -> CheckpointStore:
        assert isinstance(store, SQLiteStore)
        store.close()
        return SQLiteStore(store.path)

    check_store(lambda: SQLiteStore(tmp_path / f"{next(numbers)}.db"), reopen)


class Forgets(MemoryStore):
    """Keeps all but the last output of a commit, and does not notice that a run is there already."""

    def create(self, run: RunRecord, commit: Commit, progress: Progress) -> None:
        self._runs.pop(run.run_id, None)
        super().create(run, commit, progress)

    def outputs(self, run_id: str, since: int = 0) -> list[OutputRecord]:
        return list(super().outputs(run_id, since))[:-1]


class Unsorted(MemoryStore):
    def snapshot(self, run_id: str) -> Snapshot:
        found = super().snapshot(run_id)
        return found._replace(items=sorted(found.items, key=lambda row: row.id))


class ForgetsGiven(MemoryStore):
    """After a crash its items would give all that they have given once more."""

    def snapshot(self, run_id: str) -> Snapshot:
        return super().snapshot(run_id)._replace(given={})


class OneByOne(MemoryStore):
    """Writes groups, and what is before one that cannot be written is written."""

    def prepare(self, run_id: str, commit: Commit, progress: Progress) -> tuple[str, Commit, Progress]:
        return run_id, commit, progress

    def write(self, prepared: Sequence[tuple[str, Commit, Progress]]) -> None:
        for one in prepared:
            self.commit(*one)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (OneByOne, ["what is prepared is written as it was together and once"]),
        (Forgets, ["a run that exists is not made again", "events outputs and errors come in the order of commits"]),
        (ForgetsGiven, ["what items have given is kept until they are over"]),
        (Unsorted, ["items come in order as they were written"]),
    ],
)
def test_a_store_that_does_something_else_is_found_out(kind: type[MemoryStore], expected: list[str]) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        check_store(kind)
    found = [str(error).partition(":")[0] for error in caught.value.exceptions]
    assert set(expected) <= set(found)
