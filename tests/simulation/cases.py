"""Cases: a random graph, how its nodes behave, and what the undisturbed run of it comes to."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

from floxide_mp import Context, EventLog
from floxide_mp.core.graph import Graph, NodeSpec
from floxide_mp.core.plan import Plan
from floxide_mp.core.records import Commit, ItemRecord
from floxide_mp.core.transitions import STATUS
from floxide_mp.core.types import OrderKey, Payload
from floxide_mp.errors import WorkflowDefinitionError
from floxide_mp.wire import codec
from tests.core.acts import Act, behaviour
from tests.core.graphs import drawn
from tests.core.model import Model, flat
from tests.core.simulation import Simulation
from tests.history import Undisturbed, fold

FEWEST, MOST = 4, 50  # steps of a run that is worth it
TRACE = 2  # the field in which each step says that it has happened


@dataclass
class Ctx(Context):
    """What ``behaviour`` writes into, and the trace."""

    one: EventLog[bytes] = field(default_factory=EventLog)
    two: EventLog[bytes] = field(default_factory=EventLog)
    trace: EventLog[str] = field(default_factory=EventLog)


FIELDS = "one", "two", "trace"
CONTEXT = codec.encode(Ctx(), "ctx")


class Case(NamedTuple):
    """See the module."""

    plan: Plan
    seed: int  # of the behaviour
    undisturbed: Undisturbed

    def act(self, spec: NodeSpec, payload: Payload, order: OrderKey) -> Act:
        return _act(self.plan.graph, self.seed, spec, payload, order)


@lru_cache(maxsize=64)
def case(number: int) -> Case:
    """The case with that number."""
    chance = random.Random(f"case {number}")
    while True:
        graph = drawn(chance.randint, 8)
        if chance.random() < 0.3:
            graph = _with_batch(graph, chance)
        graph = _with_timeouts(graph, chance)
        seed = chance.randrange(1 << 32)
        alone = Alone(graph, seed, heal=True)
        if alone.complete() and FEWEST <= len(alone.processed) <= MOST:
            return Case(Plan(graph), seed, alone.undisturbed())


class _NoModel(Model):
    """Of batches the plain model knows nothing."""

    def _nothing(self, *_: object) -> None: ...

    start = succeed = portion = hold = fail = compare = _nothing  # type: ignore[assignment]


class Alone(Simulation):
    """The core alone, one item at a time: not checked here, but in ``tests/core``."""

    def _made_model(self) -> Model:
        return _NoModel(self.graph, False)

    def _act(self, spec: NodeSpec, item: ItemRecord) -> Act:
        return _act(self.graph, self.seed, spec, item.payload, item.order)

    def complete(self) -> bool:
        """Run to the end; whether it comes to one soon."""
        while (item := self.pull(0) or self.claim(0)) is not None:
            self.finish(item)
            while self.state.next_due is not None:
                self.later()
            if len(self.processed) > MOST:
                return False
        return True

    def undisturbed(self) -> Undisturbed:
        failed = {order for order, (name, payload) in self.processed.items() if self._fails(name, payload, order)}
        events: list[tuple[OrderKey, int, str, Any]] = []
        count = dict.fromkeys(self.processed, 0)
        for event in self.events:
            events.append((event.order, event.index, FIELDS[event.field], event.payload))
            count[event.order] += 1
        for order, (name, _) in self.processed.items():
            if order not in failed:
                events.append((order, count[order], FIELDS[TRACE], name))
        return Undisturbed(
            STATUS[self.state.phase].value,
            [output.payload for output in sorted(self.outputs, key=lambda o: (o.order, o.index))],
            fold(events),
            {order: name for order, (name, _) in self.processed.items()},
            failed,
        )

    def _look(self, commit: Commit) -> None:
        self.outputs += commit.outputs
        self.events += commit.events

    def _fails(self, name: str, payload: Payload, order: OrderKey) -> bool:
        spec = next(spec for spec in self.graph.nodes if spec.name == name)
        return behaviour(self.seed, spec, payload, order).hopeless and spec.on_failure is not None


def _act(graph: Graph, seed: int, spec: NodeSpec, payload: Payload, order: OrderKey) -> Act:
    """Where it fails, it has given nothing: some take all at once, and with others it would be left to chance."""
    act = behaviour(seed, spec, payload, order)
    batch = any(graph.nodes[to].window for arm in spec.arms for to in arm)
    return act._replace(breaks=0, cuts=() if batch else act.cuts)


def plain(payload: Payload) -> Payload:
    """A payload as ``behaviour`` knows it: what is in the pickles."""
    if isinstance(payload, bytes):
        found: bytes = codec.decode(payload)
        return found
    return tuple((name, plain(part)) for name, part in flat(payload))


def _with_timeouts(graph: Graph, chance: random.Random) -> Graph:
    nodes = [replace(spec, timeout=5.0) if chance.random() < 0.15 else spec for spec in graph.nodes]
    return replace(graph, nodes=tuple(nodes))


def _with_batch(graph: Graph, chance: random.Random) -> Graph:
    """The graph with one of its nodes made a batch, if it can bear it: a node that fans out, one that runs what is in
    the batch, so many at a time, and a join."""
    owners = graph.owners()
    fit = [number for number, spec in enumerate(graph.nodes) if spec.join_of is None and number not in owners]
    for number in chance.sample(fit, len(fit)):
        spec, count = graph.nodes[number], len(graph.nodes)
        nodes = [*graph.nodes, *_inside(spec, number, count, chance.randint(1, 3))]
        nodes[number] = replace(spec, arms=((count,),))
        made = Graph(graph.name, tuple(nodes), graph.start)
        try:
            Plan(made)
        except WorkflowDefinitionError:
            continue
        return made
    return graph


def _inside(spec: NodeSpec, opener: int, count: int, size: int) -> Sequence[NodeSpec]:
    each = NodeSpec(f"{spec.name}/each", ((count + 1,),), spec.on_failure, retry=spec.retry, window=size)
    return each, NodeSpec(f"{spec.name}/join", spec.arms, join_of=opener)
