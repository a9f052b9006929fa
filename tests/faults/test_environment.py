"""What is needed before a node is called is not there: a module, a class, the context. That is the run's trouble, and
no item's: nothing is lost, and the run goes on where it is mended.
"""

from __future__ import annotations

import importlib
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from multiprocessing.resource_tracker import ensure_running
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import Coordinator, MemoryStore, RunFailedError, WorkItemStatus
from floxide_mp.api.stepping import ItemProcessedOutcome, OutcomeKind, StepCallbacks
from floxide_mp.engines.executor import ExecutorEngine
from tests.conftest import LIMIT
from tests.faults import flows_steps as flows

WHOLE = """
from dataclasses import dataclass
from floxide_mp import Context, EventLog

class Thing:
    def __init__(self, number):
        self.number = number

@dataclass
class Ctx(Context):
    log: EventLog[str]
"""
BROKEN = {
    "the module is gone": (None, "ModuleNotFoundError: No module named 'things_elsewhere'"),
    "the class is gone": ("x = 1\n", "AttributeError: Can't get attribute '"),
    "the module cannot be imported": ("def :\n", "SyntaxError: invalid syntax"),
    "the module raises": ("raise LookupError('no licence')\n", "LookupError: no licence"),
    "the module ends the program": ("import sys\nsys.exit('usage: things')\n", "SystemExit: usage: things"),
}


