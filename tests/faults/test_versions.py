"""Runs that were made by other versions of what pickles: rows 53, 63 and 81 of the fault table."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import Coordinator, FloxideError, MemoryStore, Run, StoreCorruptError, StoreVersionError
from floxide_mp import SQLiteStore as Store
from floxide_mp.coordinator import compatibility
from floxide_mp.ports import RunRecord
from floxide_mp.stores.memory import MemoryStore as Memory
from tests.flows_run import Counted, Echo

HERE = compatibility.versions()


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
    record = store.record("x")
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
        with pytest.raises(FloxideError, match="is a run of Echo, not of Counted"):
            coordinator.resume(Counted, "x")
        with pytest.raises(FloxideError, match="is a run of Echo; choose another run_id"):
            coordinator.start(Counted, [], run_id="x")


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
        with pytest.raises(FloxideError, match="began with another input"):
            coordinator.start(Echo, {1: "a"}, run_id="x")
        assert coordinator.start(Echo, {2: "b", 1: "a"}, run_id="x").wait(60).output == {1: "a", 2: "b"}
