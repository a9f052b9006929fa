"""The executor engine: each step is submitted to a ``concurrent.futures.Executor`` of the user's, whatever is behind
it: threads, processes, other machines.

    with ThreadPoolExecutor(8) as pool, Coordinator(8, engine=partial(ExecutorEngine, pool)) as coordinator:

A thread for each worker takes an item, submits it, waits and reports. When an executor begins a step is its secret,
and nobody can end one: what is not over within its node's time-out, or within a grace, is given up. The time counts
from when the executor says that it runs the step, or from when the executor has last shown any sign of life.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any, Final, NamedTuple

from ..clock import monotonic, monotonic_ns, sleep
from ..coordinator.critical import Thread
from ..coordinator.leases import KillRequest
from ..coordinator.scheduler import Scheduler
from ..core.types import StreamOffset
from ..errors import WorkerDiedError
from ..messages import ONE_BY_ONE, Description, EventPage, Grant, Lease, Outcome, Report, only
from ..sigint import interruptibly, uninterrupted
from ..types import WorkerHealth
from ..wire import codec, hash_seed
from ..wire.status_page import SIZE, StatusPage
from ..worker.context_log import pages
from ..worker.forks import Working
from ..worker.step import WORKFLOW, Calls, StepRunner, calls_of
from ..worker.step_errors import trouble
from ..worker.worker import KEEP
from .health import healths

NEVER: Final = 1 << 62  # nanoseconds of the monotonic clock: when a step begins that is not known to
QUEUED: Final = 0.02  # seconds between looks whether a step that the executor has not begun is still wanted
ENDING: Final = 0.005  # ... whether all have ended, when the coordinator is closed


class _Post(NamedTuple):
    """One life of a worker. ``over``: what it waits for is not waited for any more."""

    session: int
    worker_id: int
    status_page: StatusPage
    over: futures.Future[Any]


class ExecutorEngine:
    """See ``ports.Engine``.

    Args:
        executor: runs the steps. It stays the user's, and must be open until the coordinator is closed.
        scheduler: what they are run for.
        count: how many are submitted at a time; at least one is.
    """

    runs_by_itself: Final = True

    def __init__(self, executor: futures.Executor, scheduler: Scheduler, count: int) -> None:
        self._executor = executor
        self._scheduler = scheduler
        self._count = max(1, count)
        self._lock = threading.Lock()  # around what follows
        self._posts: dict[int, _Post] = {}  # by session
        self._threads: list[threading.Thread] = []
        self._stopping = False
        self._word = threading.Event()  # for the thread that watches
        self._running: dict[int, bool] = {}  # by session: whether its future is said to run
        self._left: list[futures.Future[Any]] = []  # given up, and may have their places in the executor all the same
        self._last_end = 0  # when a future ended last (``monotonic_ns``)

    def start(self) -> None:
        self._scheduler.on_deadline = self._word.set
        self._start_thread(self._watch)
        for worker_id in range(self._count):
            self._hire(worker_id)

    def wait(self, run_id: str, seen: int | None, timeout: float | None) -> bool:
        return self._scheduler.wait(run_id, seen, timeout)

    def workers(self, threshold: float) -> list[WorkerHealth]:
        return healths(self._scheduler, threshold)

    @uninterrupted
    def stop(self, grace: float) -> None:
        end = monotonic() + grace
        with self._lock:
            self._stopping = True
        self._scheduler.stop()
        self._word.set()
        try:
            interruptibly(self._await_ends, end)
        finally:  # Ctrl-C ends the grace
            for session in list(self._posts):
                self._give_up(session)
            for thread in self._threads:
                thread.join()
            self._scheduler.detach()

    # -- inside --------------------------------------------------------------------------------------

    def _await_ends(self, end: float) -> None:
        while any(thread.is_alive() for thread in self._threads) and (left := end - monotonic()) > 0:
            sleep(min(left, ENDING))

    def _start_thread(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = Thread(target, "floxide-executor", arguments, self._scheduler.died)
        self._threads = [*(thread for thread in self._threads if thread.is_alive()), thread]
        thread.start()

    def _hire(self, worker_id: int) -> None:
        with self._lock:
            if not self._stopping:
                status_page = StatusPage(memoryview(bytearray(SIZE)))
                post = _Post(self._scheduler.new_session_id(), worker_id, status_page, futures.Future())
                self._posts[post.session] = post
                self._scheduler.register_session(post.session, worker_id, status_page, os.getpid())
                self._start_thread(self._work, post)

    def _give_up(self, session: int, late: KillRequest | None = None, error: BaseException | None = None) -> None:
        """What the worker brings from now on is refused; there is another one in its place."""
        with self._lock:
            post = self._posts.pop(session, None)
        if post is not None:
            post.over.set_result(None)
            about = f"{type(self._executor).__name__} raised {error!r}"
            self._scheduler.session_lost(
                session, lambda what: WorkerDiedError(f"{about} when it was to run {what}"), "", late
            )
            self._hire(post.worker_id)

    def _watch(self) -> None:
        """Time-outs of runs, and the grace of what is cancelled."""
        again: float | None = 0.0
        while True:
            self._word.wait(again)
            self._word.clear()  # what is said from here on is heard by the next wait
            if self._stopping:
                return
            overdue, again = self._scheduler.overdue()
            for late in overdue:
                self._give_up(late.session, late)

    def _work(self, post: _Post) -> None:
        reports: list[Report] = []
        while not (reply := self._scheduler.exchange(post.session, reports, ONE_BY_ONE)).stop:
            try:
                reports = [Report(lease.id, self._run(post, lease), ()) for lease in reply.leases]
            except BaseException as error:  # the executor's: it is broken, shut down, or lost a process
                self._give_up(post.session, error=error)
                return

    def _run(self, post: _Post, lease: Lease) -> tuple[Outcome, ...]:
        """The result of the lease's one item, or none if it was not begun."""
        post.status_page.begin(lease.id)
        post.status_page.enter(0, NEVER)
        facts = self._scheduler.describe(lease.run_id, ())
        view = EventsView(self._scheduler, lease, post.status_page)
        if facts.key in self._scheduler.bundles:
            _keep(facts.key, self._scheduler.bundles[facts.key])
        for workflow in (None, facts.workflow):  # it is sent only where it is not known yet
            sent = facts._replace(workflow=workflow)
            future = self._executor.submit(run_step, lease.run_id, only(lease), sent, view, lease.given)
            if not self._done(future, post, lease):
                break
            if (ran := future.result()) is not None:
                result, warning = ran
                if warning is not None:
                    self._scheduler.describe(lease.run_id, (facts.key,), (warning,))
                return (result,)
        return ()

    def _done(self, future: futures.Future[Any], post: _Post, lease: Lease) -> bool:
        """Wait until it is done; False if it is not to be begun any more, or nobody waits for it."""
        submitted, since = monotonic_ns(), 0
        try:
            while True:
                runs = self._running[post.session] = future.running()
                since, before = self._since(runs, submitted, since), since
                if since != before:
                    post.status_page.enter(0, since)
                    self._word.set()
                futures.wait((future, post.over), None if runs and since < NEVER else QUEUED, futures.FIRST_COMPLETED)
                if future.done():
                    self._last_end = monotonic_ns()
                    return True
                if (post.over.done() or post.status_page.revoked(lease.id)) and (future.cancel() or post.over.done()):
                    return False
        finally:
            self._running.pop(post.session, None)
            if not future.done():
                self._left.append(future)

    def _since(self, runs: bool, submitted: int, before: int) -> int:
        """Since when a step's time counts: since it was seen to run, if the executor says so.

        Some never do. Others have it wait behind what they run. So a step that is not said to run is late when none
        of this coordinator's has been said to, or has ended, for as long as it may take.
        """
        now = monotonic_ns()
        self._left = [future for future in self._left if not future.done()]
        if any(future.running() for future in self._left):
            return NEVER  # in its place: a process pool says of what it has queued that it runs
        if runs:
            return before if 0 < before <= now else now
        return NEVER if any(list(self._running.values())) else max(submitted, self._last_end)


