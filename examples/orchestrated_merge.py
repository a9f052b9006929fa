"""Random failures, and a run that is resumed until it is done: nothing is lost, and nothing counts twice.

    python -m floxide_mp examples.orchestrated_merge
    python -m floxide_mp examples.orchestrated_merge --input '{"chance": 0.6, "seed": 4}'

Ten values are fetched from a service that fails at random, merged, and published by one that does so too. There are
no retries here: each failure fails the run, which ``coordinator.resume`` takes up again. Chances come from
``ctx.item.seed``, so it is the same story on any number of workers.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from floxide_mp import Arrivals, Context, Coordinator, EventLog, Fixed, Join, RunFailedError, SplitNode, Workflow, node


@dataclass
class Gathered(Context):
    """``service`` is the directory in which the service remembers how often it was called."""

    service: Fixed[Path]
    chance: Fixed[float]
    events: EventLog[tuple[str, Any]] = field(default_factory=EventLog)

    def replay(self) -> dict[str, list[Any]]:
        """What was written, by kind."""
        return self.events.apply_all({}, lambda event, state: state.setdefault(event[0], []).append(event[1]))


def call_service(ctx: Gathered) -> None:
    """Fail by chance. Calls are counted outside of the run, in which a failed step leaves no trace."""
    with Path(ctx.service.get(), f"{ctx.item.seed}").open("ab") as calls:
        calls.write(b"x")
        count = calls.tell()
    chances = random.Random(ctx.item.seed)
    if [chances.random() for _ in range(count)][-1] < ctx.chance.get():
        raise ConnectionError("the service hung up")


@node
def fetch(ctx: Gathered, value: int) -> int:
    ctx.events.append(("asked for", value))
    call_service(ctx)
    return value * value


@Join
def merge(ctx: Gathered, values: Arrivals) -> list[int]:
    ctx.events.append(("merged", len(values)))
    return sorted(values)


@node
def publish(ctx: Gathered, values: list[int]) -> list[int]:
    call_service(ctx)
    ctx.events.append(("published", values))
    return values


class Gather(Workflow):
    context = Gathered

    split = SplitNode(range)
    fetch, merge, publish = fetch, merge, publish

    start = split
    edges = {split: [fetch], fetch: [merge], merge: [publish]}

    cli_defaults = {"input": {"chance": 0.3, "seed": 1}}

    @staticmethod
    def cli_run(coordinator: Coordinator, value: dict[str, Any]) -> Iterator[str]:
        with TemporaryDirectory() as service:
            ctx = Gathered(Fixed(Path(service)), Fixed(value["chance"]))
            run = coordinator.start(Gather, 10, ctx, run_id="gather", seed=value["seed"])
            while True:
                try:
                    result = run.wait()
                    break
                except RunFailedError:
                    coordinator.resume(Gather, run.run_id)
        yield f"the run is {run.status.value}: {result.output}"
        failures = Counter(error.node for error in run.errors())
        yield f"failures on the way: {', '.join(f'{name} {failures[name]}' for name in sorted(failures)) or 'none'}"
        yield from (f"{kind}: {values}" for kind, values in result.context.replay().items())
