"""``Worker``: the loop of every worker, in a process of its own or in the caller's thread."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Final

from ..ports import Backend, Lease, Reply, Report, StepResult
from . import codec
from .board import Board
from .clock import monotonic, monotonic_ns
from .step import Steps, refuse

FLOOR: Final = 0.004  # seconds of work that a round trip should carry at least: some 60 us are lost to each
CEILING: Final = 0.1
SHARE: Final = 20  # ... and this many times the round trip itself, which is slow while the caller holds the GIL
IMPORTING: Final = 60_000_000_000  # nanoseconds that importing a workflow may take on top of a node's time-out
KEEP: Final = 64  # runs whose decoded workflow and log a worker keeps


class Worker:
    """Claims, runs and reports until told to stop.

    Args:
        session: what the coordinator knows this worker by.
        backend: the coordinator's verbs.
        board: what this worker and its coordinator tell each other without asking.
        bundles: workflows that need not be fetched and opened, by key.
    """

    def __init__(
        self, session: int, backend: Backend, board: Board, bundles: dict[bytes, codec.Bundle] | None = None
    ) -> None:
        self._session = session
        self._backend = backend
        self._board = board
        self._runs: OrderedDict[str, Steps] = OrderedDict()
        self._bundles: dict[bytes, codec.Bundle] = {} if bundles is None else bundles
        self._reports: list[Report] = []
        self._want = FLOOR

    def run(self) -> None:
        """Work until the coordinator says stop."""
        while not self.turn().stop:
            pass

    def turn(self) -> Reply:
        """One round trip, and the work that it brought."""
        before = monotonic()
        reports, self._reports = self._reports, []
        reply = self._backend.exchange(self._session, reports, self._want)
        trip = monotonic() - before - reply.waited
        self._want = min(max(FLOOR, SHARE * trip), CEILING)
        for lease in reply.leases:
            self._reports.append(self._work(lease))
        return reply

    def _work(self, lease: Lease) -> Report:
        board = self._board
        board.begin(lease.id)
        # Importing the workflow's modules can end this process, too: then the first item is to blame, or the next
        # worker would try the same for ever. The time it takes is not the node's, so its clock starts later.
        board.enter(0, monotonic_ns() + IMPORTING)
        try:
            steps = self._steps(lease.run_id)
        except Exception as failure:
            board.end()
            return Report(lease.id, refuse(lease.items, failure), ())
        cancelled = partial(board.cancelled, lease.id)
        results: list[StepResult] = []
        spent: list[tuple[int, int, float]] = []
        began = before = monotonic_ns()
        limit = began + int(self._want * 4e9)
        node, count = -1, 0
        for index, grant in enumerate(lease.items):
            now = monotonic_ns()
            # Much slower than thought: what is done is told now, what is not begun goes back for others to take.
            if board.revoked(lease.id) or (now > limit and index):
                break
            if grant.node != node:
                if count:
                    spent.append((node, count, (now - before) / 1e9))
                node, count, before = grant.node, 0, now
            board.enter(index, now)
            results.append(steps.run(grant, cancelled))
            count += 1
        if count:
            spent.append((node, count, (monotonic_ns() - before) / 1e9))
        board.end()
        return Report(lease.id, tuple(results), tuple(spent))

    def _steps(self, run_id: str) -> Steps:
        steps = self._runs.get(run_id)
        if steps is None:
            facts = self._backend.describe(run_id, tuple(self._bundles))
            bundle = self._bundles.get(facts.key)
            if bundle is None:
                assert facts.workflow is not None
                bundle = self._bundles[facts.key] = codec.decode_bundle(facts.workflow)
            steps = self._runs[run_id] = Steps(run_id, bundle, facts, partial(self._backend.events, run_id))
            if len(self._runs) > KEEP:
                self._runs.popitem(last=False)
        return steps
