"""``Mirrored``: a SQLite store that is held to what a ``MemoryStore`` says, given the same."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from floxide_mp.core.records import Commit, EventRecord, OutputRecord, Snapshot, one_by_one
from floxide_mp.core.types import ErrorRecord, OrderKey
from floxide_mp.ports import Progress, RunRecord
from floxide_mp.stores.memory import MemoryStore
from floxide_mp.stores.sqlite.clock_conversion import Clocks
from floxide_mp.stores.sqlite.row_codec import Prepared
from floxide_mp.stores.sqlite.store import SQLiteStore

from ..core.model import flat

FROZEN = Clocks(lambda: 0.0, lambda: 0.0)


class Mirrored:
    """Commits are written in groups whose sizes ``chance`` chooses; whatever is read is the same in both."""

    def __init__(self, path: Path, chance: random.Random) -> None:
        self.path, self.chance = path, chance
        self.memory = MemoryStore()
        self.file = SQLiteStore(path, clocks=FROZEN)
        self.pending: list[Prepared] = []

    def create(self, run: RunRecord, commit: Commit, progress: Progress) -> None:
        self.memory.create(run, commit, progress)
        self.file.create(run, commit, progress)

    def commit(self, run_id: str, commit: Commit, progress: Progress) -> None:
        self.memory.commit(run_id, commit, progress)
        self.pending.append(self.file.prepare(run_id, commit, progress))
        if self.chance.random() < 0.3:
            self.flush()

    def replace(self, run: RunRecord, snapshot: Snapshot | None = None, withdrawn: Collection[OrderKey] = ()) -> None:
        self.flush()
        self.memory.replace(run, snapshot, withdrawn)
        self.file.replace(run, snapshot, withdrawn)

    def flush(self) -> None:
        self.file.write(self.pending)
        self.pending.clear()

    def reopen(self) -> Mirrored:
        """Another process goes on with the file."""
        self.flush()
        self.file.close()
        self.file = SQLiteStore(self.path, clocks=FROZEN)
        return self

    def runs(self) -> Sequence[RunRecord]:
        return self._same(lambda store: store.runs())

    def record(self, run_id: str) -> RunRecord:
        return self._same(lambda store: store.record(run_id))

    def progress(self, run_id: str) -> Progress:
        return self._same(lambda store: store.progress(run_id))

    def snapshot(self, run_id: str) -> Snapshot:
        self._same(lambda store: plain(store.snapshot(run_id)))
        return self.file.snapshot(run_id)

    def events(self, run_id: str, since: int = 0, most: int | None = None) -> Sequence[EventRecord]:
        found: Sequence[EventRecord] = self._same(lambda store: store.events(run_id, since))
        return found[:most]

    def outputs(self, run_id: str, since: int = 0, most: int | None = None) -> Sequence[OutputRecord]:
        return self._same(lambda store: list(one_by_one(store.outputs(run_id, since))))[:most]

    def errors(self, run_id: str) -> Sequence[ErrorRecord]:
        return self._same(lambda store: store.errors(run_id))

    def finished(self, run_id: str) -> Mapping[str, int]:
        return self._same(lambda store: store.finished(run_id))

    def close(self) -> None:
        """Everything is the same once more, and nothing of the run that is over is left but what is to be kept."""
        self.flush()
        self.file.check()
        for record in self.runs():
            self.snapshot(record.run_id)
            count = len(self.outputs(record.run_id))
            self.outputs(record.run_id, count // 2)
            self.events(record.run_id)
            self.errors(record.run_id)
            assert sum(self.finished(record.run_id).values()) == self.progress(record.run_id).metrics.completed
        self.file.close()

    def _same(self, read: Any) -> Any:
        self.flush()
        one, other = read(self.memory), read(self.file)
        assert one == other
        return other


def plain(snapshot: Snapshot) -> tuple[object, ...]:
    """A snapshot in which what has no order is sorted, and no matter what came in blocks."""
    return (
        [row._replace(payload=flat(row.payload)) for row in snapshot.items],
        snapshot.arrivals,
        sorted(snapshot.scopes),
        sorted(snapshot.joined),
        snapshot.depths,
        sorted(snapshot.nodes_emitted),
        snapshot.held,
        snapshot.failed_batches,
    )
