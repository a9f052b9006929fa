"""A flaky node that is tried until it succeeds: ``with_retry`` gives a policy to a node that has none.

    python -m floxide_mp examples.retry
    python -m floxide_mp examples.retry --input 9            # more failures than attempts: the run fails

The node knows nothing of retries, and the same class may be patient here and not there. Between attempts no worker
waits: the coordinator hands the step out again when its time has come. A failed attempt leaves nothing but a row in
``run.errors()``.
"""

from __future__ import annotations

from collections.abc import Iterator

from floxide_mp import BackoffStrategy, Context, Coordinator, Node, RetryPolicy, Workflow, with_retry

PATIENT = RetryPolicy(max_attempts=5, initial_backoff=0.01, max_backoff=0.1, strategy=BackoffStrategy.EXPONENTIAL)


class Measure(Node):
    """An instrument that gives nonsense some times before it has warmed up."""

    def process(self, ctx: Context, warm_up: int) -> float:
        reading = -1.0 if ctx.item.attempt <= warm_up else 21.5
        if reading < 0:
            raise ValueError(f"{reading} cannot be")
        return reading


class Instrument(Workflow):
    measure = with_retry(Measure(), PATIENT)

    start = measure

    cli_defaults = {"input": 2}

    @staticmethod
    def cli_run(coordinator: Coordinator, warm_up: int) -> Iterator[str]:
        run = coordinator.start(Instrument, warm_up, run_id="reading")
        result = run.wait()
        for error in run.errors():
            yield f"attempt {error.attempt} of {error.node}: {error.type_name}: {error.message}"
        yield f"measured: {result.output} after {result.metrics.retries} retries"
