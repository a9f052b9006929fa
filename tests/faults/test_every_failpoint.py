"""FAULTS rows 1-8, 22-24 and 30: at each point of the registry, whoever passes it is killed, stopped, or fails.

The points are those of ``failpoints.NAMES``: a new one is swept without a new test, and one that nobody passes fails.
By default each point has ``kill``, the first time that it is passed and in the middle, and every third one also another
action in the middle; ``FLOXIDE_SWEEP=all`` gives each all of them, both times.
"""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from floxide_mp import Coordinator, RunResult, RunStatus, SQLiteStore, failpoints
from floxide_mp.core.records import one_by_one
from tests.faults.flows_swept import CHANGED, ID, RETRY, Swept, database
from tests.flows_run import until

from .test_coordinator_dies import Script, scripts  # noqa: F401  # a fixture
from .test_worker_dies import eventually, state

PROGRAM = """
import os
from pathlib import Path
from tests.faults.flows_swept import main
os.dup2(os.open(Path(os.environ["FOLDER"], "told"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
main(os.environ["FOLDER"])
"""
HARMLESS = "stop", "sleep(0.05)"  # the program goes on by itself, or is made to
ALL = os.environ.get("FLOXIDE_SWEEP") == "all"
SHARE = 3  # of the points have another action, too
ACTIONS = "kill", "exit", "raise", "disk-full", *HARMLESS
WORKERS = [point for point in failpoints.NAMES if point.startswith("worker.")]
COORDINATORS = [point for point in failpoints.NAMES if not point.startswith("worker.")]