class Elsewhere:
    """The module ``things_elsewhere``, which can be taken away."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "things_elsewhere.py"

    def write(self, text: str | None) -> None:
        self.file.unlink(missing_ok=True)
        if text is not None:
            self.file.write_text(text)
        sys.modules.pop("things_elsewhere", None)
        importlib.invalidate_caches()

    def load(self) -> Any:
        self.write(WHOLE)
        return importlib.import_module("things_elsewhere")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # what is written twice within a second has one time stamp
    yield Elsewhere(tmp_path)
    sys.modules.pop("things_elsewhere", None)


@pytest.fixture(scope="module", autouse=True)
def tracker() -> None:
    """The process that ``multiprocessing`` starts with its first pool stays until the end of this one."""
    ensure_running()


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("text", "told"), BROKEN.values(), ids=BROKEN.keys())
def test_row_109_a_broken_environment_consumes_no_item(
    text: str | None, told: str, workers: int, elsewhere: Elsewhere
) -> None:
    there, store = elsewhere.load(), MemoryStore()
    with Coordinator(0, store=store) as coordinator:
        run_id = coordinator.start(flows.Things, [there.Thing(number) for number in range(3)]).run_id
    elsewhere.write(text)
    with Coordinator(workers, store=store) as coordinator:
        run = coordinator.resume(flows.Things, run_id)
        with pytest.raises(RunFailedError) as caught:
            run.wait(LIMIT)
        assert str(caught.value).startswith(f"run {run_id} failed: the input of split cannot be opened: {told}")
        assert [(i.node, i.status, i.attempt) for i in run.work_items()] == [("split", WorkItemStatus.PENDING, 1)]
        assert (run.errors(), run.metrics().failed, run.metrics().retries) == ([], 0, 0)
        assert caught.value.__cause__ is not None
    elsewhere.write(WHOLE)
    with Coordinator(workers, store=store) as coordinator:
        assert coordinator.resume(flows.Things, run_id).wait(LIMIT).outputs == [0, 1, 2]


@pytest.mark.parametrize("workers", [0, 1])
def test_row_109_a_context_that_cannot_be_opened(workers: int, elsewhere: Elsewhere) -> None:
    there, store = elsewhere.load(), MemoryStore()
    thing = there.Thing(1)
    ctx = flows.Shared(flows.EventLog(), flows.Sum(), flows.SharedState(thing), flows.Fixed(None))
    with Coordinator(0, store=store) as coordinator:
        run_id = coordinator.start(flows.Things, [1], ctx=ctx).run_id
    elsewhere.write(None)
    with Coordinator(workers, store=store) as coordinator:
        run = coordinator.resume(flows.Things, run_id)
        with pytest.raises(RunFailedError, match="the workflow, or its context, cannot be opened: ModuleNotFoundError"):
            run.wait(LIMIT)
        assert [(i.node, i.status, i.attempt) for i in run.work_items()] == [("split", WorkItemStatus.PENDING, 1)]
    elsewhere.write(WHOLE)
    with Coordinator(workers, store=store) as coordinator:
        assert coordinator.resume(flows.Things, run_id).wait(LIMIT).outputs == [-1]


@pytest.mark.parametrize("workers", [0, 1])
def test_row_109_an_item_whose_own_bytes_are_bad_fails_alone(workers: int) -> None:
    with Coordinator(workers) as coordinator:
        run = coordinator.start(flows.BadOnes, [1, "bad", 2], failure="finish")
        with pytest.raises(RunFailedError, match=r"failed at number_of \(item \d, attempt 1\): ValueError: inv"):
            run.wait(LIMIT)
        assert (run.metrics().completed, run.metrics().failed) == (3, 1)


RAISES = "    def __setstate__(self, state):\n        raise LookupError('the database is down')\n"
UNOPENED = {
    "its class raises": WHOLE.replace("\n@dataclass", RAISES + "\n@dataclass"),
    "its class takes other arguments": WHOLE + "def made(): return Thing(0)\n",
}
MADE = WHOLE.replace("\n@dataclass", "    def __reduce__(self):\n        return made, (self.number,)\n\n@dataclass")
MADE += "def made(number):\n    thing = Thing(number)\n    return thing\n"


def _left_at_the_second_node(store: MemoryStore, values: list[Any]) -> str:
    """A run of ``Rescued`` whose values are all there, and none of them opened."""
    with Coordinator(0, store=store) as coordinator:
        run_id = flows.Rescued().start_distributed(None, values, coordinator)
        flows.Rescued().step_distributed(coordinator, 0)
    return run_id


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize(("whole", "broken"), [*zip((WHOLE, MADE), UNOPENED.values(), strict=True)], ids=[*UNOPENED])
def test_row_109_what_opens_for_no_item_is_no_items_fault(
    whole: str, broken: str, workers: int, elsewhere: Elsewhere
) -> None:
    elsewhere.write(whole)
    there, store = importlib.import_module("things_elsewhere"), MemoryStore()
    run_id = _left_at_the_second_node(store, [there.Thing(number) for number in range(4)])
    elsewhere.write(broken)
    with Coordinator(workers, store=store) as coordinator:
        run = coordinator.resume(flows.Rescued, run_id)
        for _ in range(2):  # in the same program, too
            with pytest.raises(
                RunFailedError, match=r"the input of number_of_two cannot be opened: (Lookup|Type)Error"
            ):
                run.wait(LIMIT)
            left = [(i.node, i.status, i.attempt) for i in run.work_items()]
            assert left == [("number_of_two", WorkItemStatus.PENDING, 1)] * 4
            assert (run.errors(), run.metrics().failed, run.metrics().retries) == ([], 0, 0)
            run.resume()
        with pytest.raises(RunFailedError):
            run.wait(LIMIT)
    elsewhere.write(whole)
    with Coordinator(workers, store=store) as coordinator:
        assert coordinator.resume(flows.Rescued, run_id).wait(LIMIT).outputs == [(1, n) for n in range(4)]


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("values", [["bad", 1, 2], [1, "bad", 2], [1, 2, "bad"], ["bad", 1, "bad"]])
@pytest.mark.parametrize("left", [False, True], ids=["in one program", "in two"])
def test_row_109_one_that_is_bad_while_others_open_is_rescued(values: list[Any], workers: int, left: bool) -> None:
    """Also where it comes first, and whoever has it."""
    store = MemoryStore()
    run_id = _left_at_the_second_node(store, values) if left else None
    with Coordinator(workers, store=store) as coordinator:
        run = coordinator.resume(flows.Rescued, run_id) if run_id else coordinator.start(flows.Rescued, values)
        bad = values.count("bad")
        assert run.wait(LIMIT).outputs == [(1, value) for value in values if value != "bad"] + bad * ["rescued"]
        assert sorted(error.attempt for error in run.errors()) == sorted([1, 2] * bad)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_row_109_new_items_none_of_which_can_be_opened(workers: int) -> None:
    with Coordinator(workers) as coordinator:
        run = coordinator.start(flows.Rescued, ["bad", "bad", "bad"])
        with pytest.raises(RunFailedError, match="the input of number_of_two cannot be opened: ValueError"):
            run.wait(LIMIT)
        assert (run.errors(), run.metrics().failed) == ([], 0)
        assert coordinator.start(flows.Rescued, ["bad"]).wait(LIMIT).outputs == ["rescued"]  # alone, it is bad itself


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_row_109_what_is_made_now_says_nothing_of_what_was_there(workers: int, elsewhere: Elsewhere) -> None:
    """A class that was renamed since, say: new values of it can be opened, and old ones cannot."""
    there, store = elsewhere.load(), MemoryStore()
    with Coordinator(0, store=store) as coordinator:
        first = [there.Thing(1), there.Thing(2)]
        run_id = flows.OldAndNew().start_distributed(None, first, coordinator)
        flows.OldAndNew().step_distributed(coordinator, 0)
    elsewhere.write(UNOPENED["its class raises"])
    with Coordinator(workers, store=store) as coordinator:
        run = coordinator.resume(flows.OldAndNew, run_id)
        with pytest.raises(RunFailedError, match="the input of number_of_two cannot be opened: LookupError"):
            run.wait(LIMIT)
        assert run.errors() == []
    elsewhere.write(WHOLE)
    with Coordinator(workers, store=store) as coordinator:
        outputs = coordinator.resume(flows.OldAndNew, run_id).wait(LIMIT).outputs
        assert sorted(outputs) == [(1, 0), (1, 1), (1, 2)]


@pytest.mark.parametrize("workers", [0, 2])
def test_row_109_serial_steps_behind_one_that_cannot_be_opened(workers: int) -> None:
    """They wait for it, so none of them can show that others open: the run ends all the same."""
    store = MemoryStore()
    with Coordinator(0, store=store) as coordinator:
        run_id = flows.InOrder().start_distributed(None, ["bad", 1, 2], coordinator)
        flows.InOrder().step_distributed(coordinator, 0)
    with Coordinator(workers, store=store) as coordinator:
        run = coordinator.resume(flows.InOrder, run_id)
        with pytest.raises(RunFailedError, match="the input of in_order cannot be opened: ValueError"):
            run.wait(LIMIT)
        assert [i.attempt for i in run.work_items()] == [1, 1, 1]


def test_row_109_in_an_executor(elsewhere: Elsewhere) -> None:
    there, store = elsewhere.load(), MemoryStore()
    ctx = flows.Shared(flows.EventLog(), flows.Sum(), flows.SharedState(there.Thing(1)), flows.Fixed(None))
    with Coordinator(0, store=store) as coordinator:
        runs = [coordinator.start(flows.Things, [there.Thing(1)]), coordinator.start(flows.Things, [1], ctx=ctx)]
    elsewhere.write(None)
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        Coordinator(1, store=store, engine=partial(ExecutorEngine, pool)) as coordinator,
    ):
        for left, what in zip(runs, ("the input of split", "the workflow, or its context,"), strict=True):
            run = coordinator.resume(flows.Things, left.run_id)
            with pytest.raises(RunFailedError, match=f"{what} cannot be opened: ModuleNotFoundError"):
                run.wait(LIMIT)
            assert [(i.node, i.status, i.attempt) for i in run.work_items()] == [("split", WorkItemStatus.PENDING, 1)]


def test_row_109_in_a_loop_of_ones_own(elsewhere: Elsewhere) -> None:
    there, told = elsewhere.load(), []

    class Told(StepCallbacks):
        def on_item_processed(self, run_id: str, item: Any, outcome: ItemProcessedOutcome) -> None:
            told.append((outcome.kind, type(outcome.error)))

    with Coordinator(0) as coordinator:
        run_id = flows.Things().start_distributed(None, [there.Thing(1)], coordinator)
        elsewhere.write(None)
        assert flows.Things().step_distributed(coordinator, 0, Told()) is None
        assert told == [(OutcomeKind.REFUSED, ModuleNotFoundError)]
        run = coordinator.run(run_id)
        with pytest.raises(RunFailedError, match="the input of split cannot be opened"):
            run.wait(LIMIT)
        elsewhere.write(WHOLE)
        run.resume()
        assert run.wait(LIMIT).outputs == [1]
