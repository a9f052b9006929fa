"""``Batch``: what several commits of one run come to, and the statements that write it.

What begins and ends within a batch is never written. What each commit would have done alone is in ``memory``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Final

from ...core.records import (
    Chunk,
    EventRecord,
    JoinInput,
    JoinInputChunk,
    OutputChunk,
    OutputRecord,
    ScopeRecord,
    Snapshot,
)
from ...core.types import ErrorRecord
from ...ports import Progress, RunRecord
from . import large_values, row_codec, schema
from .chunk_codec import (
    LEAST,
    ChunkIndex,
    arrival_rows,
    block_rows,
    blocks_of,
    event_rows,
    output_rows,
    pack_block,
    whole,
)
from .clock_conversion import Clocks
from .packing import Range, merged, total, without
from .row_codec import ItemColumns, Prepared, Row, State
from .row_macs import Body, RowMacs, RowSum, RunTotals, corrupt, differing, run_name
from .schema import Table

# Which rows. Many keys are handed over as one value: one statement for any number of them.
_OF_ITEMS: Final = "run = ? AND item IN (SELECT value FROM json_each(?))"
_OF_BLOCKS: Final = "run = ? AND block IN (SELECT value FROM json_each(?))"
_OF_SCOPES: Final = "run = ? AND scope IN (SELECT value FROM json_each(?))"
_OF_JOIN: Final = "run = ? AND scope = ? AND place = ?"
_OF_MARKS: Final = "run = ? AND kind = ? AND a IN (SELECT value FROM json_each(?))"
_MARKS: Final = (  # in one statement: one for each mark made a chain on SQLite a third slower
    "SELECT a, b, seal FROM marks WHERE run = ? AND kind = ? AND (a, b) IN "
    "(SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))"
)
_PROGRESS: Final = "UPDATE progress SET {} WHERE run = ? AND revision = ?".format(
    ", ".join(f"{column} = ?" for column in [*schema.PROGRESS.names[1:], "seal"])
)
_number: Final = attrgetter("id")


class Batch:
    """See the module.

    Args:
        run_id, run: the run and its number.
        tally: as of before. ``self.tally`` is as of afterwards, once it is written.
        done: completed steps by node, as of before; as of afterwards once it is written.
        index: of the run, likewise.
        living: what its rows come to, likewise.
    """

    def __init__(
        self, run_id: str, run: int, tally: RunTotals, done: dict[str, int], index: ChunkIndex, living: RowSum
    ) -> None:
        self.run_id, self.run, self.before, self.tally = run_id, run, tally, RunTotals(*tally.columns())
        self.done, self.index, self.living = done, index, RowSum(living.total)
        self.progress: Progress
        self._anew = False  # what was unfinished is to be deleted
        self._most: int  # bytes of a payload in its row
        self._blocks: list[Chunk] = []
        self._over: list[Range] = []  # of these, and of those on disk
        self._created: dict[int, ItemColumns] = {}
        self._changed: dict[int, tuple[ItemColumns, State]] = {}
        self._arrived: dict[tuple[int, int], list[JoinInput | JoinInputChunk]] = {}
        self._used: list[tuple[int, int]] = []
        self._opened: dict[int, ScopeRecord] = {}
        self._closed: list[int] = []
        self._failed_batches: dict[int, tuple[int, ErrorRecord]] = {}
        self._of_scopes: dict[int, dict[tuple[str, int], int]] = {}  # scope -> marks
        self._of_nodes: dict[int, dict[tuple[str, int], int]] = {}
        self._of_items: dict[int, dict[tuple[str, int], int]] = {}
        self._given: list[int] = []  # items that have nothing more to give
        self._released: list[int] = []
        self.events: list[EventRecord] = []
        self._outputs: list[OutputRecord | OutputChunk] = []
        self._errors: list[ErrorRecord] = []
        self._done: dict[str, int] = {}

    def add(self, prepared: Prepared) -> None:
        """One more commit."""
        commit = prepared.commit
        self.tally.revision += 1
        self.progress = prepared.progress
        self._blocks += commit.blocks
        for first, count in commit.ranges:
            self._over.append((first, first + count))
        for fixed in prepared.created:
            self._created[fixed[0]] = fixed
        for change in prepared.changed:
            self._changed[change[0][0]] = change
        for number in commit.finished:
            if self._changed:
                self._changed.pop(number, None)
            if self._created.pop(number, None) is None:
                self._over.append((number, number + 1))
        if commit.arrived or commit.arrived_blocks or commit.joined or commit.depths:
            self._add_joins(prepared)
        if commit.opened or commit.closed or commit.failed_batches:
            self._add_scopes(prepared)
        for number, given in commit.given.items():
            self._of_items.pop(number, None)
            if given is None:
                self._given.append(number)
            else:
                self._of_items[number] = row_codec.given_marks(given)
        for node, item in commit.held:
            self.tally.held += 1
            self._of_nodes.setdefault(node, {})["held", item] = self.tally.held
        for node in commit.nodes_emitted:
            self._of_nodes[node] = {("passed", 0): 0}
            if self.before.held:
                self._released.append(node)
        self.events += commit.events
        self._outputs += commit.outputs
        self._outputs += commit.output_blocks
        self._errors += commit.errors
        for name, count in commit.done.items():
            self._done[name] = self._done.get(name, 0) + count

    def renew(self, snapshot: Snapshot, progress: Progress, clocks: Clocks) -> None:
        """Instead of commits: all that is unfinished, in place of everything that was."""
        self._anew = True
        tally = self.tally
        tally.revision += 1
        tally.items = tally.arrivals = tally.scopes = tally.failed_batches = tally.flags = tally.blocks = 0
        self.index = ChunkIndex()
        self.progress = progress
        for row in sorted(snapshot.items, key=_number):  # blocks come in the order of their first items
            fixed = row[:6]
            self._created[row.id] = fixed
            state = row.attempt, row.status.value, clocks.to_wall(row.due)
            if state != row_codec.NEW:
                self._changed[row.id] = fixed, state
        for arrival in snapshot.arrivals:
            self._arrived.setdefault((arrival.scope, arrival.place), []).append(arrival)
        self._opened = {scope.id: scope for scope in snapshot.scopes}
        self._failed_batches = dict(snapshot.failed_batches)
        for scope, place in snapshot.joined:
            self._of_scopes.setdefault(scope, {})["joined", place] = 0
        for (scope, component), depth in snapshot.depths.items():
            self._of_scopes.setdefault(scope, {})["depth", component] = depth
        self._of_items = {item: row_codec.given_marks(given) for item, given in snapshot.given.items()}
        for node in snapshot.nodes_emitted:
            self._of_nodes[node] = {("passed", 0): 0}
        for node, items in snapshot.held.items():
            for item in items:
                tally.held += 1
                self._of_nodes.setdefault(node, {})["held", item] = tally.held

    def _add_joins(self, prepared: Prepared) -> None:
        commit = prepared.commit
        for found in (commit.arrived, commit.arrived_blocks):
            for arrival in found:
                self._arrived.setdefault((arrival.scope, arrival.place), []).append(arrival)
        for scope, place in commit.joined:
            self._of_scopes.setdefault(scope, {})["joined", place] = 0
            self._arrived.pop((scope, place), None)
            if self.before.arrivals:
                self._used.append((scope, place))
        for (scope, component), depth in commit.depths.items():
            self._of_scopes.setdefault(scope, {})["depth", component] = depth

    def _add_scopes(self, prepared: Prepared) -> None:
        commit = prepared.commit
        self._opened.update((opened.id, opened) for opened in commit.opened)
        self._failed_batches.update(commit.failed_batches)
        for scope in commit.closed:
            self._of_scopes.pop(scope, None)
            self._failed_batches.pop(scope, None)
            if self._opened.pop(scope, None) is None:
                self._closed.append(scope)

    # -- writing -------------------------------------------------------------------------------------

    def create(self, connection: sqlite3.Connection, seals: RowMacs, run: RunRecord, epoch: int, now: float) -> None:
        """Write it as a run's first, in the transaction that is open."""
        self._write_run(connection, seals, run)
        self._write_rows(connection, seals)
        schema.PROGRESS.insert(connection, [self._progress_row(seals, epoch, now)])

    def replace(self, connection: sqlite3.Connection, seals: RowMacs, run: RunRecord) -> None:
        """Write what the run goes on with from now on."""
        self._remove(connection, seals, schema.RUNS, "run = ?")
        self._write_run(connection, seals, run)

    def _write_run(self, connection: sqlite3.Connection, seals: RowMacs, run: RunRecord) -> None:
        self._most = min(1 << 16, large_values.most(connection))  # all lists of runs read the row
        self._insert(connection, seals, schema.RUNS, [row_codec.run_row(self.run, run)])

    def write(self, connection: sqlite3.Connection, seals: RowMacs, epoch: int, now: float) -> None:
        """Write it, in the transaction that is open."""
        self._write_rows(connection, seals)
        row = self._progress_row(seals, epoch, now)
        done = connection.execute(_PROGRESS, (*row[1:], self.run, self.before.revision))
        self._expect(seals, 1, done.rowcount, "progress")

    def _write_rows(self, connection: sqlite3.Connection, seals: RowMacs) -> None:
        run = self.run
        self._most = large_values.most(connection)
        if self._anew:
            for table in schema.LIVING:
                self._remove(connection, seals, table, "run = ?")
        self._write_items(connection, seals)
        if self._closed or self._released or self._used or self._given:
            self._delete(connection, seals)
        if self._arrived:
            arrivals = (arrival for found in self._arrived.values() for arrival in found)
            made = list(arrival_rows(run, self.tally.arrived + 1, arrivals))
            self._insert(connection, seals, schema.ARRIVALS, made)
            self.tally.arrivals += len(made)
            self.tally.arrived += sum([head[4] for head, _ in made])
        if self._opened:
            self._insert(connection, seals, schema.SCOPES, (row_codec.scope_row(run, s) for s in self._opened.values()))
            self.tally.scopes += len(self._opened)
        if self._failed_batches:
            self._write_spoilt(connection, seals)
        if self._of_scopes or self._of_nodes or self._of_items:
            self._write_marks(connection, seals)
        self._write_logs(connection, seals)
        if self._done:
            self._write_steps(connection, seals)

    def _write_items(self, connection: sqlite3.Connection, seals: RowMacs) -> None:
        run, tally, changed, created = self.run, self.tally, self._changed, self._created
        over = merged(self._over)
        new = [(block.first, block.first + len(block)) for block in self._blocks]
        tally.items += total(new) + len(created) - total(over)
        if over or changed:
            self._take_out(connection, seals, without(over, new))
        single: list[tuple[Row, bytes]] = []
        together: list[tuple[Row, bytes]] = []
        loose = list(created.values())
        for block in self._blocks:
            for start, stop in without([(block.first, block.first + len(block))], over):
                part = block.part(start - block.first, stop - block.first)
                if whole(part.order, part.payloads):
                    together += block_rows(run, part)
                else:
                    loose += map(row_codec.fixed, part.items())
        for stretch in blocks_of(loose, lambda number: number in changed or self.index.spans(number)):
            if len(stretch) < LEAST:
                for fixed in stretch:
                    state = changed.pop(fixed[0])[1] if fixed[0] in changed else row_codec.NEW
                    single.append(row_codec.item_row(run, fixed, state))
            else:
                together.append(pack_block(run, stretch))
        for head, _ in together:
            self.index.add(head[1], head[2])
        if single:
            self._insert(connection, seals, schema.ITEMS, single)
        if together:
            self._insert(connection, seals, schema.BLOCKS, together)
        tally.blocks += len(together)
        if changed:
            self._remove(connection, seals, schema.ITEMS, _OF_ITEMS, list(changed))
            again = [row_codec.item_row(run, fixed, state) for fixed, state in changed.values()]
            self._insert(connection, seals, schema.ITEMS, again)

    def _take_out(self, connection: sqlite3.Connection, seals: RowMacs, over: list[Range]) -> None:
        """What is over goes, and what was changed gets a row of its own."""
        run = self.run
        again = merged((number, number + 1) for number in self._changed if number not in self._created)
        outside, changed, empty = self.index.take_out(merged([*over, *again]))
        single = [number for start, stop in without(outside, again) for number in range(start, stop)]
        if single:
            self._expect(seals, len(single), self._remove(connection, seals, schema.ITEMS, _OF_ITEMS, single), "items")
        if empty:
            self._expect(seals, len(empty), self._remove(connection, seals, schema.BLOCKS, _OF_BLOCKS, empty), "blocks")
            self._remove(connection, seals, schema.GONE, _OF_BLOCKS, empty)
            self.tally.blocks -= len(empty)
        if changed:
            self._take(connection, seals, schema.GONE, _OF_BLOCKS, (run, str(changed)))
            heads = [self.index.gone_row(run, first) for first in changed]
            self._put(connection, seals, schema.GONE, heads, "REPLACE")

    def _delete(self, connection: sqlite3.Connection, seals: RowMacs) -> None:
        tally = self.tally
        for scope, place in self._used:
            tally.arrivals -= self._remove(connection, seals, schema.ARRIVALS, _OF_JOIN, scope, place)
        if self._released:
            tally.flags -= self._remove(connection, seals, schema.MARKS, _OF_MARKS, "held", self._released)
        if self._given:
            tally.flags -= self._remove(connection, seals, schema.MARKS, _OF_MARKS, "given", self._given)
        if self._closed:
            done = self._remove(connection, seals, schema.SCOPES, _OF_SCOPES, self._closed)
            self._expect(seals, len(self._closed), done, "scopes")
            tally.scopes -= done
            for kind in ("depth", "joined"):
                tally.flags -= self._remove(connection, seals, schema.MARKS, _OF_MARKS, kind, self._closed)
            if tally.failed_batches:
                tally.failed_batches -= self._remove(connection, seals, schema.SPOILT, _OF_SCOPES, self._closed)

    def _remove(self, connection: sqlite3.Connection, seals: RowMacs, table: Table, where: str, *keys: object) -> int:
        """Delete rows of the run, and what belongs to them; how many there were. Lists of keys go as JSON."""
        values = (self.run, *(str(key) if isinstance(key, list) else key for key in keys))
        if self.tally.large and table.payload:
            large_values.delete(connection, table, where, values)
        if not self._take(connection, seals, table, where, values):
            return 0
        return connection.execute(f"DELETE FROM {table.name} WHERE {where}", values).rowcount

    def _write_spoilt(self, connection: sqlite3.Connection, seals: RowMacs) -> None:
        """A batch may be spoilt again, by an item that comes before the one that spoilt it first."""
        known = self._remove(connection, seals, schema.SPOILT, _OF_SCOPES, list(self._failed_batches))
        made = (((self.run, s, n), row_codec.pack_error(error)) for s, (n, error) in self._failed_batches.items())
        self._insert(connection, seals, schema.SPOILT, made)
        self.tally.failed_batches += len(self._failed_batches) - known

    def _write_marks(self, connection: sqlite3.Connection, seals: RowMacs) -> None:
        found = [
            (self.run, kind, a, b, value)
            for marks in (self._of_scopes, self._of_nodes, self._of_items)
            for a, of_a in marks.items()
            for (kind, b), value in of_a.items()
        ]
        new = []
        for kind in {head[1] for head in found}:
            of_kind = [head for head in found if head[1] == kind]
            there = self._marks(connection, kind, of_kind)
            if kind in ("depth", "given"):  # they change
                self.living.take(seals, there.values())
                again = [head for head in of_kind if head[2:4] in there]
                self._put(connection, seals, schema.MARKS, again, "REPLACE")
            new += [head for head in of_kind if head[2:4] not in there]
        self._put(connection, seals, schema.MARKS, new)
        self.tally.flags += len(new)

    def _marks(self, connection: sqlite3.Connection, kind: str, heads: Sequence[Row]) -> dict[tuple[int, int], bytes]:
        """The seals of those of these marks that are there."""
        wanted = str([[a, b] for _, _, a, b, _ in heads])
        return {(a, b): seal for a, b, seal in connection.execute(_MARKS, (self.run, kind, wanted))}

    def _write_steps(self, connection: sqlite3.Connection, seals: RowMacs) -> None:
        done, tally = self.done, self.tally
        tally.steps -= len(done)
        for name, count in self._done.items():
            done[name] = done.get(name, 0) + count
            tally.done += count
        tally.steps += len(done)
        heads = [(self.run, row_codec.text(name), done[name]) for name in self._done]
        schema.STEPS.insert(connection, [(*head, seals.of("steps", head)) for head in heads], "REPLACE")

    def _write_logs(self, connection: sqlite3.Connection, seals: RowMacs) -> None:
        run, tally = self.run, self.tally
        if self.events:
            made = list(event_rows(run, tally.events + 1, self.events))
            tally.event_seal = self._append(connection, seals, schema.EVENTS, made, tally.event_seal)
            tally.events += len(self.events)
        if self._outputs:
            made = list(output_rows(run, tally.outputs + 1, self._outputs))
            tally.output_seal = self._append(connection, seals, schema.OUTPUTS, made, tally.output_seal)
            tally.outputs += sum([head[2] for head, _ in made])
        if self._errors:
            errors = [row_codec.error_row(run, n, error) for n, error in enumerate(self._errors, tally.errors + 1)]
            tally.error_seal = self._append(connection, seals, schema.ERRORS, errors, tally.error_seal)
            tally.errors += len(self._errors)

    def _insert(
        self, connection: sqlite3.Connection, seals: RowMacs, table: Table, made: Iterable[tuple[Row, bytes | None]]
    ) -> None:
        name = table.name
        fitted = self._fitted(connection, seals, made)
        found = [(*head, body, seals.of(name, head, body)) for head, body in fitted]
        table.insert(connection, found)
        self.living.add(seals, (row[-1] for row in found))

    def _take(
        self, connection: sqlite3.Connection, seals: RowMacs, table: Table, where: str, values: Sequence[object]
    ) -> int:
        """Take out of the sum what is about to be deleted or replaced; how many rows these are."""
        found = connection.execute(f"SELECT seal FROM {table.name} WHERE {where}", values).fetchall()
        self.living.take(seals, (seal for (seal,) in found))
        return len(found)

    def _put(
        self,
        connection: sqlite3.Connection,
        seals: RowMacs,
        table: Table,
        heads: Sequence[Row],
        verb: str = "INSERT",
    ) -> None:
        """Write rows that have no payload. Those that they replace were taken."""
        found = [(*head, seals.of(table.name, head)) for head in heads]
        table.insert(connection, found, verb)
        self.living.add(seals, (row[-1] for row in found))

    def _append(
        self,
        connection: sqlite3.Connection,
        seals: RowMacs,
        table: Table,
        made: Sequence[tuple[Row, bytes | None]],
        seal: bytes,
    ) -> bytes:
        """Write rows that are only added, chained to those before by ``seal``; the new end of the chain."""
        found: list[Row] = []
        fitted = self._fitted(connection, seals, made)
        for together in schema.chunks(fitted):
            seal = seals.of_rows(table.name, together, seal)
            found += [(*head, body, b"") for head, body in together[:-1]]
            head, body = together[-1]
            found.append((*head, body, seal))
        table.insert(connection, found)
        return seal

    def _fitted(
        self, connection: sqlite3.Connection, seals: RowMacs, made: Iterable[tuple[Row, bytes | None]]
    ) -> list[tuple[Row, Body]]:
        """The rows, with a number for each payload that is too large for one, which is written elsewhere."""
        most = self._most
        return [
            (head, body if body is None or len(body) <= most else self.put_aside(connection, seals, body))
            for head, body in made
        ]

    def put_aside(self, connection: sqlite3.Connection, seals: RowMacs, value: bytes) -> int:
        """Write a value that is too large for a row; the number by which it is found."""
        self.tally.large += 1
        large_values.write(connection, seals, self.run, self.tally.large, value)
        return self.tally.large

    def _progress_row(self, seals: RowMacs, epoch: int, now: float) -> Row:
        self.tally.living = self.living.seal(seals)
        head = (self.run, *row_codec.progress_columns(self.progress), now, epoch, *self.tally.columns())
        return (*head, seals.of("progress", head, before=run_name(self.run_id)))

    def _expect(self, seals: RowMacs, expected: int, found: int, table: str) -> None:
        if found != expected:
            raise corrupt(seals.path, differing(expected, found, "row"), self.run_id, table)
