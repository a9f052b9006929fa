"""What an engine owes to the runs on it: they are waited for, paused, cancelled, timed and fed. See ``engines``."""

from __future__ import annotations

from typing import Final

from ..api.retry import RetryPolicy
from ..coordinator.channel import source
from ..errors import RunCancelledError, RunFailedError, RunTimeoutError
from ..types import RunMetrics, RunStatus, WorkItemStatus
from .answers import equal, raised
from .bench import Bench, Promises
from .gates import Asking, Deaf, DeafTimed, Gated, Gates, Job, Mended, Patient, Timed, Turning
from .workflows import Chain, Failing, Generated, Wide

promised: Final = Promises()
A_MOMENT: Final = 0.01  # seconds: a time-out that is meant to be over
TIME_OUT: Final = 0.3  # seconds


# -- waiting ----------------------------------------------------------------------------------------------------------


@promised()
def wait_tells_what_there_is(bench: Bench) -> None:
    """``wait`` is true when the run is over or has more than ``seen`` outputs, and false when the time is over."""
    gate = bench.gate()
    run = bench.coordinator().start(Gates, [bench.gate(opened=True).path, gate.path])
    waiting = bench.waits(run)
    bench.entered(gate)
    engine = bench.engines[-1]
    equal("wait for one output", engine.wait(run.run_id, 0, bench.limit), True)
    equal("wait for another one, which does not come", engine.wait(run.run_id, 1, A_MOMENT), False)
    equal("wait for the end, which does not come", engine.wait(run.run_id, None, 0), False)
    gate.open()
    equal("wait for another one", engine.wait(run.run_id, 1, bench.limit), True)
    equal("how many outputs", len(waiting.result(bench.limit).outputs), 2)
    equal("wait after the end", engine.wait(run.run_id, 99, 0), True)


@promised()
def a_wait_may_be_over_before_its_run(bench: Bench) -> None:
    """``Run.wait(timeout)`` raises ``TimeoutError``, and the run goes on."""
    gate = bench.gate()
    run = bench.coordinator().start(Gated, [gate.path])
    waiting = bench.waits(run)
    bench.entered(gate)
    for seconds in (0, A_MOMENT):
        raised(TimeoutError, bench.calls(run.wait, seconds).exception(bench.limit))
    equal("status", run.status, RunStatus.RUNNING)
    gate.open()
    equal("output", waiting.result(bench.limit).output, "through")


@promised()
def many_runs_from_many_threads(bench: Bench) -> None:
    """Any number of runs at once, waited for in any order by any number of threads."""
    coordinator = bench.coordinator()
    counts = [40, 0, 7, 1] * 5
    runs = [coordinator.start(Wide, count) for count in counts]
    waiting = [bench.waits(run) for run in (*reversed(runs), *runs)]
    for count, future in zip((*reversed(counts), *counts), waiting, strict=True):
        equal("output", future.result(bench.limit).output, sum(range(count)))


@promised()
def instant_runs(bench: Bench) -> None:
    """Runs that are over at once, on workers that have nothing else to do, one after the other and all together."""
    coordinator = bench.coordinator()
    for n in range(50):
        equal("output", coordinator.start(Chain, n).wait(bench.limit).output, n + 111)
    runs = [coordinator.start(Chain, n) for n in range(200)]
    for n, run in enumerate(runs):
        equal("output", run.wait(bench.limit).output, n + 111)
    equal("how many are completed", len(coordinator.runs(RunStatus.COMPLETED)), 250)


@promised()
def a_short_run_beside_a_long_one(bench: Bench) -> None:
    """Runs take turns: a short one ends while a long one, which was there before, is on."""
    coordinator, gate = bench.coordinator(), bench.gate()
    long = bench.waits(coordinator.start(Turning, gate.path))
    bench.works(coordinator)
    equal("the long run is over", long.done(), False)
    gate.open()
    equal("output", long.result(bench.limit).output, "through")


@promised()
def stream_gives_outputs_as_they_come(bench: Bench) -> None:
    """``Run.stream`` gives an output while other branches are on; again, it gives all of them again."""
    gate, opened = bench.gate(), bench.gate(opened=True)
    run = bench.coordinator().start(Gates, [opened.path, gate.path])
    stream = run.stream()
    equal("the first output", bench.calls(next, stream).result(bench.limit), opened.path)
    equal("status", run.status, RunStatus.RUNNING)
    gate.open()
    equal("the others", bench.calls(list, stream).result(bench.limit), [gate.path])
    equal("all again", list(run.stream()), [opened.path, gate.path])


