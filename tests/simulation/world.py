"""``World``: one scheduler, its store, its workers and its supervisor, and what can happen to them. What does happen,
and in which order, is the ``runner``'s.
"""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path
from typing import Final

from floxide_mp.api.retry import RetryPolicy
from floxide_mp.coordinator.external import ExternalSessions
from floxide_mp.coordinator.group_commit import GroupCommit
from floxide_mp.coordinator.leases import KillRequest, Session, stalled
from floxide_mp.coordinator.liveness import STOPPED, Look, last_sign
from floxide_mp.coordinator.scheduler import Scheduler
from floxide_mp.core.leases import Memory
from floxide_mp.core.run_state import MAX_DEATHS
from floxide_mp.errors import FloxideError, NodeTimeoutError, StoreError
from floxide_mp.messages import (
    FAIL,
    HOLD,
    NEXT,
    NEXT_ALL,
    FanOut,
    Grant,
    Grants,
    Lease,
    Outcome,
    PartialResult,
    StepResult,
)
from floxide_mp.wire import codec
from tests.core.simulation import ERROR
from tests.history import Executed, HistoryError

from ..simulated import invariants
from .cases import TRACE, plain
from .clock import Clock
from .deaths import Deaths
from .faults import LASTING, ONCE, Medium
from .job import Job
from .worker import External, Worker

LOOK: Final = 2.0  # seconds between looks at the workers
STALL: Final = 10.0  # seconds that a worker may be stopped
DEFAULT: Final = RetryPolicy(max_attempts=3, initial_backoff=0.5)
KEPT: Final = 80  # of the schedule's last events


