"""``ProcessEngine``: keeps N workers alive. One supervisor thread waits for everything that can happen at once:
a worker's death (pidfd), a time-out, the end of a grace period, a word from another thread.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import threading
import weakref
from contextlib import ExitStack, suppress
from functools import partial
from typing import Final

from ...clock import monotonic
from ...coordinator.critical import Thread
from ...coordinator.leases import KillRequest, Session, stalled
from ...coordinator.scheduler import Scheduler
from ...errors import FloxideError, WorkerDiedError
from ...sigint import pause, uninterrupted
from ...texts import explained
from ...types import WorkerHealth
from ...wire.log import say
from ...worker.importing import check_may_start
from ..health import healths, look
from .exit_status import WORN, OomDetector, reason
from .preparation import Preparation, not_python
from .process import Loose, Vacancies, WorkerProcess, spawn
from .recycling import Limits
from .rpc_server import SchedulerServer
from .shm.payloads import Memory
from .spawn import UnassignedWorker, check_unpatched

LONGEST: Final = 1e6  # seconds in one wait: epoll takes no more than 24 days
LOOK: Final = 2.0  # seconds between looks at the workers' processes, or less if ``stall`` is short
OUTSIDE: Final = frozenset({-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP})
STALL: Final = 10.0  # seconds, see ``ProcessEngine``
LOST: Final = "workers cannot start: "
AT_FIRST: Final = 3.0  # seconds that a coordinator tries to have its first worker before it is an error
WITHOUT: Final = 30.0  # seconds that runs wait for a first worker, where none can be started any more


class ProcessEngine:
    """See ``ports.Engine``.

    Args:
        scheduler: what the workers work for.
        count: how many.
        stall: seconds that a worker may be stopped (SIGSTOP); then it is ended and replaced.
        max_tasks_per_worker: items after which a worker is replaced by a new one; None: never for that.
        max_worker_rss: bytes of memory (resident) above which it is, once the item that it is at is done.
        preparation: what workers start from; None: from this process as it is now. Who made it closes it.
        unassigned worker: what the first worker is made of, if that has been started already. It is the engine's from
        here on.

    Raises:
        ValueError: for a limit that no worker could keep.
        FloxideError: there is no interpreter that could be a worker, or this process must not start any.
    """

    runs_by_itself: Final = True

    def __init__(
        self,
        scheduler: Scheduler,
        count: int,
        stall: float = STALL,
        *,
        max_tasks_per_worker: int | None = None,
        max_worker_rss: int | None = None,
        preparation: Preparation | None = None,
        unassigned: UnassignedWorker | None = None,
    ) -> None:
        self._limits = Limits.checked(max_tasks_per_worker, max_worker_rss)
        self._scheduler, self._count = scheduler, count
        self._stall = stall
        self._look_every, self._next_look = min(LOOK, stall / 5), 0.0
        self._server = SchedulerServer(scheduler)
        self._memory: Memory | None = None
        check_may_start()
        check_unpatched()
        self._held = ExitStack()
        self._preparation = preparation or self._held.enter_context(Preparation())
        self._unassigned = unassigned
        scheduler.hash_probe = None
        scheduler.hash_seed = scheduler.hash_seed if unassigned is None else unassigned.hash_seed
        self._processes: dict[int, WorkerProcess] = {}  # by session
        self._threads: dict[int, threading.Thread] = {}  # that serve them, by session
        self._killed: dict[int, KillRequest] = {}  # sessions that were ended on purpose, and why
        self._loose = Loose()
        with ExitStack() as undone:
            undone.push(self._held)
            try:
                self._wakeup_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
                self._held.callback(os.close, self._wakeup_fd)
                self._selector = self._held.enter_context(selectors.DefaultSelector())
            except OSError as error:
                raise FloxideError(f"no worker process can be started: {explained(error)}") from error
            undone.pop_all()
        self._vacancies, self._oom_detector = Vacancies(), OomDetector()
        self._said = ""  # why a worker is missing, as it was last logged
        self._without: float | None = None  # since when there has been no worker, and none could be started
        self._end: float | None = None  # when what still runs is killed
        self._supervisor = threading.Thread()  # not started yet
        self._ended = threading.Lock()  # let go of by the supervisor when it has ended
        self._ended.acquire()
        _engines.add(self)

    @uninterrupted
    def start(self) -> None:
        self._selector.register(self._wakeup_fd, selectors.EVENT_READ, self._hear)
        self._scheduler.on_deadline = self._wake
        if getattr(self._scheduler.store, "takes_shared", False):
            try:
                self._scheduler.arena = self._memory = Memory(self._count)
            except OSError as error:
                say(logging.WARNING, "large values are sent to workers, not shared with them: %s", explained(error))
        try:
            self._start_workers()
        except BaseException:  # Ctrl-C, too
            if not self._supervised:
                self._end_all()
            self.stop(0.0)  # whoever waits already is told that it is over
            raise

    def wait(self, run_id: str, seen: int | None, timeout: float | None) -> bool:
        return self._scheduler.wait(run_id, seen, timeout)

    def workers(self, threshold: float) -> list[WorkerHealth]:
        return healths(self._scheduler, threshold)

    @uninterrupted
    def stop(self, grace: float) -> None:
        self._end = monotonic() + grace
        try:
            self._scheduler.stop()
            self._wake()
            if self._supervisor.is_alive():
                pause(self._ended, None)
        finally:
            self._end = monotonic()  # after Ctrl-C, too: what still runs is ended now
            self._wake()
            if self._supervised:
                self._supervisor.join()
            self._close()

    # -- the supervisor ------------------------------------------------------------------------------

    @property
    def _supervised(self) -> bool:
        return self._supervisor.ident is not None

    def _wake(self) -> None:
        os.eventfd_write(self._wakeup_fd, 1)

    def _hear(self) -> None:
        os.eventfd_read(self._wakeup_fd)

    def _supervise(self) -> None:
        try:
            self._watch()
        except BaseException as error:  # trouble with the store, or a bug of ours, must not leave callers waiting
            self._fail(error)
        finally:
            self._ended.release()

    def _fail(self, error: BaseException) -> None:
        """Fail every run, and end every worker."""
        failed = FloxideError(f"the supervisor failed: {explained(error, repr)}")
        failed.__cause__ = error
        say(logging.ERROR, "the supervisor failed", error=error)
        try:
            self._end_all()
        finally:
            self._scheduler.died(failed)
            self._scheduler.stop()

    def _watch(self) -> None:
        while self._end is None or self._processes:
            for key, _ in self._selector.select(self._until()):
                key.data()
            self._fill()
            if self._end is not None:
                late = monotonic() >= self._end
                for process in self._processes.values():
                    if late or self._scheduler.never_called(process.session):
                        process.kill()

    def _until(self) -> float:
        """End what is overdue or stalled; how long to wait for the next such moment."""
        stalls = self._look()
        loose, soon = self._loose.overdue(self._processes, self._killed, LONGEST)
        overdue, again = self._scheduler.overdue(max(0.0, self._next_look - monotonic()))
        for late in (*overdue, *stalls, *loose):
            if late.session not in self._killed:
                self._killed[late.session] = late
                self._processes[late.session].kill()
        if self._end is None and (due := self._vacancies.due) is not None:
            left = max(0.0, due - monotonic())
            again = left if again is None else min(again, left)
        if self._end is not None:
            soon = min(soon, max(0.0, self._end - monotonic()) or 0.05)
        return min(soon if again is None else min(again, soon), LONGEST)

    def _look(self) -> list[KillRequest]:
        """Look at the workers' processes, if it is time to; those of ours that have been stopped for too long."""
        now = monotonic()
        if now < self._next_look:
            return []
        self._next_look = now + self._look_every
        self._oom_detector.check()

        def at(worker: Session) -> tuple[Session, KillRequest | None]:
            look(worker, now)
            return worker, stalled(worker, self._stall)

        stalls = []
        for worker, late in self._scheduler.look_at_workers(at):
            if late is not None and worker.number in self._processes:
                stalls.append(late)
            elif late is not None and worker.leases:
                self._give_up(worker, late)
        return stalls

    def _give_up(self, worker: Session, late: KillRequest) -> None:
        """A worker that is not ours to end: what it has goes back, and what it says later is refused."""
        who = f"worker {worker.worker_id} (pid {worker.pid}) {late.why}"

        def describe(what: str) -> FloxideError:
            return WorkerDiedError(f"{who} while it ran {what}", pid=worker.pid)

        if not self._scheduler.session_lost(worker.number, describe, "", late):
            say(logging.WARNING, "%s", who)

    def _lost_lifeline(self, process: WorkerProcess) -> None:
        """Nobody holds the worker's end any more: it is about to end, or one of its nodes has closed it."""
        if process.session in self._processes:  # else it was buried a moment ago
            self._selector.unregister(process.lifeline)
            self._loose.note(process)

    def _ignore(self, process: WorkerProcess) -> None:
        """Wait for nothing of it any more."""
        with suppress(KeyError):  # it may have not come that far
            self._selector.unregister(process.pidfd)
            if not self._loose.forget(process.session):
                self._selector.unregister(process.lifeline)

    def _start_workers(self) -> None:
        """As many as can be had, and the supervisor, which goes on trying; a shortage of all may pass meanwhile."""
        self._vacancies.places.update((number, self._scheduler.hash_seed) for number in range(self._count))
        end = monotonic() + AT_FIRST
        while (trouble := self._start_some()) is not None and not self._supervised:
            if monotonic() >= end:
                raise FloxideError(f"no worker process can be started: {explained(trouble)}") from trouble
            pause(self._ended, max(0.0, (self._vacancies.due or 0.0) - monotonic()))
        if trouble is not None:
            text = "only %d of %d workers can be started: %s"
            say(logging.WARNING, text, len(self._processes), self._count, trouble)
            self._said = str(trouble)

    def _start_some(self) -> Exception | None:
        """As many workers as can be had now, and if there are any the supervisor, whom one of them makes room for if
        need be; why there are no more of them."""
        trouble: Exception | None = None
        try:
            for worker_id, hash_seed in list(self._vacancies.places.items()):
                self._start_worker(worker_id, hash_seed)
        except OSError as error:
            trouble = error
            self._vacancies.failed(monotonic())
        while not self._supervised and (self._processes or trouble is None):
            # A new one each time: Python 3.13 does not start one again that it could not start.
            self._supervisor = Thread(self._supervise, "floxide-supervisor", (), self._scheduler.died)
            try:
                self._supervisor.start()
            except RuntimeError as error:  # no thread can be started
                trouble = error
                self._vacancies.failed(monotonic())
                if self._processes:
                    process = next(reversed(self._processes.values()))
                    self._give_back(process)
                    self._vacancies.places[process.worker_id] = process.hash_seed
        return trouble

    def _start_worker(self, worker_id: int, hash_seed: int) -> None:
        unassigned, self._unassigned = self._unassigned, None
        if unassigned is not None and unassigned.hash_seed != hash_seed:
            unassigned.discard()
            unassigned = None
        session = self._scheduler.new_session_id()
        process = spawn(worker_id, session, self._limits, self._memory, unassigned, self._preparation, hash_seed)
        try:
            self._selector.register(process.pidfd, selectors.EVENT_READ, partial(self._on_exit, process))
            self._selector.register(process.lifeline, selectors.EVENT_READ, partial(self._lost_lifeline, process))
            self._scheduler.register_session(session, worker_id, process.status_page, process.pid, hash_seed=hash_seed)
            self._processes[session] = process
            over = partial(self._unanswered, process)
            self._threads[session] = self._server.serve(process.connection, f"floxide-serve-{worker_id}", over)
        except BaseException as error:
            self._give_back(process)  # it would wait for ever for its first answer
            if isinstance(error, RuntimeError):  # no thread can be started: as good as no process
                raise OSError(*error.args) from error
            raise
        self._vacancies.filled(worker_id)

    def _unanswered(self, process: WorkerProcess, why: str) -> None:
        """In the thread that served the worker: the worker ends when it finds its connection ended."""
        if why:
            self._killed.setdefault(process.session, KillRequest(process.session, process.status_page.at(), None, why))
        process.hang_up()

    def _give_back(self, process: WorkerProcess) -> None:
        """End a worker that has just been started, in favour of the others."""
        self._ignore(process)
        self._killed[process.session] = KillRequest(process.session, None, None)  # nothing it is at is to blame
        process.kill()
        self._reap(process)

    def _on_exit(self, process: WorkerProcess) -> None:
        """A worker has ended: give back what it had, and replace it."""
        self._ignore(process)
        started = self._scheduler.started(process.session)
        late = self._killed.get(process.session)
        next_seed, began = self._scheduler.next_hash_seed(process.session), process.began
        on_purpose = (late is not None and not late.why) or self._end is not None or next_seed is not None
        hash_seed = process.hash_seed if next_seed is None else next_seed
        code, why, words, blamed = self._reap(process)
        if code == WORN and not blamed:
            say(logging.INFO, "worker %d (pid %d) is replaced by a new one", process.worker_id, process.pid)
        elif not (blamed or on_purpose):
            say(self._level, "worker %d (pid %d) %s", process.worker_id, process.pid, why)
        if self._end is not None:
            return
        if started:
            self._vacancies.used()
        elif not on_purpose:
            self._vacancies.died(code in OUTSIDE, monotonic())
            if self._vacancies.hopeless:
                count = self._vacancies.deaths + self._vacancies.kills
                why += reason(code, words) + ("" if began else f"; {not_python(self._preparation.python[0])}")
                self._cannot_start(f"{count} died in a row before they did anything; the last {why}", words)
        self._vacancies.places[process.worker_id] = hash_seed

    def _fill(self) -> None:
        """Start the workers that are missing, if it is time to try."""
        while self._end is None and (due := self._vacancies.due) is not None and due <= monotonic():
            worker_id, hash_seed = next(iter(self._vacancies.places.items()))
            try:
                self._start_worker(worker_id, hash_seed)
            except Exception as trouble:  # whatever it is: the next try may go well
                now = monotonic()
                self._vacancies.failed(now)
                if self._processes:
                    self._without = None
                elif self._without is None:
                    self._without = now
                known = isinstance(trouble, OSError | FloxideError)
                if self._said != (reason := str(trouble)):
                    self._said = reason
                    text, seen = "worker %d is tried again: %s", None if known else trouble
                    say(logging.WARNING, text, worker_id, reason, error=seen)
                if self._without is not None and now - self._without >= WITHOUT:
                    self._cannot_start(f"for {WITHOUT:g} s, none could be: {reason}", "")
            else:
                self._without = None
                if not self._vacancies.places and self._said:
                    self._said = ""
                    say(logging.WARNING, "all %d workers have been started again", self._count)

    @property
    def _level(self) -> int:
        """Of messages on workers that die as they start: once it was said that they do, the next ones are no news."""
        return logging.DEBUG if self._said == LOST else logging.WARNING

    def _cannot_start(self, reason: str, words: str) -> None:
        """Runs need not wait for workers, if there are none. Those that can be started later work on later runs."""
        if not self._processes:
            say(self._level, "%s%s (it is tried again)", LOST, reason)
            self._said = LOST
            self._scheduler.cannot_start(WorkerDiedError(f"{LOST}{reason}"), words)

    def _reap(self, process: WorkerProcess) -> tuple[int | None, str, str, bool]:
        """Of a worker that has ended or been killed: exit code, why, last words, and whether an item is to blame."""
        end = process.reap()
        words = process.last_words()
        self._processes.pop(process.session, None)
        late = self._killed.pop(process.session, None)
        why = (late and late.why) or end.text(self._oom_detector.lately())

        def describe(what: str) -> FloxideError:
            text = f"worker {process.worker_id} (pid {process.pid}) {why} while it ran {what}"
            return WorkerDiedError(text, exit_code=end.code, pid=process.pid)

        try:
            blamed = self._scheduler.session_lost(process.session, describe, words, late)
        finally:
            thread = self._threads.pop(process.session, None)
            if thread is not None:
                process.hang_up()
                thread.join()
            process.close()
        return end.code, why, words, blamed

    def _end_all(self) -> None:
        """End every worker at once, without a supervisor."""
        for process in list(self._processes.values()):
            self._killed[process.session] = KillRequest(process.session, None, None)  # nothing it is at is to blame
            process.kill()
            try:
                self._reap(process)
            except Exception as error:
                say(logging.ERROR, "worker %d cannot be given up in order", process.worker_id, error=error)

    def _close(self) -> None:
        self._scheduler.detach()
        if self._memory is not None:
            self._memory.release()
        self._held.close()

    def _disown(self) -> None:
        # Kept, or Popen's finalizer would complain of processes that are not this one's children.
        self._not_mine, self._processes = self._processes, {}
        self._scheduler.disown()


_engines: weakref.WeakSet[ProcessEngine] = weakref.WeakSet()


def _forked() -> None:
    """In a process that the user forks, an engine has neither its threads nor a right to its workers."""
    for engine in _engines:
        engine._disown()


os.register_at_fork(after_in_child=_forked)
