"""The runs whose answer must not depend on who does the work, one for each kind of thing that a workflow can do; what
an answer is, how two of them are compared, and ``Check``: one promise that a suite holds an engine to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ..api.workflow import Workflow
from ..coordinator.coordinator import Coordinator
from ..coordinator.run_handle import Run
from ..errors import RunFailedError
from ..texts import shown
from ..types import RunMetrics, RunStatus
from .workflows import (
    Batch,
    Branches,
    BreaksOff,
    Chain,
    Colour,
    Failing,
    FailingBranch,
    Gathered,
    Generated,
    Held,
    Loop,
    Nested,
    Outer,
    Routes,
    Shaken,
    SpoiltBatch,
    Unpicklable,
    Unrouted,
    Wide,
)
from .workflows_context import Asynchronous, BothWays, Contexts, Items, by_value


@dataclass(frozen=True)
class Check:
    """Call it: what is wrong is raised.

    Attributes:
        name: one word for it.
        promise: the sentence that it holds one to.
    """

    name: str
    promise: str
    body: Callable[[], None]

    def __call__(self) -> None:
        try:
            self.body()
        except Exception as error:
            error.add_note(f"\n{self.name}: {self.promise}")
            raise

    def __str__(self) -> str:
        return self.name


def run_all(checks: Sequence[Check]) -> None:
    """Run them all.

    Raises:
        ExceptionGroup: the failed ones' errors; its text names them.
    """
    failures: dict[str, Exception] = {}
    for check in checks:
        try:
            check()
        except Exception as error:
            failures[check.name] = error
    if failures:
        text = f"{len(failures)} of {len(checks)} checks failed: {', '.join(failures)}"
        raise ExceptionGroup(text, list(failures.values()))


def equal(what: str, found: Any, expected: Any) -> None:
    """Hold two values to be equal.

    Raises:
        AssertionError: they are not.
    """
    if found != expected:
        raise AssertionError(f"{what}: expected {_short(expected)}, found {_short(found)}")


def raised(kind: type[BaseException], error: BaseException | None) -> None:
    """Hold an error to be one of that kind.

    Raises:
        AssertionError: it is another one, which is its cause, or none.
    """
    if not isinstance(error, kind):
        raise AssertionError(f"expected {kind.__name__}, found {_short(error)}") from error


def _short(value: Any) -> str:
    text = shown(value)
    return text if len(text) <= 600 else f"{text[:300]} ... {text[-300:]}"


class Case(NamedTuple):
    """A run whose answer is compared. ``seed`` and ``failure`` are those of ``Coordinator.start``."""

    workflow: type[Workflow]
    input: Any
    seed: int = 0
    failure: str = "stop"


ANSWERS: Final = {
    "chain": Case(Chain, 1),
    "loop": Case(Loop, 27),
    "routes": Case(Routes, [Colour.RED, Colour.BLUE, 7, 7.0, "LOUD", "low", (1, 2), (1, 2, 3)]),
    "no_route": Case(Unrouted, 7),
    "wide_fan_out": Case(Wide, 500),
    "empty_fan_out": Case(Wide, 0),
    "generator": Case(Generated, 50),
    "generator_that_raises": Case(BreaksOff, 5),
    "nested_joins": Case(Nested, 5),
    "branches_told_apart": Case(Branches, 10),
    "branches_not_taken": Case(Branches, 0),
    "hold_until_all_are_there": Case(Gathered, 20),
    "all_held": Case(Held, 3),
    "retries_abort_and_on_failure": Case(Shaken, [1, 2, 3, 4, 100]),
    "failure": Case(Failing, "luck"),
    "failure_by_exit": Case(Failing, "exit"),
    "failure_that_lets_others_finish": Case(FailingBranch, 9, failure="finish"),
    "unpicklable_result": Case(Unpicklable, None),
    "composite": Case(Outer, 15),
    "batch": Case(Batch, range(20)),
    "empty_batch": Case(Batch, ()),
    "spoilt_batch": Case(SpoiltBatch, [11, 12, 13, 14]),
    "contexts": Case(Contexts, 60),
    "items_and_seeds": Case(Items, 30, seed=7),
    "async_nodes": Case(Asynchronous, 5),
    "nodes_by_value": Case(by_value(), 10),
    "large_values": Case(BothWays, bytes(range(256)) * 10_000),
}


def start(coordinator: Coordinator, case: Case, run_id: str | None = None) -> Run:
    """Start the case's run."""
    return coordinator.start(case.workflow, case.input, run_id=run_id, seed=case.seed, failure=case.failure)


class Answer(NamedTuple):
    """All of a run that must not depend on who did its work."""

    status: RunStatus
    outputs: tuple[Any, ...]
    context: dict[str, Any]
    metrics: RunMetrics
    errors: list[tuple[Any, ...]]  # node, attempt, type and message, sorted: in which order attempts fail is chance
    failure: tuple[Any, ...] | None  # node and attempt that the run failed by, type and text of the cause


def answer(run: Run, limit: float) -> Answer:
    """Wait for the run's end, and take down everything."""
    failure = None
    try:
        run.wait(limit)
    except RunFailedError as error:
        failure = error.node, error.attempt, type(error.__cause__).__name__, str(error.__cause__)
    checkpoint = run.checkpoint()
    errors = sorted((row.node, row.attempt, row.type_name, row.message) for row in run.errors())
    return Answer(checkpoint.status, checkpoint.outputs, vars(checkpoint.context), run.metrics(), errors, failure)


def same(found: Answer, expected: Answer) -> None:
    """Hold two answers to be equal, part by part."""
    for what, one, other in zip(Answer._fields, found, expected, strict=True):
        equal(what, one, other)
