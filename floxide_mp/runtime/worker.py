"""``Worker``: the loop of every worker, in a process of its own or in the caller's thread."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from .. import failpoints
from ..ports import Backend, EventPage, Lease, Reply, Report, StepResult
from . import codec
from .board import Board
from .clock import monotonic, monotonic_ns, sleep
from .step import Calls, Steps, calls_of, refuse

FLOOR: Final = 0.004  # seconds of work that a round trip should carry at least: some 60 us are lost to each
CEILING: Final = 0.1
SHARE: Final = 20  # ... and this many times the round trip itself, which is slow while the caller holds the GIL
SLOW: Final = 4  # a lease that takes this many times what was asked for is cut short
LOOK: Final = 0.02  # seconds between looks for a lease that is held up by its present item
IMPORTING: Final = 60_000_000_000  # nanoseconds that importing a workflow may take on top of a node's time-out
KEEP: Final = 64  # runs whose decoded workflow and log a worker keeps
ONE_BY_ONE: Final = 1e-9  # as ``want``: every lease is one item


@dataclass(slots=True)
class _Work:
    """A lease in work. ``told`` of its results have been reported early; nothing is begun once it is ``cut``."""

    lease: Lease
    limit: int  # monotonic_ns
    results: list[StepResult] = field(default_factory=list)
    told: int = 0
    cut: bool = False


class Worker:
    """Claims, runs and reports until told to stop.

    Args:
        session: what the coordinator knows this worker by.
        backend: the coordinator's verbs.
        board: what this worker and its coordinator tell each other without asking.
        bundles: workflows that need not be fetched and opened, by key.
        want: seconds of work to ask for at a time, for a worker in the caller's thread; in a process of its own that
            follows from how long a round trip takes.
        worn: told how many items this worker has run, says whether another should run the next ones.
    """

    def __init__(
        self,
        session: int,
        backend: Backend,
        board: Board,
        bundles: dict[bytes, codec.Bundle] | None = None,
        want: float | None = None,
        worn: Callable[[int], bool] | None = None,
    ) -> None:
        self._session = session
        self._backend = backend
        self._board = board
        self._runs: OrderedDict[str, Steps] = OrderedDict()
        self._bundles: dict[bytes, codec.Bundle] = {} if bundles is None else bundles
        self._calls: dict[bytes, Calls] = {}  # of these
        self._reports: list[Report] = []
        self._want = want or FLOOR
        self._inline = want is not None
        self._worn = worn
        self._count = 0  # items that were run
        self._lock = threading.Lock()  # around each call to the backend, and each beginning of one of several items
        self._work: _Work | None = None  # a lease of several items
        self._busy = threading.Event()  # it is there
        self._broken: BaseException | None = None  # what the early report failed with: the connection is of no use
        self._teller: threading.Thread | None = None

    def run(self) -> bool:
        """Work until the coordinator says stop, or this worker is worn; whether it is."""
        while not self.turn().stop:
            if self._worn is not None and self._worn(self._count):
                self.hand_in()
                return True
        return False

    def turn(self) -> Reply:
        """One round trip, and the work that it brought."""
        before = monotonic()
        reports, self._reports = self._reports, []
        with self._lock:
            if self._broken is not None:
                raise self._broken
            reply = self._backend.exchange(self._session, reports, self._want)
        if not self._inline:
            trip = monotonic() - before - reply.waited
            self._want = min(max(FLOOR, SHARE * trip), CEILING)
        if failpoints.armed and reply.leases:
            failpoints.hit("worker.claimed")
        for lease in reply.leases:
            self._reports.append(self._run(lease))
        return reply

    def hand_in(self) -> None:
        """Report what is done, and take nothing."""
        if self._reports:
            reports, self._reports = self._reports, []
            with self._lock:
                self._backend.exchange(self._session, reports, 0.0)

    def _run(self, lease: Lease) -> Report:
        board = self._board
        board.begin(lease.id)
        # Importing the workflow's modules can end this process, too: then the first item is to blame, or the next
        # worker would try the same for ever. The time it takes is not the node's, so its clock starts later.
        board.enter(0, monotonic_ns() + IMPORTING)
        try:
            steps = self._steps(lease)
        except Exception as failure:
            return Report(lease.id, refuse(lease.items, failure), ())
        work = _Work(lease, monotonic_ns() + int(self._want * SLOW * 1e9))
        if len(lease.items) > 1:
            self._watch(work)
        spent = self._run_items(work, steps)
        with self._lock:
            self._work = None
            untold = tuple(work.results[work.told :])
        if failpoints.armed:
            failpoints.hit("worker.worked")
        # The board is left as it is: a worker that dies before its report is answered dies of its last item, which
        # may have closed the connection, say. Once it is answered the lease is over, and what the board says is past.
        return Report(lease.id, untold, spent)

    def _run_items(self, work: _Work, steps: Steps) -> tuple[tuple[int, int, float], ...]:
        """Run the lease's items in order, and say how long which nodes took."""
        lease, board, lock = work.lease, self._board, self._lock
        cancelled = partial(board.cancelled, lease.id)
        worn = self._worn
        spent: list[tuple[int, int, float]] = []
        before = monotonic_ns()
        node, count = -1, 0
        for index, grant in enumerate(lease.items):
            now = monotonic_ns()
            with lock:
                # Much slower than thought: what is done is told now, what is not begun goes back for others to take.
                if work.cut or board.revoked(lease.id) or (now > work.limit and index):
                    break
                if worn is not None and index and worn(self._count + index):
                    break
                board.enter(index, now)
            if grant[1] != node:
                if count:
                    spent.append((node, count, (now - before) / 1e9))
                node, count, before = grant[1], 0, now
            result = steps.run(grant, cancelled)
            if self._inline:
                result = steps.in_time(grant, result, monotonic_ns() - now)
            work.results.append(result)
            count += 1
        self._count += len(work.results)
        if count:
            spent.append((node, count, (monotonic_ns() - before) / 1e9))
        return tuple(spent)

    # -- telling early -------------------------------------------------------------------------------

    def _watch(self, work: _Work) -> None:
        self._work = work
        self._busy.set()
        if self._teller is None:
            # Only now: a worker whose items are leased one by one has no second thread, and its nodes may fork.
            teller = threading.Thread(target=self._tell_early, name="floxide-teller", daemon=True)
            try:
                teller.start()
            except RuntimeError:
                return  # there is none to be had: what this lease brings is told when all of it is done
            self._teller = teller

    def _tell_early(self) -> None:
        """While one item takes long, report those before it and give back those behind it."""
        while self._busy.wait():
            sleep(LOOK)
            with self._lock:
                work = self._work
                if work is None:
                    self._busy.clear()
                elif not work.cut and monotonic_ns() > work.limit:
                    results = tuple(work.results)  # once: the other thread may add one at any time
                    work.cut, work.told = True, len(results)
                    report = Report(work.lease.id, results, (), last=False)
                    try:
                        self._backend.exchange(self._session, (report,), 0.0)
                    except BaseException as error:
                        # Its reply may still come, and must never be taken for that of another call.
                        self._broken = error
                        return

    # -- workflows -----------------------------------------------------------------------------------

    def _steps(self, lease: Lease) -> Steps:
        run_id = lease.run_id
        steps = self._runs.get(run_id)
        if steps is None or (steps.key, steps.life) != (lease.key, lease.life):
            with self._lock:
                facts = self._backend.describe(run_id, tuple(self._bundles))
            bundle = self._bundles.get(facts.key)
            if bundle is None:
                assert facts.workflow is not None
                bundle = self._bundles[facts.key] = codec.decode_bundle(facts.workflow)
                if len(self._bundles) > KEEP:
                    forgotten = next(iter(self._bundles))
                    del self._bundles[forgotten]
                    self._calls.pop(forgotten, None)
            calls = self._calls.get(facts.key)
            if calls is None:
                calls = self._calls[facts.key] = calls_of(bundle)
            fetch = partial(self._events, run_id)
            steps = self._runs[run_id] = Steps(run_id, bundle, calls, facts, fetch, lease.life)
            if len(self._runs) > KEEP:
                self._runs.popitem(last=False)
        return steps

    def _events(self, run_id: str, since: int) -> EventPage:
        with self._lock:
            return self._backend.events(run_id, since)
