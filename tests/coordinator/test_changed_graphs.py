"""``resume(..., allow_changes=True)``: a run goes on in another graph; in which ones it may is tested in ``core``."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import Coordinator, FloxideError, Join, RunFailedError, StoreError, Workflow
from floxide_mp.core.graph import RUN_SCOPE, Graph, NodeSpec
from floxide_mp.core.graph_migration import carried
from floxide_mp.core.plan import Plan
from floxide_mp.core.records import ItemRow, ScopeRecord, Snapshot
from floxide_mp.core.types import ErrorRecord
from floxide_mp.stores.memory import MemoryStore
from floxide_mp.stores.sqlite.store import SQLiteStore
from floxide_mp.types import WorkItemStatus
from tests import flows_batches as batches
from tests import flows_features as features
from tests.conftest import LIMIT
from tests.filled import Reading

both_engines = pytest.mark.parametrize("workers", [0, 2])


def chain(*names: str, **edges: Any) -> type[Workflow]:
    """Steps one behind the other, under the name of ``features.Chain``; or with edges of their own."""
    nodes: dict[str, Any] = {name: features.Step(name) for name in names}
    nodes |= {name: node for name, node in edges.items() if not isinstance(node, list)}
    ways = {one: [other] for one, other in pairwise(names)}
    ways |= {name: to for name, to in edges.items() if isinstance(to, list)}
    return Workflow.build("Chain", nodes, names[0], ways, context=features.Log)


def left_at_second(folder: Path, store: Any) -> None:
    """first - second - last, in which the second step fails."""
    (folder / "second").write_text("fails")
    with Coordinator(0, store) as coordinator, pytest.raises(RunFailedError, match="second fails"):
        coordinator.start(features.Chain, str(folder), run_id="x").wait(LIMIT)
    (folder / "second").unlink()


def test_row_54_in_one_call(tmp_path: Path) -> None:
    store = MemoryStore()
    left_at_second(tmp_path, store)
    changed = chain("first", "second", "third")()
    with pytest.raises(FloxideError, match=r"began in another graph of that name"):
        changed.resume(store=store, run_id="x")
    assert changed.resume(store=store, run_id="x", allow_changes=True).metrics.completed == 3


@both_engines
def test_row_54_a_run_goes_on_in_another_graph_if_that_is_allowed(workers: int, tmp_path: Path) -> None:
    """A step more before, one more behind, and the last one gone; and a second death in the new graph."""
    db = tmp_path / "runs.db"
    left_at_second(tmp_path, str(db))
    changed = chain("zeroth", "first", "second", "third", all=Join(len), third=["all"])
    with Coordinator(workers, store=db) as coordinator:
        with pytest.raises(FloxideError, match=r"began in another graph of that name: .*second.*allow_changes=True"):
            coordinator.resume(changed, "x")
        (tmp_path / "third").write_text("fails")
        with pytest.raises(RunFailedError, match="third fails"):
            coordinator.resume(changed, "x", allow_changes=True).wait(LIMIT)
    (tmp_path / "third").unlink()
    with Reading(db) as reader:
        reader.check()
        (record,) = reader.runs()
        assert record.places == ("zeroth", "first", "second", "third", "all")
        assert dict(reader.finished("x")) == {"first": 1, "second": 1}
    with Coordinator(workers, store=db) as coordinator:
        with pytest.raises(FloxideError, match="began in another graph of that name"):
            coordinator.resume(features.Chain, "x")
        result = coordinator.resume(changed, "x").wait(LIMIT)
        assert result.output == 1
        assert list(result.context.log) == ["first", "second", "third"]
    assert (tmp_path / "ran").read_text().split() == ["first", "second", "second", "third", "third"]


class Full(SQLiteStore):
    """Has no space for the next commit, if ``full``."""

    full = False

    def commit(self, *given: Any) -> None:
        if self.full:
            self.full = False
            raise StoreError("no space left")
        super().commit(*given)


@both_engines
def test_row_54_a_disk_that_is_full_once_the_new_graph_is_written(workers: int, tmp_path: Path) -> None:
    store = Full(tmp_path / "runs.db")
    with Coordinator(workers, store) as coordinator:
        (tmp_path / "second").write_text("fails")
        with pytest.raises(RunFailedError, match="second fails"):
            coordinator.start(features.Chain, str(tmp_path), run_id="x").wait(LIMIT)
        (tmp_path / "second").unlink()
        changed = chain("zeroth", "first", "second", "last")
        store.full = True
        with pytest.raises(StoreError, match="no space left"):
            coordinator.resume(changed, "x", allow_changes=True)
        with pytest.raises(FloxideError, match="began in another graph"):
            coordinator.resume(features.Chain, "x")
        coordinator.resume(changed, "x", allow_changes=True).wait(LIMIT)
        assert coordinator.run("x").progress() == {"first": 1, "second": 1, "last": 1}
    assert (tmp_path / "ran").read_text().split() == ["first", "second", "second", "last"]
    store.close()


@pytest.mark.parametrize("kind", [MemoryStore, SQLiteStore])
def test_row_54_what_has_no_place_is_named_and_nothing_changes(kind: Callable[..., Any], tmp_path: Path) -> None:
    store = kind(tmp_path / "runs.db") if kind is SQLiteStore else kind()
    left_at_second(tmp_path, store)
    before = store.snapshot("x"), list(store.runs())
    for other, what in (
        (chain("first", "other", "last"), "there is an unfinished item at second, which is gone"),
        (chain("first", first=["second"], second=Join()), "at second, which is another kind of node now"),
    ):
        with Coordinator(0, store) as coordinator:
            refusal = pytest.raises(FloxideError, match=rf"run 'x' cannot go on in this graph: .*{what}")
            with refusal as caught:
                coordinator.resume(other, "x", allow_changes=True)
            assert len(vars(caught.value)["problems"]) == 1
            assert (store.snapshot("x"), list(store.runs())) == before
    with Coordinator(0, store) as coordinator:
        assert coordinator.resume(features.Chain, "x").wait(LIMIT).output == str(tmp_path)
    store.close()


def test_row_54_a_run_that_is_paused_here_keeps_its_graph(tmp_path: Path) -> None:
    with Coordinator(0) as coordinator:
        run = coordinator.start(features.Chain, str(tmp_path), run_id="x")
        run.pause()
        with pytest.raises(FloxideError, match="in its own graph while the coordinator that paused it is there"):
            coordinator.resume(chain("first", "second"), "x", allow_changes=True)
        assert coordinator.resume(features.Chain, "x").wait(LIMIT).output == str(tmp_path)


@both_engines
def test_nodes_declared_in_another_order_are_the_same_graph(workers: int, tmp_path: Path) -> None:
    """They have other numbers: what was held by one is not held by another. No change has to be allowed."""
    names = ["first", "second", "last"]
    ways = {"first": ["second"], "second": ["last"]}
    store = SQLiteStore(tmp_path / "runs.db")
    left_at_second(tmp_path, store)
    nodes = {name: features.Step(name) for name in reversed(names)}
    other = Workflow.build("Chain", nodes, "first", ways, context=features.Log)
    with Coordinator(workers, store) as coordinator:
        assert coordinator.resume(other, "x").wait(LIMIT).output == str(tmp_path)
    (record,) = store.runs()
    assert list(record.shape) == ["last", "second", "first"]
    assert store.snapshot("x").nodes_emitted == {0, 1, 2}
    store.close()


# -- what only some graphs have -----------------------------------------------------------------------------------


def test_the_shape_of_a_graph_is_all_of_it_that_a_plan_needs() -> None:
    for workflow in (batches.Nested, batches.Spoilt, features.Chain, features.Summed, features.Rescued):
        graph = workflow().compiled.graph
        again = Graph.of_shape(graph.name, graph.shape())
        assert again.shape() == graph.shape()
        one, other = Plan(graph), Plan(again)
        assert [(p.node, p.scope_path, p.arms, p.on_failure) for p in one.places] == [
            (p.node, p.scope_path, p.arms, p.on_failure) for p in other.places
        ]
    for shape in ({"a": "b"}, {"a": "([['b']], None, (None, False, True))"}, {"a": "(1,)"}, {"a": "("}):
        with pytest.raises(ValueError, match="no shape of a graph"):
            Graph.of_shape("g", shape)


EMPTY = Snapshot(**{name: {} if name in ("depths", "held", "failed_batches") else [] for name in Snapshot._fields})


def test_a_batch_keeps_the_numbers_of_its_items() -> None:
    """Though what is unfinished gets new order keys, since a join was added."""
    each = {"batch": batches.BatchNode(batches.length, 2), "join": Join()}
    one = Workflow.build("One", {"batch": each["batch"]}, "batch", {})
    other = Workflow.build("One", {**each, "last": features.Anything()}, "batch", {"batch": ["join"], "join": ["last"]})
    old, new = one().compiled.plan, other().compiled.plan
    place = next(p.number for p in old.places if p.spec.window)
    items = [ItemRow(n, place, (1, (n,)), b"", 1, None, 1, WorkItemStatus.PENDING, 0.0) for n in range(3)]
    was = EMPTY._replace(items=items, scopes=[ScopeRecord(1, 0, 0, (0, ()), b"batch")], depths={(0, 1): 1, (1, 0): 1})
    now = carried(old, new, was)
    fresh = now.scopes[0].order[1][0]
    assert [row.order for row in now.items] == [(1, (fresh, n)) for n in range(3)]
    assert min(depth for (scope, _), depth in now.depths.items() if not scope) == 1


def test_a_batch_that_has_failed_needs_its_on_failure() -> None:
    nodes = {"batch": batches.BatchNode(batches.length, 2), "last": features.Anything()}
    one = Workflow.build("One", nodes, "batch", {"batch": ["last"]}, {"batch": ["last"]})
    other = Workflow.build("One", nodes, "batch", {"batch": ["last"]})
    spoilt = {1: (0, ErrorRecord("Boom", "boom", "", None))}
    was = EMPTY._replace(scopes=[ScopeRecord(1, 0, 0, (0, ()), b"batch")], failed_batches=spoilt)
    plans = one().compiled.plan, other().compiled.plan
    assert carried(plans[0], plans[0], was).failed_batches == spoilt
    with pytest.raises(FloxideError, match=r"a batch of batch/in has failed, and its on_failure is gone"):
        carried(*plans, was)


def test_held_items_need_the_node_that_holds_them() -> None:
    was, old = EMPTY._replace(held={1: [7]}, nodes_emitted={0, 2}), features.Chain().compiled.plan
    assert carried(old, chain("zeroth", "first", "second")().compiled.plan, was).held == {2: [7]}
    with pytest.raises(FloxideError, match="items are held by second, which is gone"):
        carried(old, chain("first", "last")().compiled.plan, was)


def test_a_join_that_is_new_in_an_open_fan_out_may_not_lead_to_one_that_has_run() -> None:
    """Nothing else leads to it: of the fan-out, only b is unfinished."""
    names = "start", "split", "a", "b", "collect", "x", "all", "new"

    def plan(**more: list[str]) -> Plan:
        ways = {"start": ["split", "x"], "split": ["a", "b"], "b": ["collect"], "x": ["all"]} | more
        number = {name: n for n, name in enumerate(name for name in names if name != "new" or more)}
        joins = {"collect": number["split"], "new": number["split"], "all": RUN_SCOPE}
        nodes = (
            NodeSpec(name, (tuple(number[to] for to in ways.get(name, ())),), join_of=joins.get(name))
            for name in number
        )
        return Plan(Graph("g", tuple(nodes), 0))

    old = plan()
    at = {place.spec.name: place.number for place in old.places}
    unfinished = ItemRow(5, at["b"], (2, (0, 1)), b"", 2, None, 1, WorkItemStatus.PENDING, 0.0)
    scope = ScopeRecord(2, 0, at["split"], (1, (0,)), None)
    was = EMPTY._replace(items=[unfinished], scopes=[scope], joined=[(0, at["all"])], depths={(0, 1): 3})
    fine = plan(a=["new"])
    assert [(scope, fine.places[at].spec.name) for scope, at in carried(old, fine, was).joined] == [(0, "all")]
    with pytest.raises(FloxideError, match="the join all has run, and what is unfinished leads to it now"):
        carried(old, plan(a=["new"], new=["all"]), was)