@promised()
def stream_ends_as_wait_does(bench: Bench) -> None:
    """``Run.stream`` gives every output once, and raises where ``Run.wait`` does."""
    coordinator = bench.coordinator()
    run = coordinator.start(Generated, 300)
    equal("outputs", bench.calls(list, run.stream()).result(bench.limit), [n * n for n in range(300)])
    run = coordinator.start(Failing, 1)
    raised(RunFailedError, bench.calls(list, run.stream()).exception(bench.limit))


# -- pausing, cancelling, going on ------------------------------------------------------------------------------------


@promised()
def pause_starts_nothing_more(bench: Bench) -> None:
    """After ``pause`` nothing of the run starts, what runs is finished and committed; ``resume`` repeats nothing."""
    coordinator, gate = bench.coordinator(), bench.gate()
    run = coordinator.start(Gated, [gate.path])
    waiting = bench.waits(run)
    bench.entered(gate)
    run.pause()
    gate.open()
    bench.until(lambda: [item.node for item in run.work_items()] == ["after"])
    bench.works(coordinator)
    equal("what has been run", gate.trace, ["in"])
    equal("status", run.status, RunStatus.PAUSED)
    run.resume()
    equal("output", waiting.result(bench.limit).output, "through")
    equal("what has been run", gate.trace, ["in", "after"])


@promised()
def cancel_starts_nothing_more(bench: Bench) -> None:
    """After ``cancel`` nothing of the run starts, ``on_failure`` neither; what runs may end; CANCELLED is final."""
    coordinator, gate = bench.coordinator(), bench.gate()
    run = coordinator.start(Gated, [gate.path])
    waiting = bench.waits(run)
    bench.entered(gate)
    run.cancel(bench.limit)
    gate.open()
    raised(RunCancelledError, waiting.exception(bench.limit))
    bench.works(coordinator)
    equal("what has been run", gate.trace, ["in"])
    equal("status", run.status, RunStatus.CANCELLED)


@promised(tells=True)
def cancel_is_told_to_steps(bench: Bench) -> None:
    """``ctx.cancelled`` becomes true in a step that runs."""
    coordinator, gate = bench.coordinator(), bench.gate()
    run = coordinator.start(Asking, gate.path)
    waiting = bench.waits(run)
    bench.entered(gate)
    run.cancel(bench.limit)
    raised(RunCancelledError, waiting.exception(bench.limit))
    equal("what has been run", gate.trace, ["in", "told"])


@promised(hard=True, workers=2)
def cancel_ends_what_runs(bench: Bench) -> None:
    """A step that does not end within the grace is ended; other runs are not disturbed, and nothing of it is left."""
    coordinator, deaf, gate = bench.coordinator(), bench.gate(), bench.gate()
    sibling = bench.waits(coordinator.start(Gated, [gate.path]))
    bench.entered(gate)
    run = coordinator.start(Deaf, deaf.path)
    bench.entered(deaf)
    run.cancel(0.05)
    raised(RunCancelledError, bench.waits(run).exception(bench.limit))
    gate.open()
    equal("output of the other run", sibling.result(bench.limit).output, "through")
    bench.works(coordinator)
    equal("what has been run", (deaf.trace, gate.trace), (["in"], ["in", "after"]))


@promised()
def back_off_holds_no_worker(bench: Bench) -> None:
    """Items that wait for their retry hold no worker, and are cancelled at once."""
    coordinator, gate = bench.coordinator(), bench.gate()
    many = bench.workers + 1
    run = coordinator.start(Patient, [gate.path] * many)
    waiting = bench.waits(run)
    bench.until(lambda: [i.status for i in run.work_items()] == [WorkItemStatus.WAITING_RETRY] * many)
    bench.works(coordinator)
    run.cancel()
    raised(RunCancelledError, waiting.exception(bench.limit))
    equal("what has been run", gate.trace, ["in"] * many)


@promised()
def a_failed_run_goes_on(bench: Bench) -> None:
    """``resume`` of a failed run tries again what is unfinished, and repeats nothing that was committed."""
    coordinator, gate = bench.coordinator(), bench.gate()
    run = coordinator.start(Mended, gate.path)
    raised(RunFailedError, bench.waits(run).exception(bench.limit))
    gate.open()
    result = bench.waits(coordinator.resume(Mended, run.run_id)).result(bench.limit)
    equal("output", result.output, "through")
    equal("metrics", result.metrics, RunMetrics(2, 2, 0, 0))
    equal("what has been run", gate.trace, ["before", "in", "in"])
    equal("attempts that failed", [row.node for row in run.errors()], ["mended"])


