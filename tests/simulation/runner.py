"""One schedule, played: first anything may happen, then nothing goes wrong any more, and all must come to its end."""

from __future__ import annotations

import logging
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from floxide_mp.coordinator import scheduler as schedulers
from floxide_mp.coordinator.active_run import ActiveRun
from floxide_mp.coordinator.scheduler import Scheduler
from floxide_mp.core import progress

from .cases import case
from .clock import Clock, installed
from .faults import Death
from .job import Job
from .worker import Worker
from .world import World

PER_CASE: Final = 16  # schedules for one case
RATES: Final = (0.0, 0.01, 0.03, 0.1, 0.2)
HANG: Final = 1500  # moves without faults after which a run that is not over hangs
SMALL: Final = 4  # items of a block
KINDS: Final = ("memory",) * 15 + ("groups",) * 24 + ("file",)  # which is slow


class Failed(AssertionError):
    """A schedule that shows a fault."""


class Played(NamedTuple):
    """What a schedule was like."""

    moves: int
    ends: tuple[str, ...]
    happened: Counter[str]


class Runner:
    """Plays schedules; each follows from its seed alone. Use within ``simulating``.

    Attributes:
        plenty: leases are as large as if there were so many times what there is.
    """

    plenty = 1

    def __init__(self, clock: Clock, place: Path, scheduler: type[Scheduler]) -> None:
        self._clock, self._place, self._scheduler = clock, place, scheduler

    def play(self, seed: int) -> Played:
        """Play that schedule.

        Raises:
            Failed: with seed and last events.
        """
        self._clock.reset()
        chance = random.Random(f"schedule {seed}")
        rate = chance.choice(RATES)
        self.plenty = chance.choice((1, 1, 20))
        world = World(chance, self._clock, self._place, chance.choice(KINDS), rate, self._scheduler)
        try:
            for number in range(1 if chance.random() < 0.85 else 2):
                timeout = chance.choice((None, None, None, 30.0))
                drawn = case(seed // PER_CASE + number)
                job = Job(world, f"run{number}", drawn, timeout, chance.random() < 0.3)
                if chance.random() < 0.3:
                    job.deadly.update(chance.sample(sorted(drawn.undisturbed.steps), 2))
                world.jobs[job.run_id] = job
            schedule = _Schedule(world)
            schedule.chaos(chance.choice((20, 60, 150)))
            schedule.calm(patient=chance.random() < 0.9)
            schedule.verify()
        except Exception as error:
            text = "\n".join(world.notes)
            said = f"{type(error).__name__}: {error}"
            again = f"python -m tests.simulation --runs 1 --seed {seed}"
            raise Failed(f"seed {seed}: {said}\n{text}\n{said}\nagain: {again}") from error
        finally:
            world.close()
        return Played(world.events, tuple(job.status for job in world.jobs.values()), schedule.happened)


class _Schedule:
    def __init__(self, world: World) -> None:
        self.world, self.chance = world, world.chance
        self.happened: Counter[str] = Counter()
        self._faults: dict[str, tuple[int, Callable[[], object]]] = {
            "a worker dies": (6, lambda: world.kill(self._worker())),
            "a worker is stopped": (3, lambda: world.stop(self._worker())),
            "a worker goes on": (3, lambda: setattr(self._worker(), "stopped", False)),
            "a worker tells early": (3, lambda: self._worker().tell_early()),
            "everything is stopped": (1, world.jump),
            "the wall's clock is set": (1, lambda: world.clock.set_wall(self.chance.choice((-7200.0, 7200.0)))),
            "the store fails": (3, world.trouble),
            "the store is mended": (3, world.mend),
            "the coordinator dies": (3, world.restart),
            "the coordinator is closed": (1, world.close_coordinator),
            "a run is paused": (2, lambda: self._job().pause()),
            "a run is cancelled": (1, self._cancel),
        }
        self._names = list(self._faults)
        self._weights = [weight for weight, _ in self._faults.values()]

    # -- what happens ----------------------------------------------------------------------------------

    def chaos(self, moves: int) -> None:
        """Anything may happen."""
        for _ in range(moves):
            if all(job.over for job in self.world.jobs.values()):
                return
            self._mortal(self._anything)

    def calm(self, patient: bool) -> None:
        """Nothing goes wrong any more: what is not over by itself in the end hangs."""
        world = self.world
        world.rate = 0.0
        world.medium.faults.clear()
        for worker in world.workers:
            worker.stopped = False
        idle = 0
        for _ in range(HANG):
            if not self._mortal(self._step_all):
                world.check()
                if self._settled(patient):
                    return
                # A retry may be due much later: the clock on the wall was set while its coordinator was dead.
                idle += 1
                self._mortal(partial(world.advance, 2.0 if idle < 50 else 60.0))
        raise AssertionError(f"hangs: {[(job.run_id, job.status, job.error) for job in world.jobs.values()]}")

    def verify(self) -> None:
        """What has come of it is as it should be, and stays so when the coordinator dies."""
        ends = [job.check() for job in self.world.jobs.values()]
        self.world.restart()
        for job, end in zip(self.world.jobs.values(), ends, strict=True):
            if job.over or job.whole:  # else it may have failed for a reason that could not be stored
                assert job.end() == end, f"{job.run_id} is another one when the coordinator has died"

    # -- inside ----------------------------------------------------------------------------------------

    def _mortal(self, move: Callable[[], Any]) -> Any:
        """Something happens, in which the coordinator may die."""
        self.world.events += 1
        try:
            return move()
        except Death:
            self.happened["the coordinator dies in a commit"] += 1
            self.world.restart()
            return True

    def _anything(self) -> None:
        world, chance = self.world, self.chance
        if chance.random() < world.rate:
            (name,) = chance.choices(self._names, self._weights)
            self.happened[name] += 1
            self._faults[name][1]()
            if chance.random() < 0.2:
                world.check()
            return
        worker = chance.choice([*world.workers, *world.late])
        if worker.step() or chance.choice(world.workers).step():
            return
        what = chance.random()
        if what < 0.3:
            self._job().act()
        elif what < 0.6:
            world.pump() or world.bury_one()
        else:
            world.advance(chance.choice((0.01, 0.3, 2.0)))

    def _step_all(self) -> bool:
        """Everybody does what there is to do; whether there was anything."""
        world = self.world
        done = world.bury_one()
        for worker in [*world.workers, *world.late]:
            worker.stopped = False
            done |= worker.step()
        return world.pump() or done

    def _settled(self, patient: bool) -> bool:
        """Whether all runs are over, for good or because nobody resumes them; who can bring them on does."""
        jobs = self.world.jobs.values()
        for job in jobs:
            self._mortal(partial(job.act, patient))
        return all(job.over or job.whole or (job.status == "failed" and not patient) for job in jobs)

    def _cancel(self) -> None:
        if self.chance.random() < 0.2:
            self._job().cancel()

    def _worker(self) -> Worker:
        return self.chance.choice(self.world.workers)

    def _job(self) -> Job:
        return self.chance.choice(list(self.world.jobs.values()))


@contextmanager
def simulating(scheduler: type[Scheduler] = Scheduler) -> Iterator[Runner]:
    """A runner of that kind of scheduler, with its clock, a quiet log and a directory for stores."""
    log, clock = logging.getLogger("floxide_mp"), Clock()
    before, log.disabled = log.disabled, True
    try:
        with tempfile.TemporaryDirectory() as place, installed(clock), pytest.MonkeyPatch.context() as patch:
            patch.setattr(progress, "MOST", SMALL)
            patch.setattr(schedulers, "PLENTY", 0.1)  # leases are taken in advance also where there is not much to do
            runner = Runner(clock, Path(place), scheduler)
            ready = ActiveRun.ready.fget
            patch.setattr(ActiveRun, "ready", property(lambda run: runner.plenty * ready(run)))
            yield runner
    finally:
        log.disabled = before
