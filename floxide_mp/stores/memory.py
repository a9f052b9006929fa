"""``MemoryStore``: remembers for as long as the process lives. The executable specification of the port."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.records import Arrival, Commit, ErrorRecord, EventRecord, ItemRecord, OutputRecord
from ..errors import NotStartedError, StoreError
from ..ports import Progress, RunRecord


class _Run:
    """One run: what is finished is forgotten, but for its events, outputs and errors."""

    __slots__ = ("arrived", "errors", "events", "items", "outputs", "progress", "record")

    def __init__(self, record: RunRecord) -> None:
        self.record = record
        self.progress: Progress
        self.items: dict[int, ItemRecord] = {}
        self.arrived: dict[tuple[int, int], list[Arrival]] = {}
        self.events: list[EventRecord] = []
        self.outputs: list[OutputRecord] = []
        self.errors: list[ErrorRecord] = []

    def apply(self, commit: Commit, progress: Progress) -> None:
        for item in commit.created:
            self.items[item.id] = item
        for number in commit.finished:
            del self.items[number]
        for arrival in commit.arrived:
            self.arrived.setdefault((arrival.scope, arrival.place), []).append(arrival)
        for scope_and_place in commit.joined:
            self.arrived.pop(scope_and_place, None)
        self.events += commit.events
        self.outputs += commit.outputs
        self.errors += commit.errors
        self.progress = progress


class MemoryStore:
    """See ``ports.CheckpointStore``."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}

    def create(self, run: RunRecord, commit: Commit, progress: Progress) -> None:
        if run.run_id in self._runs:
            raise StoreError(f"run {run.run_id!r} exists", run_id=run.run_id)
        made = _Run(run)
        made.apply(commit, progress)
        self._runs[run.run_id] = made

    def commit(self, run_id: str, commit: Commit, progress: Progress) -> None:
        self._run(run_id).apply(commit, progress)

    def runs(self) -> Sequence[RunRecord]:
        return [run.record for run in self._runs.values()]

    def progress(self, run_id: str) -> Progress:
        return self._run(run_id).progress

    def pending(self, run_id: str) -> Sequence[ItemRecord]:
        return sorted(self._run(run_id).items.values(), key=lambda item: item.order)

    def arrivals(self, run_id: str) -> Sequence[Arrival]:
        waiting = [a for arrivals in self._run(run_id).arrived.values() for a in arrivals]
        return sorted(waiting, key=lambda arrival: arrival.order)

    def events(self, run_id: str, since: int = 0) -> Sequence[EventRecord]:
        return self._run(run_id).events[since:]

    def outputs(self, run_id: str, since: int = 0) -> Sequence[OutputRecord]:
        return self._run(run_id).outputs[since:]

    def errors(self, run_id: str) -> Sequence[ErrorRecord]:
        return list(self._run(run_id).errors)

    def close(self) -> None:
        self._runs.clear()

    def _run(self, run_id: str) -> _Run:
        try:
            return self._runs[run_id]
        except KeyError:
            raise NotStartedError(f"no run {run_id!r} in this store", run_id=run_id) from None