class World:
    """See the module.

    Args:
        chance: decides everything that is left to chance.
        clock: is installed.
        place: a directory for a store in a file.
        kind: of the store, see ``Medium``.
        rate: how likely each of the things is that go wrong.
        scheduler: which kind of scheduler.
    """

    def __init__(
        self, chance: random.Random, clock: Clock, place: Path, kind: str, rate: float, scheduler: type[Scheduler]
    ) -> None:
        self.chance, self.clock, self.rate = chance, clock, rate
        self.medium = Medium(kind, place, clock)
        self.notes: deque[str] = deque(maxlen=KEPT)
        self.events = 0
        self.changes = 0  # grows whenever there may be more to do for workers
        self.retry = DEFAULT if chance.random() < 0.3 else None
        self.timed = chance.random() < 0.5  # what steps take is known from the beginning
        self.jobs: dict[str, Job] = {}
        self._kinds = [External if chance.random() < 0.15 else Worker for _ in range(chance.randint(1, 4))]
        self._scheduler = scheduler
        self._open()

    def _open(self) -> None:
        """A coordinator begins."""
        self.changes += 1
        self.scheduler = self._scheduler(self.medium.open(), 0.0, threaded=False)
        self.scheduler.on_deadline = self._wake
        self.scheduler.event_page_size = 3
        self.scheduler.memory = Memory(self.chance.choice((1, 100, 1000, 1 << 40)))
        self.external_sessions = ExternalSessions(self.scheduler, self.retry)
        self.deaths = Deaths(self)
        self.late: list[Worker] = []  # given up, and there all the same
        self.next_look = self.clock.now
        self._woken = False
        self.workers: list[Worker] = []
        for number, kind in enumerate(self._kinds):
            self.workers.append(kind(self, number))
        self.supervise()

    # -- what is said of it ----------------------------------------------------------------------------

    def note(self, text: str) -> None:
        self.notes.append(f"{self.events:5} {self.clock.now - 1e7:9.2f} s  {text}")

    def hold(self, good: bool, text: str) -> None:
        if not good:
            raise HistoryError(text)

    def check(self) -> None:
        """The state machines are in order, and nothing is lost between them."""
        invariants.check(self.scheduler)

    # -- nodes -----------------------------------------------------------------------------------------

    def took(self, worker: Worker, lease: Lease) -> None:
        items = [
            f"{i.first}+{len(i.payloads)}" if isinstance(i, Grants) else f"{i[0]} (attempt {i[2]})" for i in lease.items
        ]
        ahead = ", and may go ahead" if lease.chain else ""
        self.note(f"{worker} takes {', '.join(items)} of {lease.run_id}{ahead}")

    def began(self, worker: Worker) -> None:
        """It enters the node of the item that it is at."""
        assert worker.lease is not None and worker.grant is not None
        job, (number, node, attempt, order, *_) = self.jobs[worker.lease.run_id], worker.grant
        spec = job.case.plan.graph.nodes[node]
        job.history.seen.append(Executed(spec.name, order, attempt, worker.late))
        self._check_alone(worker)
        if not worker.late and self.chance.random() < 0.2:
            worker.look(worker.lease)
        if spec.timeout is not None and self.rate and self.chance.random() < 0.2:
            worker.slow = self.may_be_late(worker)
        slow = ", which does not come back" if worker.slow else ""
        self.note(f"{worker} begins item {number}, {spec.name} {order}, attempt {attempt}{slow}")
        if order in job.deadly and self.may_lose(worker):
            worker.dead = True
            self.note(f"{worker} dies of that")

    def _check_alone(self, worker: Worker) -> None:
        """Nobody else is at the same item, and of serial nodes nobody at any."""
        if worker.late or worker.lease is None or worker.grant is None:
            return
        nodes = self.jobs[worker.lease.run_id].case.plan.graph.nodes
        for other in self.workers:
            if other is worker or other.lease is None or other.grant is None or not other.running or other.late:
                continue
            if other.lease.run_id == worker.lease.run_id:
                self.hold(other.grant[3] != worker.grant[3], f"{other} and {worker} are at the same item")
                both = nodes[other.grant[1]].serial and nodes[worker.grant[1]].serial
                self.hold(not both, f"{other} and {worker} are at serial nodes")

    def named(self, worker: Worker, number: int) -> None:
        """It has learned the id of the item that it went ahead to."""
        assert worker.lease is not None and worker.grant is not None
        known = self.jobs[worker.lease.run_id].numbers
        others = [order for order, other in known.items() if other == number and order != worker.grant[3]]
        self.hold(number > 0 and not others, f"{worker} is told that it is at {number}, which is {others}")
        known[worker.grant[3]] = number

    def result(self, run_id: str, grant: Grant, given: int, whole: bool) -> Outcome:
        """What comes of a step, or of the next part of one, that has given so many values.

        Args:
            whole: all that it has is taken at once.
        """
        job, (_, node, _, order, payload, _) = self.jobs[run_id], grant
        spec = job.case.plan.graph.nodes[node]
        act = job.case.act(spec, plain(payload), order)
        fatal = act.hopeless and spec.on_failure is None
        failed = job.failures.get(order, 0)
        hopeless = act.hopeless and not (job.healed and fatal)
        if hopeless or failed < act.fails:
            job.failures[order] = failed + 1
            if hopeless and fatal:
                job.reasons.add("hopeless")
            return FAIL, (), (), ERROR, not hopeless or failed % 2 == 0
        cut = act.portion(given, False, whole)
        again = cut is not None and given and self.chance.random() < 0.3  # it has been started again, and takes a while
        written = act.writes[1:] if given else act.writes[:1] if cut else act.writes
        traced = () if cut else ((TRACE, spec.name),)
        writes = tuple((field, codec.encode(value, "an event")) for field, value in (*written, *traced))
        if act.kind == "hold":
            return HOLD, (), writes, None, False
        if again:
            return PartialResult((NEXT_ALL, (), (), None, False))
        if cut and given:
            writes = ()
        values = tuple((arm, codec.encode(value, "a result")) for arm, value in act.values[given:cut])
        arms = {arm for arm, _ in values}
        told: StepResult | FanOut = NEXT_ALL if act.kind == "all" else NEXT, values, writes, None, False
        if act.kind == "all" and len(arms) == 1 and self.chance.random() < 0.8:
            told = FanOut(arms.pop(), [payload for _, payload in values], writes)
        return PartialResult(told) if cut else told

    def may_lose(self, worker: Worker, policy: bool = False) -> bool:
        """Whether its death leaves the item that it is at the attempts that it needs. If not, the run may fail.

        Args:
            policy: it is no death, but a failure like others: without a policy it is the last.
        """
        if worker.grant is None or worker.late or worker.unknown:
            return True
        assert worker.lease is not None
        job, (_, node, attempt, order, payload, _) = self.jobs[worker.lease.run_id], worker.grant
        spec = job.case.plan.graph.nodes[node]
        act = job.case.act(spec, plain(payload), order)
        if act.hopeless and spec.on_failure is not None:
            return True
        retry = spec.retry or self.retry
        limit = retry.max_attempts if retry else 1 if policy else MAX_DEATHS
        needed = max(0, act.fails - job.failures.get(order, 0))
        if attempt + 1 + needed <= limit:
            return True
        if spec.on_failure is None and self.chance.random() < 0.1:
            job.reasons.add("too many deaths")
            return True
        return False

    def may_be_late(self, worker: Worker) -> bool:
        return self.may_lose(worker, policy=True)

    # -- workers ---------------------------------------------------------------------------------------

    def message_fault(self, worker: Worker, reports: bool) -> str | None:
        """What happens to the call that it is about to make."""
        if self.chance.random() >= self.rate / 2:
            return None
        fault = self.chance.choice(("request lost", "request late", "reply lost", "repeated"))
        if fault.startswith("request") and not self.may_lose(worker):
            return None
        self.note(f"{worker}: {fault}")
        return fault

    def kill(self, worker: Worker) -> None:
        if self.may_lose(worker):
            worker.dead = True
            self.note(f"{worker} dies")

    def stop(self, worker: Worker) -> None:
        """SIGSTOP."""
        if self.may_lose(worker):
            worker.stopped = True
            self.note(f"{worker} is stopped")

    def bury(self, worker: Worker) -> None:
        """The supervisor hears of its death, and replaces it."""
        self.note(f"{worker} is buried")
        worker.dead = True
        self.changes += 1
        self.deaths.bury(worker)
        self._replace(worker)

    def ended(self, worker: Worker) -> None:
        """It was told to stop."""
        if worker in self.late:
            self.late.remove(worker)
        else:
            self.bury(worker)

    def _replace(self, worker: Worker) -> None:
        self.workers[worker.worker_id] = type(worker)(self, worker.worker_id)

    def bury_one(self) -> bool:
        dead = [worker for worker in self.workers if worker.dead]
        if dead:
            self.bury(self.chance.choice(dead))
        return bool(dead)

    # -- the supervisor and time -----------------------------------------------------------------------

    def _wake(self) -> None:
        self._woken = True

    def supervise(self) -> None:
        """Look after the workers, as ``ProcessEngine`` does."""
        self._woken = self._jumped = False
        self.changes += 1
        stalls = self.scheduler.look_at_workers(self._look) if self.clock.now >= self.next_look else []
        if self.clock.now >= self.next_look:
            self.next_look = self.clock.now + LOOK
        overdue, again = self.scheduler.overdue(self.next_look - self.clock.now)
        self._again = self.clock.now + min(LOOK, LOOK if again is None else max(again, 0.01))
        for late in overdue:
            self._end(late)
        for stall in stalls:
            if stall is not None:
                self._give_up(stall)

    def _look(self, session: Session) -> KillRequest | None:
        now, before = self.clock.now, session.look
        worker = self._worker(session.number)
        held = worker is not None and worker.stopped
        session.look = Look.after(before, now, STOPPED if held else "S", 0)
        session.seen = last_sign(session.seen, before, session.look)
        stall = stalled(session, STALL)
        return stall if session.leases or not session.external else None

    def _worker(self, session: int) -> Worker | None:
        return next((worker for worker in self.workers if worker.session == session), None)

    def _end(self, late: KillRequest) -> None:
        worker = self._worker(late.session)
        if worker is None or worker.dead:
            return
        if isinstance(late.error, NodeTimeoutError):
            lasted = self.clock.now - worker.started - worker.spared
            self.hold(lasted >= 5.0 - 1e-6, f"{worker} is ended for a time-out of 5 s after {lasted} s")
            self.hold(worker.slow, f"{worker} is ended for a time-out, and is at something else")
        if self.chance.random() < 0.2:
            worker.step()  # it gets a little further before it is hit
        if not worker.dead:
            self.note(f"{worker} is ended: {late.error or 'its grace is over'}")
            worker.dead, worker.killed = True, late

    def _give_up(self, late: KillRequest) -> None:
        worker = self._worker(late.session)
        if worker is None or worker.dead:
            return
        if isinstance(worker, External) or self.chance.random() < 0.5:
            self.note(f"{worker} is given up: {late.why}")
            self.scheduler.session_lost(late.session, FloxideError, "", late)
            if not isinstance(worker, External):
                self.late.append(worker)
                self._replace(worker)
        else:
            self.note(f"{worker} is ended: {late.why}")
            worker.dead, worker.killed = True, late

    def advance(self, seconds: float) -> bool:
        """Time passes, and the supervisor looks when it is to. False if none could: somebody would be late."""
        until = self.clock.now + seconds
        for worker in self.workers:
            until = min(until, self._limit(worker, until))
        if until <= self.clock.now:
            return False
        self.changes += 1
        while self.clock.now < until:
            moment = until if self._woken else min(until, max(self._again, self.clock.now + 0.001))
            passed = 0.0 if self._woken else moment - self.clock.now
            self.clock.advance(passed)
            for job in self.jobs.values():
                job.lived += passed
            if self._woken or self.clock.now >= self._again:
                self.supervise()
        return True

    def _limit(self, worker: Worker, until: float) -> float:
        """Until when time may pass without making a worker late that must not be."""
        if worker.grant is None or worker.slow or worker.late:
            return until
        assert worker.lease is not None
        spec = self.jobs[worker.lease.run_id].case.plan.graph.nodes[worker.grant[1]]
        if spec.timeout is None or worker.started + spec.timeout > until:
            return until
        if self.rate and self.chance.random() < 0.1 and worker.running and self.may_be_late(worker):
            worker.slow = True
            return until
        return max(self.clock.now, worker.started + spec.timeout - 0.5)

    def jump(self) -> None:
        """Everything is stopped for a while: a lid is closed."""
        if self._jumped:
            return  # the supervisor wakes up first
        self._jumped = True
        seconds = self.chance.choice((60.0, 3600.0))
        self.note(f"everything is stopped for {seconds} s")
        self.clock.advance(seconds)
        for worker in self.workers:
            worker.spared += seconds

    # -- the store and the coordinator -----------------------------------------------------------------

    def trouble(self) -> None:
        """The store begins to fail."""
        faults = self.medium.faults
        if self.chance.random() < 0.3:
            faults.lasting = self.chance.choice(LASTING)
        else:
            faults.once = self.chance.choice(ONCE), self.chance.random() < 0.5, self.chance.randrange(4)
        self.note(f"the store will fail: {faults.once or faults.lasting}")
        for job in self.jobs.values():
            job.reasons.add("store")

    def mend(self) -> None:
        if self.medium.faults.lasting is not None:
            self.note("the store is mended")
            self.medium.faults.lasting = None

    def pump(self) -> bool:
        """The commit queue writes what waits; whether anything did."""
        commit_queue = self.scheduler.commit_queue
        if not isinstance(commit_queue, GroupCommit) or not commit_queue._queue:
            return False
        self.changes += 1
        self.note(f"the journal writes {len(commit_queue._queue)} commits")
        commit_queue.pump()
        return True

    def settle(self) -> None:
        """What is taken up is what is in the store: in one thread, nobody could wait for that."""
        while self.pump() and self.medium.faults.lasting is None:
            pass

    def restart(self) -> None:
        """The coordinator dies with everything that is not in the store, and another one begins."""
        self.note("the coordinator dies; another one begins")
        self.medium.faults.once = None
        for job in self.jobs.values():
            job.taken = False
            job.numbers.clear()  # of items that are not in the store
            if job.created is None:  # it was being started: whether it is there is seen now
                job.created = False
        if self.medium.kind == "file" and self.chance.random() < 0.3:  # the machine was started anew
            wall = self.clock.wall()
            self.clock.now = 1e7 + self.chance.random()
            self.clock.skew = wall - self.clock.now
        while True:
            try:
                self._open()
                break
            except StoreError:  # it cannot be read
                self.mend()
        there = set(self.scheduler.runs())
        for job in self.jobs.values():
            self.hold(job.run_id in there or not job.created, f"{job.run_id} was created and is not there")
            job.created = job.run_id in there

    def close_coordinator(self) -> None:
        """It is closed in order: workers hand in what they have, and another one begins."""
        self.note("the coordinator is closed")
        self.scheduler.stop()
        for worker in list(self.workers):
            moves = 0
            while not isinstance(worker, External) and moves < 3 and worker.step():
                moves += 1
        self.settle()
        self.restart()

    def close(self) -> None:
        self.medium.close()
