"""The suite for engines: all checks by name, and all of them at once. They hold one to ``ports.Engine``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from ..coordinator.coordinator import EngineFactory
from . import engine_runs, engine_workers
from .answers import ANSWERS, Check, run_all
from .bench import Bench, Promise

LIMIT: Final = 30.0  # seconds
SAME_ANSWERS: Final = [
    Promise(
        f"same_answer_{name}",
        "Outputs, context, metrics and errors are those of the run one step at a time in one thread.",
        partial(Bench.same_answer, case=case, run_id=f"same-answer-{name}"),
    )
    for name, case in ANSWERS.items()
]


def check_engine(
    engine: EngineFactory, *, workers: int = 2, hard: bool = True, tells: bool = True, limit: float = LIMIT
) -> None:
    """Run every check on an engine. Arguments as of ``engine_checks``.

    Checks let steps be late and workers die, and the package's log warns of each. The program's handlers get those
    warnings; where it has none, they are not printed to standard error.

    Raises:
        ExceptionGroup: the errors of the checks that failed; its text names them.
    """
    log, handler = logging.getLogger("floxide_mp"), logging.NullHandler()  # with any, ``logging`` prints nothing itself
    log.addHandler(handler)
    try:
        run_all(engine_checks(engine, workers=workers, hard=hard, tells=tells, limit=limit))
    finally:
        log.removeHandler(handler)


def engine_checks(
    engine: EngineFactory, *, workers: int = 2, hard: bool = True, tells: bool = True, limit: float = LIMIT
) -> list[Check]:
    """The checks for an engine: each has a name, and is called to run it (``pytest.mark.parametrize`` takes the list).

    Args:
        engine: a function of scheduler and number of workers, as ``Coordinator(engine=...)`` takes it. It is called
            for each coordinator that a check needs, one or two.
        workers: the number it is called with. With 2 or more, so many steps must run at a time; 0 is for an engine
            whose steps run in the threads that wait.
        hard: whether it can end a step that runs, and outlives one that ends its process.
        tells: whether a step that runs learns (``ctx.cancelled``) that its run is cancelled.
        limit: seconds after which what should have happened counts as hung.
    """

    def on_a_bench(body: Callable[[Bench], None]) -> None:
        with Bench(engine, workers, limit) as bench:
            bench.run(body)

    return [
        Check(promise.name, promise.text, partial(on_a_bench, promise.body))
        for promise in (*SAME_ANSWERS, *engine_runs.promised, *engine_workers.promised)
        if hard >= promise.hard and tells >= promise.tells and workers >= promise.workers
    ]