# -- in the executor ----------------------------------------------------------------------------------------------


class EventsView:
    """What a step may ask while it runs. Where it has to travel, a copy goes: the log as of then."""

    def __init__(self, scheduler: Scheduler, lease: Lease, status_page: StatusPage) -> None:
        self._scheduler, self._lease, self._status_page = scheduler, lease, status_page

    def events(self, since: int) -> EventPage:
        return self._scheduler.events(self._lease.run_id, since)

    def cancelled(self) -> bool:
        return self._status_page.cancelled(self._lease.id)

    def __reduce__(self) -> Any:
        return EventsCopy, (EventPage([entry for page in pages(0, self.events) for entry in page], False),)


class EventsCopy(NamedTuple):
    log: EventPage

    def events(self, since: int) -> EventPage:
        return EventPage(self.log.entries[since:], False)

    def cancelled(self) -> bool:
        return False


_known: dict[bytes, tuple[codec.Bundle, Calls]] = {}  # workflows that this process has


def _keep(key: bytes, bundle: codec.Bundle) -> None:
    if key not in _known:
        _known[key] = bundle, calls_of(bundle)
        if len(_known) > KEEP:
            _known.pop(next(iter(_known)), None)


def run_step(
    run_id: str, grant: Grant, facts: Description, view: EventsView | EventsCopy, given: StreamOffset | None
) -> tuple[Outcome, str | None] | None:
    """Run one item; what came of it, and a sentence for the log, if any. None: the workflow is needed for it."""
    try:
        if facts.workflow is not None:
            _keep(facts.key, codec.decode_bundle(facts.workflow))
        known = _known.get(facts.key)
        if known is None:
            return None
        steps = StepRunner(run_id, *known, facts, view.events)
    except KeyboardInterrupt:
        raise
    except BaseException as failure:
        return trouble(WORKFLOW, failure), None
    before = monotonic_ns()
    with Working(steps):
        result = steps.run(grant, view.cancelled, given)
    warning = hash_seed.warning(run_id, *facts.hashes)
    return steps.in_time(grant, result, monotonic_ns() - before), warning