def cases(points: list[str]) -> list[tuple[str, str]]:
    """Points and what happens at them. Only a store meets a full disk."""
    found = []
    for number, point in enumerate(points):
        others = [a for a in ACTIONS[1:] if a != "disk-full" or point.startswith("store.")]
        chosen = others if ALL else [others[number // SHARE % len(others)]] if number % SHARE == 0 else []
        found += [(point, action) for action in ("kill", *chosen)]
    return found


class Undisturbed(NamedTuple):
    """What the run comes to, and how often a process passes each point: the one that does so most often."""

    answer: tuple[Any, ...]
    passes: Counter[str]


class Left(NamedTuple):
    """What is in a store, and in the file of effects, after a program has ended."""

    outputs: int
    unfinished: set[int]
    last: int
    effects: int


def answer(result: RunResult) -> tuple[Any, ...]:
    """All of it that must not depend on what happened. Items that were tried again are counted once."""
    metrics = result.metrics
    context = result.context
    return result.outputs, list(context.log), metrics.total_work_items, metrics.completed, metrics.failed


def begun(folder: Path, environment: str) -> Script:
    folder.mkdir()
    return Script(folder, PROGRAM, FLOXIDE_FAILPOINTS=environment)


def effects(folder: Path) -> list[int]:
    """Which items were begun, in order."""
    path = folder / "effects"
    return [int(line.split()[1]) for line in path.read_text().splitlines()] if path.exists() else []


def told(folder: Path) -> list[str]:
    path = folder / "told"
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    place = tmp_path_factory.mktemp("undisturbed")
    notes = place / "passed"
    script = begun(place / "run", ",".join(f"{point}=note:{notes}" for point in failpoints.NAMES))
    assert script.process.wait(60) == 0
    each = Counter(tuple(line.split()) for line in notes.read_text().splitlines())
    passes: Counter[str] = Counter()
    for (point, _), count in each.items():
        passes[point] = max(passes[point], count)
    with closing(SQLiteStore(database(str(place / "run")))) as store, Coordinator(0, store) as coordinator:
        return Undisturbed(answer(coordinator.run(ID).wait()), passes)


def test_how_points_are_armed() -> None:
    made = failpoints.parse("store.commit=sleep(0.2)@3:/tmp/a:b, worker.claimed=kill")
    point = made["store.commit"]
    assert (point.action, point.seconds, point.turn, point.token) == ("sleep", 0.2, 3, "/tmp/a:b")
    assert list(made) == ["store.commit", "worker.claimed"]
    for wrong in ("nosuch=kill", "store.commit=boom", "store.commit=kill(1)", "store.open=sleep", "store.open=note"):
        with pytest.raises(ValueError, match=re.escape(wrong)):
            failpoints.parse(wrong)
    with pytest.raises(KeyError, match="not in the registry"):
        failpoints.hit("store.nosuch.insert")


def test_every_point_is_passed(undisturbed: Undisturbed) -> None:
    """By the program of the sweep, or what it holds is held for nobody."""
    assert [point for point in failpoints.NAMES if not undisturbed.passes[point]] == []
    assert all(point.split(".")[0] in ("worker", "coordinator", "store") for point in failpoints.NAMES)


@pytest.fixture
def sweep(
    tmp_path: Path,
    undisturbed: Undisturbed,
    scripts: list[Script],  # noqa: F811
) -> Callable[[str, str], None]:
    def passed(point: str, action: str, turn: int) -> bool:
        """Whether somebody passed the point so many times, and what was to be right then is."""
        folder = tmp_path / str(len(scripts))
        token = tmp_path / f"token {len(scripts)}"
        token.touch()
        scripts.append(begun(folder, f"{point}={action}@{turn}:{token}"))
        until(lambda: not token.exists() or scripts[-1].process.poll() is not None)
        if token.exists():
            assert scripts[-1].process.returncode == 0
            return False
        ended(scripts[-1], point, action)
        before = left(folder)
        assert finished(folder, before) == undisturbed.answer
        return True

    def swept(point: str, action: str) -> None:
        half = 1 + undisturbed.passes[point] // 2
        for turn in sorted({1, half} if ALL or action == "kill" else {half}):
            at = turn
            while not passed(point, action, at):
                # How often it is passed hangs on what is written together, and so on what else the machine does.
                assert at > 1, "nobody passed the point"
                at //= 2

    return swept


def ended(script: Script, point: str, action: str) -> None:
    """The program comes to the end that the action means, and nothing is left of it."""
    if action == "stop":
        eventually(lambda: any(state(pid) == "T" for pid in script.family()), "somebody is stopped")
        for pid in script.family():
            if state(pid) == "T":
                os.kill(pid, signal.SIGCONT)
    code = script.process.wait(50)
    if point.startswith("worker.") or action in HARMLESS:
        assert code == 0
    elif action in ("kill", "exit"):
        assert code == (-signal.SIGKILL if action == "kill" else failpoints.EXIT_CODE)
    else:
        assert code in (0, 1), "whoever is told of an error lives"
    eventually(lambda: not script.family(), "nobody is left")
    assert os.listdir(script.temporary) == []


def left(folder: Path) -> Left | None:
    """What there is of the run; None if it is not there, and then nothing of it was done."""
    lines = told(folder)
    found = None
    if os.path.exists(database(str(folder))):
        with closing(SQLiteStore.open_reader(database(str(folder)))) as reader:
            reader.check()
            if ID in {record.run_id for record in reader.runs()}:
                outputs, items = list(one_by_one(reader.outputs(ID))), reader.snapshot(ID).items
                last = reader.progress(ID).counts[0]
                found = Left(len(outputs), {item.id for item in items}, last, len(effects(folder)))
    if found is None:
        assert lines == effects(folder) == [], "no run was written: none was begun, and nobody was told of one"
    else:
        assert len([line for line in lines if line.startswith("told ")]) <= found.outputs
    return found


def finished(folder: Path, before: Left | None) -> tuple[Any, ...]:
    """What the next program makes of it, which repeats no step that was written."""
    workers = 0 if "over" in told(folder) else 2
    with Coordinator(workers, store=database(str(folder)), retry=RETRY) as coordinator:
        status = {info.run_id: info.status for info in coordinator.runs()}
        assert set(status) - {CHANGED} == (set() if before is None else {ID})
        assert workers or status[ID] is RunStatus.COMPLETED
        result = coordinator.start(Swept, str(folder), run_id=ID, resume=True).wait(50)
        after = effects(folder)[before.effects if before else 0 :]
        if before is not None:
            assert all(item in before.unfinished or item > before.last for item in after)
    with closing(SQLiteStore.open_reader(database(str(folder)))) as reader:
        reader.check()
    return answer(result)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("point", "action"), cases(WORKERS))
def test_rows_01_to_08_a_worker_at(point: str, action: str, sweep: Callable[[str, str], None]) -> None:
    sweep(point, action)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("point", "action"), cases(COORDINATORS))
def test_rows_06_08_22_23_24_30_the_coordinator_at(point: str, action: str, sweep: Callable[[str, str], None]) -> None:
    sweep(point, action)
