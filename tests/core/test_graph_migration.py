"""A run is carried over to another graph at each death of its coordinator.

Where the change touches nothing that is unfinished, the answer is that of the undisturbed run, order keys included.
Where it does, ``model``, which knows no places or components, says what is to happen in the new graph from there.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from hypothesis import event, given

from floxide_mp.core.graph import RUN_SCOPE, Graph, NodeSpec
from floxide_mp.core.graph_migration import carried
from floxide_mp.core.plan import Plan
from floxide_mp.core.records import Chunk, Commit, ItemRecord
from floxide_mp.core.restore import restored
from floxide_mp.errors import FloxideError, WorkflowDefinitionError

from .graphs import POLICIES, graphs
from .model import Alive, Chain, Model
from .simulation import RECORD, Result, Simulation
from .test_same_answer_as_sequential import many, pytestmark, same, seeds

__all__ = ["pytestmark"]


# -- other graphs -------------------------------------------------------------------------------------------------


@dataclass
class Sketch:
    """A graph by names, to be changed."""

    arms: dict[str, list[list[str]]]
    on_failure: dict[str, list[str] | None]
    join_of: dict[str, str | None]  # "" is the run
    specs: dict[str, NodeSpec]
    start: str

    @classmethod
    def of(cls, graph: Graph) -> Sketch:
        names = [n.name for n in graph.nodes]

        def join_of(of: int | None) -> str | None:
            return None if of is None else "" if of == RUN_SCOPE else names[of]

        return cls(
            {n.name: [[names[to] for to in arm] for arm in n.arms] for n in graph.nodes},
            {n.name: None if n.on_failure is None else [names[to] for to in n.on_failure] for n in graph.nodes},
            {n.name: join_of(n.join_of) for n in graph.nodes},
            {n.name: n for n in graph.nodes},
            names[graph.start],
        )

    def graph(self, chance: random.Random) -> Graph | None:
        """What there is, declared in any order; None if that is no sound graph."""
        reached, todo = {self.start}, [self.start]
        while todo:
            at = todo.pop()
            for to in [to for arm in self.arms[at] for to in arm] + (self.on_failure[at] or []):
                if to not in reached:
                    reached.add(to)
                    todo.append(to)
        names = sorted(reached)
        chance.shuffle(names)
        number = {name: n for n, name in enumerate(names)} | {"": RUN_SCOPE}
        if any(self.join_of[name] not in {*number, None} for name in names):
            return None
        graph = Graph("drawn", tuple(self._spec(name, number) for name in names), number[self.start])
        try:
            Plan(graph)
        except WorkflowDefinitionError:
            return None
        return graph

    def _spec(self, name: str, number: dict[str, int]) -> NodeSpec:
        of, failure = self.join_of[name], self.on_failure[name]
        return replace(
            self.specs[name],
            arms=tuple(tuple(number[to] for to in arm) for arm in self.arms[name]),
            on_failure=None if failure is None else tuple(number[to] for to in failure),
            join_of=None if of is None else number[of],
        )

    def add(self, name: str, spec: NodeSpec, join_of: str | None = None) -> None:
        self.arms[name], self.on_failure[name], self.join_of[name] = [[]], None, join_of
        self.specs[name] = replace(spec, name=name)

    def add_sinks(self, chance: random.Random) -> None:
        """Nodes behind arms that nothing comes out of, and which lead nowhere."""
        for number in range(chance.randrange(4)):
            name = f"sink{number}"
            self.add(name, NodeSpec(name, serial=chance.random() < 0.2))
            self.arms[chance.choice([n for n in self.arms if n != name])].append([name])

    def change(self, chance: random.Random) -> None:
        """Anything."""
        names = sorted(self.arms)
        at, other = chance.choice(names), chance.choice(names)
        arms = self.arms[at]
        way = chance.randrange(7)
        if way == 0:
            new = f"new{len(names)}"
            self.add(new, NodeSpec(new, retry=chance.choice((None, *POLICIES))), chance.choice((None, None, "", other)))
            chance.choice(arms).append(new)
            if chance.random() < 0.5:
                self.arms[new][0].append(chance.choice(names))
        elif way == 1 and at != self.start:
            for each in self.arms.values():
                for arm in each:
                    arm[:] = [to for to in arm if to != at]
            for failure in self.on_failure.values():
                if failure:
                    failure[:] = [to for to in failure if to != at]
        elif way == 2:
            chance.choice(arms).append(other)
        elif way == 3:
            arm = chance.choice(arms)
            if arm:
                arm.pop(chance.randrange(len(arm)))
        elif way == 4:
            self.on_failure[at] = None if self.on_failure[at] else [other] * chance.randrange(2)
        elif way == 5:
            arms.append([other])
        elif self.join_of[at] is not None:
            self.join_of[at] = chance.choice((None, "", other))


# -- runs that are carried over -----------------------------------------------------------------------------------


@dataclass
class Carried(Simulation):
    """``others`` are the graphs that the run may be in."""

    others: tuple[Graph, ...] = ()
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    carryings: int = 0
    refused: int = 0
    fired: set[tuple[int, str]] = field(default_factory=set)

    def restart(self) -> None:
        graph = self.chance.choice(self.others)
        plan, before, store = Plan(graph), self.state, self._reopen()
        try:
            snapshot = carried(before.plan, plan, store.snapshot("run"))
        except FloxideError:
            self.refused += 1
            super().restart()
            return
        self.carryings += 1
        self.running.clear()
        self.store = store
        store.replace(RECORD, snapshot)
        kept = store.progress("run")
        args = kept.phase, kept.metrics, kept.counts, kept.failure, None, self.finishing
        self.state = restored(plan, store.snapshot("run"), *args)
        self.fired = still_there(self.fired, self.graph, graph)
        self.graph, self.model = graph, switched(self.model, graph, self.fired)
        new = self.state.counts[0] - before.counts[0]  # of joins that nothing is awaited for here
        total = before.metrics.total_work_items + new
        assert self.state.metrics == replace(before.metrics, total_work_items=total)
        self._see()

    def _look(self, commit: Commit) -> None:
        names = {place.number: place.spec.name for place in self.state.plan.places}
        self.fired |= {(scope, names[place]) for scope, place in commit.joined}
        super()._look(commit)

    def result(self) -> Result:
        names = {self.state.plan.graph.nodes[node].name for node in self.state.held}
        return replace(super().result(), held=names)  # type: ignore[arg-type]


class Bound(Carried):
    """Nodes behave as those of their name in the first graph: nothing takes an arm that is new."""

    def __post_init__(self) -> None:
        self.known = {spec.name: spec for spec in self.graph.nodes}
        super().__post_init__()

    def _spec(self, item: ItemRecord | Chunk) -> NodeSpec:
        return self.known[super()._spec(item).name]


def still_there(fired: set[tuple[int, str]], old: Graph, new: Graph) -> set[tuple[int, str]]:
    """A join that is not there, or is of something else, is forgotten; should it come back, it is a new one."""
    before, after = Sketch.of(old).join_of, Sketch.of(new).join_of
    return {(scope, join) for scope, join in fired if join in after and after[join] == before[join]}


def switched(was: Model, graph: Graph, fired: set[tuple[int, str]]) -> Model:
    """The model goes on in another graph: what is alive stays, and open scopes wait for the joins that are there."""
    made = Model(graph, was.ordered)
    made.known = was.known
    made.kept = was.kept
    old = [spec.name for spec in was.graph.nodes]
    number = {spec.name: n for n, spec in enumerate(graph.nodes)}

    def moved(chain: Chain) -> Chain:
        return tuple(number[old[node]] for node in chain)

    for item, alive in was.alive.items():
        made.alive[item] = Alive(number[old[alive.node]], alive.payload, alive.stack, moved(alive.chain))
    for item, inside in was.giving.items():
        made.giving[item] = Alive(made.alive[item].node, inside.payload, inside.stack, moved(inside.chain))
    there = *was.alive.values(), *was.giving.values()
    for scope in {0, *(scope for alive in there for scope in alive.stack)}:
        stack, chain = was.scopes[scope]
        chain = moved(chain)
        made.scopes[scope] = stack, chain
        of = chain[-1] if scope else RUN_SCOPE
        opener = chain[-1] if scope else graph.start
        for join in made.joins:
            name = graph.nodes[join].name
            if graph.nodes[join].join_of != of or (scope, name) in fired:
                continue
            waits = was.waiting.get((scope, old.index(name))) if name in old else None
            if waits is not None or made.reaches(opener, chain, len(chain), join, bool(scope)):
                made.waiting[scope, join] = waits or []
    made._settle()
    return made


@given(graphs(), seeds, seeds)
@many
def test_a_change_that_touches_nothing_unfinished_gives_the_same_answer(graph: Graph, seed: int, chance: int) -> None:
    """The graph declared in another order, with nodes more or less that nothing comes to."""
    schedule = random.Random(chance)
    others = []
    for _ in range(4):
        sketch = Sketch.of(graph)
        sketch.add_sinks(schedule)
        other = sketch.graph(schedule)
        assert other is not None
        others.append(other)
    run = Bound(graph, seed, others=tuple(others), chance=schedule)
    run.interleaved(schedule, restarts=True)
    if run.state.failure is not None:
        run.restart()
        run.resume_healed()
        run.interleaved(schedule, restarts=True)
    assert not run.refused
    event(f"carried over: {min(run.carryings, 3)}")
    expected = Bound(graph, seed, heal=run.heal, ordered=True)
    expected.sequential()
    same(run.result(), expected.result())


@given(graphs(), seeds, seeds)
@many
def test_any_change_goes_on_as_the_new_graph_says_or_is_refused(graph: Graph, seed: int, chance: int) -> None:
    schedule = random.Random(chance)
    others = [graph]
    for _ in range(60):
        sketch = Sketch.of(schedule.choice(others))
        for _ in range(schedule.randrange(1, 4)):
            sketch.change(schedule)
        other = sketch.graph(schedule)
        if other is not None and len(others) < 6:
            others.append(other)
    run = Carried(graph, seed, others=tuple(others), chance=schedule)
    run.interleaved(schedule, restarts=True)
    if run.state.failure is not None:
        run.restart()
        run.resume_healed()
        run.interleaved(schedule, restarts=True)
    event(f"carried over: {min(run.carryings, 5)}")
    event(f"refused: {min(run.refused, 5)}")
    event(run.state.phase.value)
