"""A program of ``soak_kills``, which may be killed at any time: ``python -m tests.faults.killed FOLDER SEED NAME``.

It begins the run of that seed, or goes on with it, and writes to the history what it is told, as soon as it is told.
"""

from __future__ import annotations

import os
import random
import sys
from contextlib import suppress
from pathlib import Path

from floxide_mp import AlreadyCompletedError, Coordinator, Fixed, Run, RunFailedError, RunStatus, Workflow
from floxide_mp.testing.leftovers import leftovers
from tests.faults.flows_killed import PATIENT, RUN, Ctx, Shape, Token, workflow
from tests.faults.killing import note


class Program:
    """Its name and the seed decide how it goes about it."""

    def __init__(self, home: str, seed: int, name: str) -> None:
        self.home, self.shape = home, Shape.of(seed)
        self.chance = random.Random(f"{seed} {name}")
        self.outputs: list[Token] = []  # that we were told, in that order
        self.known: set[str] = set()  # steps that we were told of

    def note(self, what: str, *more: object) -> None:
        note(self.home, what, os.getpid(), *more)

    def run(self) -> None:
        self.note("born")
        before = leftovers()
        with Coordinator(self.shape.workers, store=os.path.join(self.home, "runs.db"), retry=PATIENT) as coordinator:
            infos = coordinator.runs()
            assert [info.run_id for info in infos] in ([], [RUN])
            completed = infos[0].metrics.completed if infos else 0
            self.note("opened", bool(infos), bool(infos) and infos[0].status is RunStatus.COMPLETED, completed)
            self._follow(coordinator, self._take_up(coordinator, infos[0].status if infos else None))
        after = leftovers()
        self.note("closed", {kind: list(map(str, after[kind] - before[kind])) for kind in after})

    def _take_up(self, coordinator: Coordinator, status: RunStatus | None) -> Run:
        made = workflow(self.shape)
        if status is RunStatus.FAILED:
            self.note("failed")
        if status is None or self.chance.random() < 0.5:
            ctx = Ctx(Fixed(self.home))
            run = coordinator.start(made, Token(0), ctx, RUN, seed=self.shape.seed, resume=True)
        else:
            run = coordinator.run(RUN) if status is RunStatus.COMPLETED else coordinator.resume(made, RUN)
        self.note("started")
        return run

    def _follow(self, coordinator: Coordinator, run: Run) -> None:
        looks = 6
        pause = self.chance.randint(0, 60) if self.chance.random() < 0.3 else -1
        if self.shape.gate:
            pause = -1  # resumed when it has just failed at the gate, it would go on, and this would not be noted
        while True:
            try:
                for index, output in enumerate(run.stream()):
                    self._tell(index, output)
                    if index == pause:
                        self._pause(run)
                    if looks and self.chance.random() < 0.1:
                        looks -= 1  # each costs as much as there are events
                        self._look(run)
                break
            except RunFailedError:
                if not self.shape.gate:
                    raise
                Path(self.home, "mended").touch()
                self.note("failed")
                self._go_on(coordinator, run, workflow(self.shape))
        run.wait()
        self.note("done")

    def _go_on(self, coordinator: Coordinator, run: Run, made: type[Workflow]) -> None:
        if self.chance.random() < 0.5:
            run.resume()
        else:
            coordinator.resume(made, RUN)

    def _tell(self, index: int, output: Token) -> None:
        if index < len(self.outputs):  # from the beginning again, after a failure
            assert output == self.outputs[index]
            return
        self.outputs.append(output)
        self.note("told", index, output.number, output.trail[-1], self._new(output.trail))

    def _look(self, run: Run) -> None:
        completed, failed = run.metrics().completed, [(e.message, e.attempt) for e in run.errors()]
        attempts = {(_key(message), attempt) for message, attempt in failed if message.endswith(" not yet")}
        self.note("looked", completed, sorted(attempts), self._new(map(_key, run.context().log)))

    def _new(self, keys: object) -> list[str]:
        new = [key for key in dict.fromkeys(keys) if key not in self.known]  # type: ignore[call-overload]
        self.known.update(new)
        return new

    def _pause(self, run: Run) -> None:
        with suppress(AlreadyCompletedError):
            run.pause()
            self.note("paused")
            run.resume()


def _key(text: str) -> str:
    """Of the step that an event or an error begins with."""
    return " ".join(text.split(" ", 2)[:2])


if __name__ == "__main__":
    Program(sys.argv[1], int(sys.argv[2]), sys.argv[3]).run()
