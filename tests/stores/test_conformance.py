"""Our stores do what the port says; and a store that does not is found out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from floxide_mp.core.records import Chunk, Commit, OutputChunk, OutputRecord, Snapshot, one_by_one
from floxide_mp.ports import CheckpointStore, Progress, RunRecord
from floxide_mp.stores.memory import MemoryStore
from floxide_mp.stores.sqlite.store import SQLiteStore
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

    def outputs(self, run_id: str, since: int = 0, most: int | None = None) -> list[OutputRecord | OutputChunk]:
        return list(super().outputs(run_id, since, most))[:-1]


class Unsorted(MemoryStore):
    def snapshot(self, run_id: str) -> Snapshot:
        found = super().snapshot(run_id)
        return found._replace(items=sorted(found.items, key=lambda row: row.id))


class ForgetsGiven(MemoryStore):
    """After a crash its items would give all that they have given once more."""

    def snapshot(self, run_id: str) -> Snapshot:
        return super().snapshot(run_id)._replace(given={})


class Blocks(MemoryStore):
    """Changes what it is given before it remembers it, as a store might that gets blocks wrong."""

    def create(self, run: RunRecord, commit: Commit, progress: Progress) -> None:
        super().create(run, self.changed(commit), progress)

    def commit(self, run_id: str, commit: Commit, progress: Progress) -> None:
        super().commit(run_id, self.changed(commit), progress)

    def changed(self, commit: Commit) -> Commit:
        raise NotImplementedError


class Numbered(Blocks):
    """Counts the branches of a block from 0."""

    def changed(self, commit: Commit) -> Commit:
        return replace(commit, blocks=[self._counted(block) for block in commit.blocks])

    @staticmethod
    def _counted(block: Chunk) -> Chunk:
        depth, path = block.order
        return Chunk(block.first, block.place, (depth, (*path[:-1], 0)), block.payloads, block.scope)


class FrontOnly(Blocks):
    """Takes whatever is over of a block to be its front."""

    def changed(self, commit: Commit) -> Commit:
        for first, count in commit.ranges:
            held = self._runs["run"].blocks
            start = max((n for n in held._firsts if n <= first), default=first)
            if start < first:
                return replace(commit, ranges=[(start, count)])
        return commit


class OfOne(Blocks):
    """Takes all of a range to be of the block that its first item is in."""

    def changed(self, commit: Commit) -> Commit:
        held = self._runs["run"].blocks._blocks if self._runs else {}
        ends = {
            n: block.first + len(block) for block in held.values() for n in range(block.first, block.first + len(block))
        }
        return replace(commit, ranges=[(n, min(count, ends.get(n, n + count) - n)) for n, count in commit.ranges])


class Gone(Blocks):
    """An item that steps out of its block is over."""

    def changed(self, commit: Commit) -> Commit:
        over = {number for first, count in commit.ranges for number in range(first, first + count)}
        return replace(commit, created=[one for one in commit.created if one.id not in over], changed=[], finished=[])


class StaysIn(Blocks):
    """... or is in it as well."""

    def changed(self, commit: Commit) -> Commit:
        out = {item.id for item in commit.created}
        return replace(commit, ranges=[pair for pair in commit.ranges if pair[0] not in out])


class Uncut(MemoryStore):
    """Gives a block whole, if any of it is asked for."""

    def outputs(self, run_id: str, since: int = 0, most: int | None = None) -> list[OutputRecord | OutputChunk]:
        found: list[OutputRecord | OutputChunk] = []
        at = 0
        for output in super().outputs(run_id):
            at += len(output.payloads) if isinstance(output, OutputChunk) else 1
            found += [output] if at > since else []
        return found


class BlocksFirst(Blocks):
    def changed(self, commit: Commit) -> Commit:
        outputs = [*one_by_one(commit.output_blocks), *commit.outputs]
        return replace(commit, outputs=outputs, output_blocks=[])


class OneArrives(Blocks):
    def changed(self, commit: Commit) -> Commit:
        return replace(commit, arrived_blocks=[a._replace(payloads=a.payloads[:1]) for a in commit.arrived_blocks])


class OneByOne(MemoryStore):
    """Writes groups, and what is before one that cannot be written is written."""

    def prepare(self, run_id: str, commit: Commit, progress: Progress) -> tuple[str, Commit, Progress]:
        return run_id, commit, progress

    def write(self, prepared: Sequence[tuple[str, Commit, Progress]]) -> None:
        for one in prepared:
            self.commit(*one)


class NewIsWhole(OneByOne):
    """... and what is new in a group is not over in it."""

    def write(self, prepared: Sequence[tuple[str, Commit, Progress]]) -> None:
        new = {n for _, commit, _ in prepared for b in commit.blocks for n in range(b.first, b.first + len(b))}
        for run_id, commit, progress in prepared:
            ranges = [pair for pair in commit.ranges if pair[0] not in new]
            self.commit(run_id, replace(commit, ranges=ranges), progress)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (OneByOne, ["what is prepared is written as it was together and once"]),
        (NewIsWhole, ["blocks are written together as one by one"]),
        (Forgets, ["a run that exists is not made again", "events outputs and errors come in the order of commits"]),
        (ForgetsGiven, ["what items have given is kept until they are over"]),
        (Unsorted, ["items come in order as they were written"]),
        (Numbered, ["blocks are items side by side"]),
        (FrontOnly, ["what is over of blocks is forgotten", "items step out of blocks"]),
        (OfOne, ["a range is of items however they came"]),
        (Gone, ["items step out of blocks"]),
        (StaysIn, ["items step out of blocks"]),
        (Uncut, ["outputs in blocks count as many as there are"]),
        (BlocksFirst, ["outputs in blocks count as many as there are"]),
        (OneArrives, ["values in blocks wait at joins"]),
    ],
)
def test_a_store_that_does_something_else_is_found_out(kind: type[MemoryStore], expected: list[str]) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        check_store(kind)
    found = [str(error).partition(":")[0] for error in caught.value.exceptions]
    assert set(expected) <= set(found)
