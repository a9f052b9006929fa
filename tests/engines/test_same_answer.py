"""DESIGN promise 1 on real processes: random graphs, real ``kill -9`` in the middle of steps, and the answer is that
of the one-process run. ``tests/core`` does the same on the pure core, many more times.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, reject, settings
from hypothesis import strategies as st

from floxide_mp import (
    Coordinator,
    Fixed,
    Join,
    Node,
    RetryPolicy,
    RunFailedError,
    RunStatus,
    Workflow,
    WorkflowDefinitionError,
)
from floxide_mp.core.graph import RUN_SCOPE, Graph
from tests.core.graphs import graphs
from tests.flows_random import Arm, Ctx, Hash, Hashed, Reduce, Trouble, composite

EXAMPLES = int(os.environ.get("FLOXIDE_EXAMPLES_REAL", "30"))
MOST = 300  # items
PATIENCE = 60.0  # seconds until a test that waits for a worker is given up
FLAKY = RetryPolicy(max_attempts=5, initial_backoff=0.001)


def workflow(graph: Graph, seed: int, composites: bool = False) -> type[Workflow]:
    """The core's graph as a user would write it; some of its nodes may be composites with a batch inside."""
    nodes: dict[str, Node] = {}
    for number, spec in enumerate(graph.nodes):
        hash = Hash(seed, len(spec.arms), spec.on_failure is not None, spec.retry is not None, 3 if composites else 1)
        options = {"serial": spec.serial, "retry": FLAKY if spec.retry else None}
        if composites and spec.join_of is None and (number + seed) % 3 == 0:
            nodes[spec.name] = composite(hash, 1 + seed % 4, **options)
        elif spec.join_of is None:
            nodes[spec.name] = Hashed(hash, **options)
        else:
            of = None if spec.join_of == RUN_SCOPE else graph.nodes[spec.join_of].name
            nodes[spec.name] = Join(Reduce(hash), of, **options)
    names = list(nodes)
    edges: dict[str, Any] = {}
    for spec in graph.nodes:
        arms = [[names[to] for to in dict.fromkeys(arm)] for arm in spec.arms]  # each successor once
        edges[spec.name] = arms[0] if len(arms) == 1 else {Arm(i): arm for i, arm in enumerate(arms)}
    failing = [(spec.name, dict.fromkeys(spec.on_failure)) for spec in graph.nodes if spec.on_failure is not None]
    failures = {name: [names[to] for to in after] for name, after in failing}
    try:
        return Workflow.build("Random", nodes, names[graph.start], edges, failures, Ctx)
    except WorkflowDefinitionError as error:
        # The first is the one thing that the core does not mind. A composite that is a join's ``of`` fails inside of
        # its own scope, from where the graph's edges may not lead where they lead from a node.
        known = ["a cycle with no way out", "from inside its own scope", "waits for itself", "without passing"]
        if all(any(what in problem for what in known[: 4 if composites else 1]) for problem in error.problems):
            reject()
        raise


def outcome(run: Any) -> tuple[Any, ...]:
    """All that must not depend on who did the work."""
    try:
        result = run.wait(PATIENCE)
        outputs = result.outputs
    except RunFailedError as error:
        if "items are held" not in str(error):  # there is no other way to fail in these graphs
            raise
        outputs = None
    context, metrics = run.context(), run.metrics()
    return run.status, outputs, list(context.log.iter()), context.sum, metrics.total_work_items, metrics.completed


def small(run: Any) -> bool:
    """Whether the run comes to its end before it is too large to be tried again and again; else it is given up."""
    while run.metrics().total_work_items <= MOST:
        try:
            run.wait(0.01)
        except TimeoutError:
            continue
        except RunFailedError:
            pass
        return run.metrics().total_work_items <= MOST
    run.cancel()
    return False


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # the other one of a pair that is killed may be between two lives


def hunt(coordinator: Coordinator, run: Any, bells: Path, count: int, both: bool) -> None:
    """Kill each worker that waits for it; ``both``: and the innocent one with it, victim or not."""
    seen: set[str] = set()
    end = time.monotonic() + PATIENCE
    while len(seen) < count and run.status is RunStatus.RUNNING:
        assert time.monotonic() < end, "a victim is not claimed"
        for bell in set(os.listdir(bells)) - seen:
            seen.add(bell)
            busy = {w.pid: w.current_work_item for w in coordinator.workers()}
            assert both or busy.get(int(bell)) is not None, "it is in the middle of a step, and that is known"
            for pid in busy if both else [int(bell)]:
                kill(pid)
        time.sleep(0.001)


@pytest.mark.timeout(300)
def test_random_graphs_on_workers_that_are_killed_give_the_answer_of_one_process(tmp_path: Path) -> None:
    seen: Counter[str] = Counter()
    with Coordinator(0) as inline, Coordinator(2) as coordinator:

        @given(graphs(), st.integers(0, 2**32), st.integers(0, 2**32))
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize="FLOXIDE_EXAMPLES_REAL" not in os.environ,  # the sample is judged below
            phases=[Phase.generate],  # each example is a run on real processes: too slow to be shrunk
            suppress_health_check=list(HealthCheck),
        )
        def check(graph: Graph, seed: int, chance: int) -> None:
            made = workflow(graph, seed)
            expected_run = inline.start(made, "input", Ctx(Fixed(Trouble())), seed=seed)
            assume(small(expected_run))
            expected = outcome(expected_run)
            orders = sorted({event.order for event in expected[2]})
            assume(len(orders) >= 2)

            schedule = random.Random(chance)
            victims = frozenset(schedule.sample(orders, 2))
            bells = tmp_path / str(seen["runs"])
            bells.mkdir()
            ctx = Ctx(Fixed(Trouble(victims, str(bells))))
            run = coordinator.start(made, "input", ctx, seed=seed)
            both = schedule.random() < 0.3
            hunt(coordinator, run, bells, len(victims), both)
            got = outcome(run)
            assert got == expected
            died = {e.item_id for e in run.errors() if e.type_name == "WorkerDiedError" and e.attempt == 1}
            assert len(died) >= len(victims)
            seen["runs"] += 1
            seen["items"] += got[4]
            seen["joins"] += any(spec.join_of is not None for spec in graph.nodes)
            seen["failures"] += bool(run.metrics().failed)

        check()
    # The sample must be one that could have gone wrong.
    assert seen["runs"] >= EXAMPLES / 2
    assert seen["joins"] > seen["runs"] / 4
    assert seen["failures"]
    assert seen["items"] > 5 * seen["runs"]
