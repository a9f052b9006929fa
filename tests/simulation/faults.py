"""What stands between the scheduler and a real store: writes fail by schedule, before or after they are done."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from floxide_mp.core.records import Commit, EventRecord, OutputChunk, OutputRecord, Snapshot
from floxide_mp.core.types import ErrorRecord, OrderKey
from floxide_mp.errors import StoreError
from floxide_mp.ports import CheckpointStore, Progress, RunRecord
from floxide_mp.stores.memory import MemoryStore
from floxide_mp.stores.sqlite.store import SQLiteStore

from .clock import Clock

ONCE: Final = ("busy", "error", "bug", "death")  # how a single write goes wrong, before or after it is done
LASTING: Final = ("full", "broken")  # ... and every write, until it is mended


class Death(BaseException):
    """The coordinator's process ends here."""


class Faults:
    """What goes wrong, and when."""

    def __init__(self) -> None:
        self.once: tuple[str, bool, int] | None = None  # how, whether after it is done, and how many writes until then
        self.lasting: str | None = None

    def clear(self) -> None:
        self.once = self.lasting = None

    def write(self, work: Callable[[], None]) -> None:
        """Do the work, if it is to be done, and raise what is to be raised."""
        if self.lasting is not None:
            raise _error(self.lasting)
        how, after = None, False
        if self.once is not None:
            how, after, left = self.once
            self.once = (how, after, left - 1) if left else None
            how = None if left else how
        if how is None or after:
            work()
        if how is not None:
            raise _error(how)

    def read(self) -> None:
        if self.lasting == "broken":
            raise _error("broken")


def _error(how: str) -> BaseException:
    if how == "death":
        return Death()
    if how == "bug":
        return RuntimeError("simulated: a bug of the store")
    return StoreError(f"simulated: {how}", transient=how in ("busy", "full"), full=how == "full")


class Faulty:
    """A store behind ``faults``."""

    def __init__(self, inner: Any, faults: Faults) -> None:
        self.inner = inner
        self.faults = faults

    def create(self, run: RunRecord, commit: Commit, progress: Progress) -> None:
        self.faults.write(lambda: self.inner.create(run, commit, progress))

    def commit(self, run_id: str, commit: Commit, progress: Progress) -> None:
        self.faults.write(lambda: self.inner.commit(run_id, commit, progress))

    def replace(self, run: RunRecord, snapshot: Snapshot | None = None, withdrawn: Collection[OrderKey] = ()) -> None:
        self.faults.write(lambda: self.inner.replace(run, snapshot, withdrawn))

    def runs(self) -> Sequence[RunRecord]:
        found: Sequence[RunRecord] = self.inner.runs()
        return found

    def record(self, run_id: str) -> RunRecord:
        found: RunRecord = self.inner.record(run_id)
        return found

    def progress(self, run_id: str) -> Progress:
        self.faults.read()
        found: Progress = self.inner.progress(run_id)
        return found

    def snapshot(self, run_id: str) -> Snapshot:
        self.faults.read()
        found: Snapshot = self.inner.snapshot(run_id)
        return found

    def events(self, run_id: str, since: int = 0, most: int | None = None) -> Sequence[EventRecord]:
        found: Sequence[EventRecord] = self.inner.events(run_id, since, most)
        return found

    def outputs(self, run_id: str, since: int = 0, most: int | None = None) -> Sequence[OutputRecord | OutputChunk]:
        found: Sequence[OutputRecord | OutputChunk] = self.inner.outputs(run_id, since, most)
        return found

    def errors(self, run_id: str) -> Sequence[ErrorRecord]:
        found: Sequence[ErrorRecord] = self.inner.errors(run_id)
        return found

    def finished(self, run_id: str) -> Mapping[str, int]:
        found: Mapping[str, int] = self.inner.finished(run_id)
        return found

    def close(self) -> None:
        self.inner.close()


class FaultyGroups(Faulty):
    """A store that takes commits in groups, behind ``faults``."""

    def prepare(self, run_id: str, commit: Commit, progress: Progress) -> Any:
        return self.inner.prepare(run_id, commit, progress)

    def write(self, prepared: Sequence[Any]) -> None:
        self.faults.write(lambda: self.inner.write(prepared))


@dataclass(slots=True)
class _Prepared:
    run_id: str
    commit: Commit
    progress: Progress
    written: bool = False


class MemoryGroups(MemoryStore):
    """A ``MemoryStore`` that takes commits in groups, as ``SQLiteStore`` does."""

    def prepare(self, run_id: str, commit: Commit, progress: Progress) -> _Prepared:
        changed = [copy.copy(item) for item in commit.changed]  # the core goes on changing them
        return _Prepared(run_id, replace(commit, changed=changed), progress)

    def write(self, prepared: Sequence[_Prepared]) -> None:
        for one in prepared:
            if not one.written:
                self.commit(one.run_id, one.commit, one.progress)
                one.written = True


class Medium:
    """What survives the coordinator: a store that is in memory, or a file.

    Args:
        kind: "memory", "groups" (in memory, in groups) or "file".
        place: a directory for the file.
    """

    def __init__(self, kind: str, place: Path, clock: Clock) -> None:
        self.kind = kind
        self.faults = Faults()
        self._clock = clock
        self._path = place / "runs.db"
        self._store: CheckpointStore | None = None

    def open(self) -> CheckpointStore:
        """The store, for a coordinator that begins."""
        if self._store is not None and self.kind == "file":
            self._store.close()
            self._store = None
        if self._store is None:
            self._store = self._made()
        return Faulty(self._store, self.faults) if self.kind == "memory" else FaultyGroups(self._store, self.faults)

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
        if self.kind == "file":
            for path in self._path.parent.glob("runs.db*"):
                path.unlink()

    def _made(self) -> CheckpointStore:
        if self.kind == "file":
            return SQLiteStore(self._path, clocks=self._clock.clocks)
        return MemoryStore() if self.kind == "memory" else MemoryGroups()
