"""Runs that were made by other versions, of the schema and of what pickles: rows 37, 53 and 81 of the fault table."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import Coordinator, FloxideError, MemoryStore, Run, RunFailedError, StoreCorruptError, StoreVersionError
from floxide_mp import SQLiteStore as Store
from floxide_mp.core.records import Commit, one_by_one
from floxide_mp.ports import RunRecord
from floxide_mp.runtime import changes
from floxide_mp.stores import schema, sqlite
from floxide_mp.stores.memory import MemoryStore as Memory
from tests import flows_version1 as flows
from tests.filled import MARK, Reading, at, everything, facts, fill, wide
from tests.flows_run import Echo

HERE = changes.versions()


# -- of the schema ------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    flows.written_by(1, tmp_path / "runs.db")
    return tmp_path / "runs.db"


@pytest.fixture
def second(tmp_path: Path) -> Path:
    flows.written_by(2, tmp_path / "second.db")
    return tmp_path / "second.db"


def dump(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    found = [*map(str, connection.execute("PRAGMA user_version")), *connection.iterdump()]
    connection.close()
    return found


@pytest.mark.parametrize("workers", [0, 2])
def test_row_37_a_run_of_version_1_is_migrated_and_goes_on(path: Path, workers: int) -> None:
    with pytest.raises(StoreVersionError, match="has version 1 of the schema: opening it to go on with it brings it"):
        Store.open_reader(path)
    with Coordinator(workers, store=path) as coordinator:
        run = coordinator.run("totals")
        with pytest.raises(RunFailedError, match=r"failed at square \(item 3, attempt 1\): ValueError: -1 is negative"):
            run.wait(60)
        assert run.progress() == {}, "nobody counted"
        result = coordinator.resume(flows.Totals(square=flows.mended), "totals").wait(60)
        assert result.output == 9 + 1 + 16
        assert sorted(result.context.log) == [-1, 3, 4]
        assert run.progress() == {"square": 2, "total": 1}
    with Reading(path) as reader:
        reader.check()
        assert [dict(record.versions) for record in reader.runs()] == [{}, {}, HERE]
    assert dump(path)[0] == f"({schema.VERSION},)"


@pytest.mark.parametrize("workers", [0, 2])
def test_row_37_a_run_of_version_2_is_migrated_and_goes_on(second: Path, workers: int) -> None:
    with Coordinator(workers, store=second) as coordinator:
        mended = flows.Totals(square=flows.mended)
        result = coordinator.resume(mended, "totals", allow_changes=True).wait(60)
        numbers = [3, *range(50, 90), -1, 4, *range(20, 40)]
        assert result.output == sum(number * number for number in numbers)
        assert sorted(result.context.log) == sorted(numbers)
        assert coordinator.run("totals").progress() == {"spread": 1, "square": len(numbers), "total": 1}
    with Reading(second) as reader:
        reader.check()


def test_row_37_nothing_of_version_2_changes(second: Path) -> None:
    """Nor is it in the way of what comes then."""
    store, memory = Store(second), Memory()
    fill(memory)
    wide(memory)
    for _ in range(2):
        for name in ("run", "other run", "wide"):
            found, expected = facts(store, name), facts(memory, name)
            assert found.pop("runs")[:3] == expected.pop("runs")
            assert found == expected
        for since in (0, 1, 19, 20, 21, 95, 99, 100, 101):
            assert list(one_by_one(store.outputs("wide", since))) == list(one_by_one(memory.outputs("wide", since)))
        store.check()
        for one in (store, memory):
            done = Commit(finished=[22, 62, *range(100, 190)], outputs=list(one_by_one(memory.outputs("wide"))))
            if one.progress("wide").counts[0] == 201:
                one.commit("wide", done, at(202))
    store.close()


def test_row_37_nothing_else_of_it_changes(path: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    new = Store(tmp_path / "new" / "runs.db")
    store = Store(path)
    for name in ("run", "other run"):
        record, commit, progress = everything(name)
        commit.created = [one for one in commit.created if one.payload != MARK["blocks"]]  # there were none
        new.create(record._replace(versions={}), commit, progress)
        found, expected = facts(store, name), facts(new, name)
        assert (found.pop("finished"), expected.pop("finished")) == ({}, {"a": 1}), "nobody counted"
        runs = found.pop("runs"), expected.pop("runs")
        assert runs[0][: len(runs[1])] == runs[1]
        assert found == expected
    store.close()
    new.close()


@pytest.mark.parametrize("version", [1, 2])
def test_row_37_killed_in_the_middle_of_the_migration(version: int, request: pytest.FixtureRequest) -> None:
    """At each statement. Until the last it is what it was, to the byte; and then it is done."""
    path: Path = request.getfixturevalue("path" if version == 1 else "second")
    before, results = dump(path), []
    while not results or results[-1] != 0:
        child = os.fork()
        if not child:
            _migrate_and_die(path, len(results) + 1)
        _, status = os.waitpid(child, 0)
        results.append(status)
        if status:
            assert status == signal.SIGKILL
            after = dump(path)
            assert after == before or after[0] == f"({schema.VERSION},)"
    assert len(results) > 20 and len(set(results)) == 2
    with Reading(path) as reader:
        reader.check()


def _migrate_and_die(path: Path, left: int) -> None:
    connect = sqlite.connect

    def mortal(*arguments: Any) -> sqlite3.Connection:
        made = connect(*arguments)

        def count(statement: str) -> None:
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

        made.set_trace_callback(count)
        return made

    try:
        sqlite.connect = mortal
        Store(path)
        os._exit(0)
    finally:
        os._exit(1)


FIRST = [
    "UPDATE runs SET payload = (SELECT payload FROM runs WHERE run = 1) WHERE run = 3",
    "UPDATE runs SET places = '[]' WHERE run = 2",
]
BOTH = [
    "DELETE FROM runs WHERE run = 2",
    "UPDATE progress SET events = 0 WHERE run = 1",
    "UPDATE progress SET (phase, seal) = (SELECT phase, seal FROM progress WHERE run = 2) WHERE run = 1",
    "DELETE FROM progress WHERE run = 2",
    "UPDATE store SET runs = 2",
    "UPDATE events SET payload = x'00' WHERE run = 1 AND row = 1",
    "DELETE FROM outputs WHERE run = 1",
]
SECOND = [
    "UPDATE blocks SET payload = (SELECT payload FROM blocks WHERE block = 62) WHERE block = 2",
    "UPDATE arrivals SET count = 19 WHERE run = 3",
    "UPDATE marks SET value = value + 1 WHERE kind = 'done' AND a = 2",
    "DELETE FROM blocks WHERE block = 2",
    "DELETE FROM outputs WHERE run = 3 AND row = 101",
]


@pytest.mark.parametrize(
    ("version", "statement"),
    [*((1, statement) for statement in FIRST + BOTH), *((2, statement) for statement in BOTH + SECOND)],
)
def test_row_37_what_is_not_believed_is_not_sealed_anew(
    version: int, statement: str, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue("path" if version == 1 else "second")
    connection = sqlite3.connect(path)
    assert connection.execute(statement).rowcount
    connection.commit()
    connection.close()
    before = dump(path)
    with pytest.raises(StoreCorruptError, match=r"\.db"):
        Store(path)
    assert dump(path) == before


# -- of what pickles ----------------------------------------------------------------------------------------------


class Bomb:
    """Whoever unpickles it is told on."""

    opened = 0

    def __reduce__(self) -> Any:
        return _opened, ()


def _opened() -> None:
    Bomb.opened += 1


class Aged(Memory):
    """Remembers runs as made by others."""

    made: dict[str, str] = HERE

    def create(self, run: RunRecord, *arguments: Any) -> None:
        super().create(run._replace(versions=self.made), *arguments)


def left(made: dict[str, str], input: Any = 7) -> Aged:
    """A store with a run that was left, made by those versions."""
    store = Aged()
    store.made = made
    with Coordinator(0, store) as coordinator:
        coordinator.start(Echo, input, run_id="x")
    return store


OTHERS = {
    "python": ("3.10", "was made with Python 3.10, and this is Python {python}"),
    "cloudpickle": ("1.6.0", "was made with cloudpickle 1.6.0, and this is cloudpickle {cloudpickle}"),
    "floxide_mp": ("0.0.9", "was made with floxide_mp 0.0.9, and this is floxide_mp {floxide_mp}"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_row_53_other_versions_are_refused_by_name_and_nothing_is_opened(name: str) -> None:
    version, text = OTHERS[name]
    store = left({**HERE, name: version}, Bomb())
    opened = Bomb.opened
    verbs: list[Callable[[Coordinator], Run]] = [
        lambda c: c.resume(Echo, "x"),
        lambda c: c.start(Echo, "another input", run_id="x"),
        lambda c: c.start(Echo, Bomb(), run_id="x", resume=True),
    ]
    for verb in verbs:
        with Coordinator(0, store) as coordinator, pytest.raises(StoreVersionError) as caught:
            verb(coordinator)
        assert text.format(**HERE) in str(caught.value)
        assert "resume(workflow, 'x', allow_changes=True), or --allow-changes" in str(caught.value)
        facts = vars(caught.value)
        assert (facts["run_id"], facts["found"][name], facts["known"][name]) == ("x", version, HERE[name])
    assert Bomb.opened == opened
    with Coordinator(0, store) as coordinator:
        assert coordinator.resume(Echo, "x", allow_changes=True).wait(60).output is None
    assert Bomb.opened > opened


def test_row_53_all_that_differs_is_named() -> None:
    store = left({"python": "2.7", "cloudpickle": "0.1", "floxide_mp": "9.9.9", "what": "else"})
    text = rf"Python 2\.7, cloudpickle 0\.1 and floxide_mp 9\.9\.9, and this is Python {HERE['python']}, cloudpickle "
    with Coordinator(0, store) as coordinator, pytest.raises(StoreVersionError, match=text):
        coordinator.resume(Echo, "x")


@pytest.mark.parametrize("made", [{}, {"python": HERE["python"]}, {**HERE, "floxide_mp": "0.1.99"}])
def test_row_53_what_is_not_known_or_a_patch_is_no_difference(made: dict[str, str]) -> None:
    store = left(made)
    with Coordinator(0, store) as coordinator:
        assert coordinator.start(Echo, 7, run_id="x").wait(60).output == 7


@pytest.mark.parametrize("workers", [0, 2])
def test_row_53_versions_are_stored_and_those_of_who_went_on(tmp_path: Path, workers: int) -> None:
    with Coordinator(0, store=tmp_path / "runs.db") as coordinator:
        coordinator.start(Echo, 7, run_id="x")
    store = Store(tmp_path / "runs.db")
    (record,) = store.runs()
    assert record.versions == HERE
    store.replace(record._replace(versions={**HERE, "python": "3.10"}))
    store.close()
    for _ in range(2):
        with Coordinator(workers, store=tmp_path / "runs.db") as coordinator, pytest.raises(StoreVersionError):
            coordinator.resume(Echo, "x")
    with Coordinator(0, store=tmp_path / "runs.db") as coordinator:
        coordinator.resume(Echo, "x", allow_changes=True)  # and it is left again
    with Coordinator(workers, store=tmp_path / "runs.db") as coordinator:
        assert coordinator.resume(Echo, "x").wait(60).output == 7, "it is ours by now"


def test_row_63_another_workflow_is_said_before_other_versions() -> None:
    store = left({"python": "2.7"})
    with Coordinator(0, store) as coordinator:
        with pytest.raises(FloxideError, match="is a run of Echo, not of Totals"):
            coordinator.resume(flows.Totals, "x")
        with pytest.raises(FloxideError, match="is a run of Echo; choose another run_id"):
            coordinator.start(flows.Totals, [], run_id="x")


# -- of what is compared ------------------------------------------------------------------------------------------


def swapped(path: Path, statement: str) -> int:
    """Two runs, ``x`` and ``bomb``, and what was swapped between them; how many bombs have been opened so far."""
    with Coordinator(0, store=path) as coordinator:
        coordinator.start(Echo, 7, run_id="x")
        coordinator.start(Echo, Bomb(), run_id="bomb")
    opened = Bomb.opened
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()
    return opened


def test_row_81_a_swapped_input_is_not_unpickled_by_who_compares(tmp_path: Path) -> None:
    """A run id that is taken is compared by value where the pickles differ: of what was sealed."""
    other = "(SELECT payload FROM runs WHERE run_id = 'bomb')"
    opened = swapped(tmp_path / "runs.db", f"UPDATE runs SET payload = {other} WHERE run_id = 'x'")
    with pytest.raises(StoreCorruptError, match=r"row runs x Echo: it is not what was written"):
        Coordinator(0, store=tmp_path / "runs.db")
    assert Bomb.opened == opened


def test_row_81_a_swapped_item_is_not_unpickled_by_who_resumes(tmp_path: Path) -> None:
    """Here the steps run in the caller's process, so it would be the one to open it."""
    other = "(SELECT payload FROM items WHERE run = 2)"
    opened = swapped(tmp_path / "runs.db", f"UPDATE items SET payload = {other} WHERE run = 1")
    for verb in ("resume", "start"):
        refusal = pytest.raises(StoreCorruptError, match=r"run 'x': row items 1: it is not what was written")
        with Coordinator(0, store=tmp_path / "runs.db") as coordinator, refusal:
            coordinator.resume(Echo, "x") if verb == "resume" else coordinator.start(Echo, 7, run_id="x")
    assert Bomb.opened == opened


def test_row_63_equal_inputs_are_the_same_run() -> None:
    store: MemoryStore = left(HERE, {1: "a", 2: "b"})
    with Coordinator(0, store) as coordinator:
        with pytest.raises(FloxideError, match="was started with another input"):
            coordinator.start(Echo, {1: "a"}, run_id="x")
        assert coordinator.start(Echo, {2: "b", 1: "a"}, run_id="x").wait(60).output == {1: "a", 2: "b"}
