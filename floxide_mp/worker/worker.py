"""``Worker``: the loop of every worker, in a process of its own or in the caller's thread."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from typing import Final

from .. import failpoints
from ..clock import monotonic, monotonic_ns
from ..core.types import OrderKey
from ..messages import EventPage, Grant, Grants, Lease, Reply, Report
from ..ports import Backend, PipelinedBackend
from ..wire import codec, hash_seed
from ..wire.status_page import StatusPage
from .forks import Working
from .importing import importing
from .iterator_cache import IteratorCursors
from .lease_execution import LeaseExecution
from .step import WORKFLOW, Calls, StepRunner, calls_of, each
from .step_errors import is_callers, trouble

FLOOR: Final = 0.004  # seconds of work that a round trip should carry at least: some 60 us are lost to each
CEILING: Final = 0.1
SHARE: Final = 20  # ... and this many times the round trip itself, which is slow while the caller holds the GIL
SLOW: Final = 4  # a lease that takes this many times what was asked for is cut short
LOOK: Final = 5_000_000  # nanoseconds at the least between looks for a lease that is held up by its present item
IMPORTING: Final = 60_000_000_000  # nanoseconds that importing a workflow may take on top of a node's time-out
KEEP: Final = 64  # runs whose decoded workflow and log a worker keeps
MOST_AHEAD: Final = 1024  # items that a worker runs on one lease when it goes on with their successors


class Worker:
    """Claims, runs and reports until told to stop.

    Args:
        session: what the coordinator knows this worker by.
        backend: the coordinator's verbs.
        status page: what this worker and its coordinator tell each other without asking.
        bundles: workflows that need not be fetched and opened, by key.
        want: seconds of work to ask for at a time, for a worker in the caller's thread; in a process of its own that
            follows from how long a round trip takes.
        worn: told how many items this worker has run, says whether another should run the next ones.
        whole: whether what an iterator gives is taken all at once.
    """

    def __init__(
        self,
        session: int,
        backend: Backend,
        status_page: StatusPage,
        bundles: dict[bytes, codec.Bundle] | None = None,
        want: float | None = None,
        worn: Callable[[int], bool] | None = None,
        whole: bool = False,
    ) -> None:
        self._session = session
        self._backend = backend
        self._status_page = status_page
        self._runs: OrderedDict[str, StepRunner] = OrderedDict()
        self._pulls = None if whole else IteratorCursors()
        self._dropped: list[tuple[str, OrderKey]] = []  # of these, what is to be closed
        self._over: list[str] = []  # runs that are to be forgotten
        self._bundles: dict[bytes, codec.Bundle] = {} if bundles is None else bundles
        self._calls: dict[bytes, Calls] = {}  # of these
        self._reports: list[Report] = []
        self._leases: deque[Lease] = deque()  # that were taken in advance
        self._line = backend if isinstance(backend, PipelinedBackend) else None
        self._posted = False  # something was asked of it whose reply is not here yet
        self._want = want or FLOOR
        self._inline = want is not None
        self._worn = worn
        self._count = 0  # items that were run
        self._lock = threading.Lock()  # around each call to the backend, and each beginning of one of several items
        self._work: LeaseExecution | None = None  # a lease of several items
        self._busy = threading.Event()  # it is there
        self._next_look = 0  # for one that is held up (``monotonic_ns``)
        self._sooner = threading.Event()  # that is too late
        self._broken: BaseException | None = None  # what the early report failed with: the connection is of no use
        self._teller: threading.Thread | None = None

    def run(self) -> bool:
        """Work until the coordinator says stop, or this worker is worn; whether it is."""
        while not self.run_once().stop:
            if self._worn is not None and self._worn(self._count):
                self.hand_in()
                self.close()
                return True
        self.close()
        return False

    def close(self) -> None:
        """It works no more."""
        if self._pulls is not None:
            self._pulls.close()

    def run_once(self) -> Reply:
        """One lease, and the round trip that brought it, unless it was here already."""
        with self._lock:
            reply = self._collect() if self._posted else None
            if reply is None or not self._leases:
                reply = self._ask()
            lease = self._leases.popleft() if self._leases else None
            if self._line is not None and lease is not None and (reply.more or self._reports):
                # The next one is on its way while this one is worked on; what is done does not wait for that.
                reports, self._reports, self._posted = self._reports, [], True
                self._line.submit(self._session, reports, self._want if reply.more else 0.0)
        while self._dropped and self._pulls is not None:
            self._pulls.drop(*self._dropped.pop())
        while self._over:
            self._forget(self._over.pop())
        if lease is not None:
            if failpoints.armed:
                failpoints.hit("worker.claimed")
            self._reports.append(self._run(lease))
        return reply

    def _ask(self) -> Reply:
        if self._broken is not None:
            raise self._broken
        before = monotonic()
        reports, self._reports = self._reports, []
        reply = self._backend.exchange(self._session, reports, self._want)
        if not self._inline:
            trip = monotonic() - before - reply.waited
            self._want = min(max(FLOOR, SHARE * trip), CEILING)
        self._leases += reply.leases
        self._dropped += reply.dropped
        self._over += reply.over
        return reply

    def _collect(self) -> Reply:
        """The reply to what was posted. Whatever else is asked, this comes first."""
        assert self._line is not None
        if self._broken is not None:
            raise self._broken
        self._posted = False
        reply = self._line.receive()
        self._leases += reply.leases
        self._dropped += reply.dropped
        self._over += reply.over
        return reply

    def hand_in(self) -> None:
        """Report what is done, and take nothing."""
        with self._lock:
            reports = [*self._reports, *self._unbegun()]
            self._reports = []
            if reports:
                self._backend.exchange(self._session, reports, 0.0)

    def _unbegun(self) -> list[Report]:
        """The leases that were taken in advance go back."""
        if self._posted:
            self._collect()
        leases, self._leases = self._leases, deque()
        return [Report(lease.id, (), ()) for lease in leases]

    def _run(self, lease: Lease) -> Report:
        status_page = self._status_page
        status_page.begin(lease.id)
        # Importing the workflow's modules can end this process, too: then the first item is to blame, or the next
        # worker would try the same for ever. The time it takes is not the node's, so its clock starts later.
        status_page.enter(0, monotonic_ns() + IMPORTING)
        try:
            steps = self._steps(lease)
        except BaseException as failure:  # a module that calls sys.exit() when it is imported, too
            if isinstance(failure, KeyboardInterrupt) or is_callers(failure):
                raise
            return Report(lease.id, (trouble(WORKFLOW, failure),), ())
        now, want = monotonic_ns(), int(self._want * 1e9)
        work = LeaseExecution(lease, partial(status_page.cancelled, lease.id), now, now + SLOW * want, now + want)
        if self._posted or sum([len(part.payloads) if isinstance(part, Grants) else 1 for part in lease.items]) > 1:
            self._watch(work)
        with Working(steps):
            self._run_items(work, steps)
        with self._lock:
            self._work = None
            report = work.report()
        if failpoints.armed:
            failpoints.hit("worker.worked")
        # The status page is left as it is: a worker that dies before its report is answered dies of its last item,
        # which may have closed the connection, say. Once it is answered the lease is over, and what the status page
        # says is past.
        return report

    def _run_items(self, work: LeaseExecution, steps: StepRunner) -> None:
        """Run the lease's items in order, and then maybe those that come of them."""
        lease = work.lease
        if not self._run_all(work, steps, each(lease.items)) or not lease.chain:
            return
        (part,) = lease.items
        stage = part if isinstance(part, Grants) else Grants(part[0], part[1], part[3], [part[4]])
        while (after := self._next(work, steps, stage)) is not None:
            stage = after
            if not self._run_all(work, steps, each((stage,))):
                return

    def _next(self, work: LeaseExecution, steps: StepRunner, stage: Grants) -> Grants | None:
        """The successors of a stage, if this worker may go on with them by itself."""
        came = work.next(len(stage.payloads))
        node = -1 if came is None else steps.after(stage.node, came[0])
        if came is None or node < 0 or work.done > MOST_AHEAD:
            return None
        with self._lock:
            work.go_on()
        self._watch(work)  # it is due sooner now
        depth, path = stage.order
        return Grants(0, node, (depth + 1, path), came[1])

    def _run_all(self, work: LeaseExecution, steps: StepRunner, grants: Iterable[Grant]) -> bool:
        """Run items; False if nothing more is to be begun of the lease."""
        lock, status_page, worn, lease = self._lock, self._status_page, self._worn, work.lease.id
        now = monotonic_ns()
        for grant in grants:
            index = work.done
            with lock:
                # Much slower than thought: what is done is told now, what is not begun goes back for others to take.
                if work.truncated or (index and (now > work.limit or (worn is not None and worn(self._count)))):
                    return False
                if not status_page.enter(index, now, lease):
                    return False
            result = steps.run(grant, work.cancelled, work.lease.given)
            before, now = now, monotonic_ns()
            if self._inline:
                result = steps.in_time(grant, result, now - before)
            with lock:
                work.add(grant[1], result, now)
            self._count += 1
        return True

    # -- telling early -------------------------------------------------------------------------------

    def _watch(self, work: LeaseExecution) -> None:
        with self._lock:
            if self._work is not work:
                self._work = work
                self._busy.set()
            if work.limit < self._next_look:
                self._sooner.set()
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
            self._sooner.wait((self._next_look - monotonic_ns()) / 1e9)
            self._sooner.clear()
            with self._lock:
                work, now = self._work, monotonic_ns()
                self._next_look = now + LOOK
                if work is None:
                    self._busy.clear()
                elif work.truncated:
                    self._next_look = 1 << 62  # the next lease says so
                elif now <= work.limit:
                    # Each look takes a running node some 100 us. Whatever is due sooner by then says so.
                    self._next_look = max(self._next_look, work.limit)
                else:
                    try:
                        self._tell(work)
                    except BaseException as error:
                        # Its reply may still come, and must never be taken for that of another call.
                        self._broken = error
                        return

    def _tell(self, work: LeaseExecution) -> None:
        reports = (work.report(last=False), *self._unbegun())
        work.running = self._backend.exchange(self._session, reports, 0.0).running

    def _tell_ahead(self) -> int:
        """A step that nobody knows of asks for something: first it is told of. Gives its id."""
        work = self._work
        if work is None or not work.chained:
            return 0
        if not work.truncated:
            self._tell(work)
        return work.running

    # -- workflows -----------------------------------------------------------------------------------

    def _steps(self, lease: Lease) -> StepRunner:
        run_id = lease.run_id
        steps = self._runs.get(run_id)
        if steps is None or (steps.key, steps.generation) != (lease.key, lease.generation):
            with self._lock:
                if self._posted:
                    self._collect()
                facts = self._backend.describe(run_id, tuple(self._bundles))
            warning = hash_seed.warning(run_id, *facts.hashes)
            bundle, warnings = self._bundles.get(facts.key), [] if warning is None else [warning]
            if bundle is None:
                assert facts.workflow is not None
                with nullcontext() if self._inline else importing():
                    bundle = self._bundles[facts.key] = codec.decode_bundle(facts.workflow)
                if not self._inline:
                    warnings += codec.other_globals(run_id, bundle)
                if len(self._bundles) > KEEP:
                    forgotten = next(iter(self._bundles))
                    del self._bundles[forgotten]
                    self._calls.pop(forgotten, None)
            calls = self._calls.get(facts.key)
            if calls is None:
                calls = self._calls[facts.key] = calls_of(bundle)
            if not self._inline:
                warnings += codec.other_code(run_id, bundle)
            if warnings:
                with self._lock:
                    self._backend.describe(run_id, (facts.key,), warnings)
            fetch = partial(self._events, run_id)
            pulls, identify = self._pulls, self._identify
            if pulls is not None and pulls.kept:
                pulls.drop_run(run_id)  # of another life, or of other nodes
            steps = self._runs[run_id] = StepRunner(
                run_id, bundle, calls, facts, fetch, lease.generation, identify, pulls
            )
            if len(self._runs) > KEEP:
                dropped, _ = self._runs.popitem(last=False)
                if pulls is not None and pulls.kept:
                    pulls.drop_run(dropped)
        return steps

    def _forget(self, run_id: str) -> None:
        """The run is over: its context, which may be large, and the log that was read of it."""
        self._runs.pop(run_id, None)
        if self._pulls is not None and self._pulls.kept:
            self._pulls.drop_run(run_id)

    def _events(self, run_id: str, since: int) -> EventPage:
        with self._lock:
            self._tell_ahead()
            if self._posted:
                self._collect()
            return self._backend.events(run_id, since)

    def _identify(self) -> int:
        with self._lock:
            return self._tell_ahead()
