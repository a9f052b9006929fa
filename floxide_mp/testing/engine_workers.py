"""What an engine owes as the owner of workers: how many there are, what they may not do, what becomes of them when they
die or are stopped. See ``engines``.
"""

from __future__ import annotations

import gc
import os
import signal
from typing import Final

from ..errors import FloxideError, RunFailedError, WorkerDiedError
from ..stores.memory import MemoryStore
from ..types import LivenessStatus, RunMetrics, RunStatus
from .answers import Case, answer, equal, raised, same, start
from .bench import Bench, Promises
from .gates import Batched, Counted, Gated, Gates, Job, Mortals, Serially, Slowly, Turning
from .leftovers import leftovers
from .workflows import Wide

promised: Final = Promises()
NOW: Final = 0.0  # seconds of grace


# -- at work ----------------------------------------------------------------------------------------------------------


@promised(workers=2)
def workers_work_at_the_same_time(bench: Bench) -> None:
    """There are as many workers as asked for: so many steps of a run are under way at a time."""
    gate = bench.gate()
    run = bench.coordinator().start(Gates, [gate.path] * bench.workers)
    bench.entered(gate, bench.workers)
    gate.open()
    equal("outputs", run.wait(bench.limit).outputs, [gate.path] * bench.workers)


@promised()
def workers_are_listed(bench: Bench) -> None:
    """``workers`` lists those that there are, with different numbers; the one with a long step is alive, too."""
    coordinator, gate = bench.coordinator(), bench.gate()
    waiting = bench.waits(coordinator.start(Gated, [gate.path], run_id="long"))
    bench.entered(gate)
    workers = coordinator.workers()
    numbers = [worker.worker_id for worker in workers]
    equal("the workers' numbers", sorted(numbers), list(range(max(1, bench.workers))))
    equal("liveness", {worker.liveness for worker in workers}, {LivenessStatus.ALIVE})
    equal("runs worked on", {worker.current_work_item_run_id for worker in workers} <= {"long", None}, True)
    gate.open()
    equal("output", waiting.result(bench.limit).output, "through")
    coordinator.close()
    equal("workers after the end", coordinator.workers(), [])


@promised()
def each_step_is_run_once(bench: Bench) -> None:
    """Where nothing dies, no step is executed twice."""
    gate = bench.gate()
    run = bench.coordinator().start(Counted, [Job(gate.path, n) for n in range(200)])
    equal("output", bench.waits(run).result(bench.limit).output, 200)
    equal("what has been run", sorted(map(int, gate.trace)), list(range(200)))


@promised()
def serial_steps_never_overlap(bench: Bench) -> None:
    """Steps of a serial node never overlap, and each sees what those before it have committed."""
    gate = bench.gate()
    run = bench.coordinator().start(Serially, [Job(gate.path, n) for n in range(40)])
    result = bench.waits(run).result(bench.limit)
    equal("begins and ends", gate.trace, ["in", "out"] * 40)
    equal("how many each saw before it", sorted(result.outputs), list(range(40)))


@promised()
def a_batch_has_a_limit(bench: Bench) -> None:
    """At most ``batch_size`` inputs of a batch are in flight; the outputs are in the order of the inputs."""
    gate = bench.gate()
    run = bench.coordinator().start(Batched, [Job(gate.path, n) for n in range(30)])
    equal("output", bench.waits(run).result(bench.limit).output, list(range(30)))
    most = now = 0
    for word in gate.trace:
        now += 1 if word == "in" else -1
        most = max(most, now)
    equal(f"{most} in flight is at most 2", most <= 2, True)


# -- deaths -----------------------------------------------------------------------------------------------------------


@promised(hard=True)
def a_step_that_ends_its_worker(bench: Bench) -> None:
    """The step is tried again; the others are as if nothing had been, and the error says what happened."""
    run = bench.coordinator().start(Mortals, range(20))
    result = bench.waits(run).result(bench.limit)
    equal("outputs", result.outputs, list(range(20)))
    equal("events", list(result.context.log), list(range(20)))
    equal("metrics", result.metrics, RunMetrics(total_work_items=21, completed=21, failed=0, retries=1))
    rows = [(row.node, row.attempt, row.type_name) for row in run.errors()]
    equal("errors", rows, [("mortal", 1, WorkerDiedError.__name__)])


@promised(hard=True)
def a_step_that_ends_every_worker(bench: Bench) -> None:
    """It fails as ``WorkerDiedError`` instead of killing without end, and the engine is as good as before."""
    coordinator = bench.coordinator()
    error = bench.waits(coordinator.start(Mortals, [-1])).exception(bench.limit)
    raised(RunFailedError, error)
    raised(WorkerDiedError, error.__cause__ if error else None)
    bench.works(coordinator)