@promised()
def the_coordinators_retry_policy(bench: Bench) -> None:
    """Nodes without a policy are retried by the coordinator's; the error of the run names node, item and attempt."""
    run = bench.coordinator(retry=RetryPolicy(3, 0)).start(Failing, 1)
    error = bench.waits(run).exception(bench.limit)
    raised(RunFailedError, error)
    assert isinstance(error, RunFailedError)
    equal("where it failed", (error.run_id, error.node, error.item_id, error.attempt), (run.run_id, "fail", 2, 3))
    equal("attempts that failed", [row.attempt for row in run.errors()], [1, 2, 3])
    equal("the node's traceback is there", all("in fail" in row.traceback for row in run.errors()), True)


# -- time-outs --------------------------------------------------------------------------------------------------------


@promised()
def a_step_that_is_too_long(bench: Bench) -> None:
    """It fails with ``NodeTimeoutError``: retried where the policy says so, then ``on_failure``; others are as ever."""
    gate = bench.gate()
    run = bench.coordinator().start(Timed, [Job(gate.path, attempts) for attempts in (0, 1, 2)])
    result = bench.waits(run).result(bench.limit)
    equal("outputs", result.outputs, ["in time", "in time", "fallback after NodeTimeoutError"])
    equal("events", list(result.context.log), [(0, 1), (1, 2)])
    equal("metrics", result.metrics, RunMetrics(total_work_items=5, completed=4, failed=1, retries=2))
    rows = sorted((row.node, row.type_name, row.attempt) for row in run.errors())
    equal("errors", rows, [("late", "NodeTimeoutError", attempt) for attempt in (1, 1, 2)])


@promised(hard=True)
def a_step_without_end(bench: Bench) -> None:
    """A step that never ends is ended by its node's time-out, which begins when its workflow has been imported."""
    coordinator, gate = bench.coordinator(), bench.gate()
    run = coordinator.start(DeafTimed, gate.path)
    equal("output", bench.waits(run).result(bench.limit).output, "fallback after NodeTimeoutError")
    equal("what has been run", gate.trace, ["in", "fallback"])
    bench.works(coordinator)


@promised()
def a_run_that_is_too_long(bench: Bench) -> None:
    """Quick steps without end are stopped by the time-out of their run, which is no failure for ``on_failure``."""
    coordinator, gate = bench.coordinator(), bench.gate()
    bench.works(coordinator)  # workers that have yet to start would take from its time
    run = coordinator.start(Turning, gate.path, timeout=TIME_OUT)
    raised(RunTimeoutError, bench.waits(run).exception(bench.limit))
    equal("status", run.status, RunStatus.FAILED)
    bench.works(coordinator)
    equal("what has been run", gate.trace, [])


@promised()
def a_run_that_is_too_long_while_nothing_runs(bench: Bench) -> None:
    """The time-out of a run strikes also while all of it waits for a retry."""
    run = bench.coordinator().start(Patient, [bench.gate().path], timeout=TIME_OUT)
    raised(RunTimeoutError, bench.waits(run).exception(bench.limit))


@promised(hard=True)
def a_run_that_is_too_long_in_one_step(bench: Bench) -> None:
    """A step that never ends is ended by the time-out of its run and the grace that follows."""
    coordinator, gate = bench.coordinator(), bench.gate()
    bench.works(coordinator)
    run = coordinator.start(Deaf, gate.path, timeout=TIME_OUT)
    raised(RunTimeoutError, bench.waits(run).exception(bench.limit))
    bench.works(coordinator)
    equal("what has been run is one step at the most", gate.trace in (["in"], []), True)


# -- input that comes bit by bit --------------------------------------------------------------------------------------


@promised()
def a_source_is_emptied(bench: Bench) -> None:
    """Each value that is sent becomes an item of the run, which ends when the channel is closed."""
    sender, values = source(3)
    waiting = bench.waits(bench.coordinator().start(Chain, values))
    with sender:
        for n in range(40):
            sender.send(n, bench.limit)
    equal("outputs", waiting.result(bench.limit).outputs, [n + 111 for n in range(40)])