@promised(hard=True)
def workers_that_are_killed_between_steps(bench: Bench) -> None:
    """They are replaced, and nobody notices."""
    coordinator = bench.coordinator()
    bench.works(coordinator)
    for worker in coordinator.workers():
        if worker.pid != os.getpid():
            os.kill(worker.pid, signal.SIGKILL)
    bench.works(coordinator)


# -- stopping ---------------------------------------------------------------------------------------------------------


@promised()
def stop_lets_steps_finish(bench: Bench) -> None:
    """A step that runs has ``grace`` seconds: when ``stop`` returns it is committed, and nothing else was begun."""
    coordinator, gate = bench.coordinator(), bench.gate()
    run = coordinator.start(Slowly, gate.path)
    waiting = bench.waits(run)
    bench.entered(gate)
    coordinator.drain()  # or the next step might be begun before ``close``
    gate.open()
    coordinator.close(bench.limit)
    equal("what is committed", list(run.context().log), ["slowly"])
    equal("what is left", [item.node for item in run.work_items()], ["after"])
    equal("what has been run", gate.trace, ["in"])
    raised(FloxideError, waiting.exception(bench.limit))


@promised()
def stop_gives_up_what_is_not_finished(bench: Bench) -> None:
    """A step that is not finished within the grace has not happened: what it brings later, if it can, changes nothing.

    The run goes on with another coordinator, and its answer is as if nothing had been.
    """
    store, gate = MemoryStore(), bench.gate()
    coordinator = bench.coordinator(store=store)
    run = coordinator.start(Gated, [gate.path], run_id="given-up")
    waiting = bench.waits(run)
    bench.entered(gate)
    coordinator.close(NOW)
    waits_again = bench.waits(bench.coordinator(store=store).resume(Gated, "given-up"))
    bench.entered(gate, 2)
    gate.open()
    result = waits_again.result(bench.limit)
    raised(FloxideError, waiting.exception(bench.limit))
    equal("what it was when it was given up", (run.status, run.metrics().completed), (RunStatus.RUNNING, 1))
    equal("output", result.output, "through")
    equal("events", [word for word, _ in result.context.log], ["gate", "after"])
    equal("metrics", result.metrics, RunMetrics(3, 3, 0, 0))
    equal("what has been run", gate.trace, ["in", "in", "after"])


@promised()
def a_run_goes_on_elsewhere(bench: Bench) -> None:
    """A run that was left in the middle goes on with another coordinator, and comes to the answer of one thread."""
    store, gates = MemoryStore(), [bench.gate(opened=n != 2) for n in range(5)]
    case = Case(Gated, [gate.path for gate in gates])
    coordinator = bench.coordinator(store=store)
    run = start(coordinator, case, "left")
    waiting = bench.waits(run)
    bench.entered(gates[2])
    committed = {("gate", gate.path) for gate in gates[:2]}
    bench.until(lambda: committed <= set(run.context().log))
    coordinator.close(NOW)
    gates[2].open()
    raised(FloxideError, waiting.exception(bench.limit))
    found = answer(bench.coordinator(store=store).resume(Gated, "left"), bench.limit)
    equal("how often the first two were run", [gate.trace.count("in") for gate in gates[:2]], [1, 1])
    same(found, bench.expected(case, "left"))


@promised()
def stop_at_any_time(bench: Bench) -> None:
    """``stop`` right after ``start``, without runs and with some: those stay as they are, and who waits is told."""
    bench.coordinator().close(NOW)
    coordinator, gate = bench.coordinator(), bench.gate()
    runs = [coordinator.start(Turning, gate.path) for _ in range(3)]
    waiting = [bench.waits(run) for run in runs]
    coordinator.close(NOW)
    for run, future in zip(runs, waiting, strict=True):
        raised(FloxideError, future.exception(bench.limit))
        equal("status", run.status, RunStatus.RUNNING)


@promised()
def stop_leaves_nothing_behind(bench: Bench) -> None:
    """After ``stop`` there are no processes, threads and descriptors that were not there before.

    What the first engine makes for all that follow may stay.
    """
    _use(bench)
    before = leftovers()
    _use(bench)
    gc.collect()
    for kind, now in leftovers().items():
        equal(f"{kind} left behind", now - before[kind], set())


def _use(bench: Bench) -> None:
    coordinator = bench.coordinator()
    equal("output", coordinator.start(Wide, 100).wait(bench.limit).output, 4950)
    coordinator.close()
