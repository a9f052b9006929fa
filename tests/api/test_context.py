"""Contexts: which fields there may be, what a step sees of them, and what comes of its writes."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_mp import (
    Context,
    Coordinator,
    EventLog,
    Fixed,
    Item,
    LoggedEvent,
    Merge,
    Node,
    RetryPolicy,
    RunFailedError,
    SharedState,
    Workflow,
    WorkflowDefinitionError,
    node,
)
from floxide_mp.api import context as contexts

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]


class Total(Merge):
    """A sum that remembers how it came about."""

    def __init__(self, *parts: int) -> None:
        self.parts = list(parts)

    def merge(self, other: Total) -> None:
        self.parts += other.parts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Total) and self.parts == other.parts

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Total{tuple(self.parts)}"

    def __bool__(self) -> bool:
        return sum(self.parts) > 0

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, at: int) -> int:
        return self.parts[at]

    def __contains__(self, part: object) -> bool:
        return part in self.parts


@dataclass
class Ctx(Context):
    log: EventLog[Any]
    total: Total
    state: SharedState[Any] = field(default_factory=lambda: SharedState(["at first"]))
    fixed: Fixed[int] = field(default_factory=lambda: Fixed(7))


def run(*steps: Callable[..., Any], ctx: Context | None = None, kind: type[Context] = Ctx, **options: Any) -> Any:
    """The steps one after the other."""
    names = [f"s{i}" for i in range(len(steps))]
    nodes: dict[str, Node] = {name: node(step) for name, step in zip(names, steps, strict=True)}
    edges = {one: [after] for one, after in itertools.pairwise(names)}
    return Workflow.build("Steps", nodes, "s0", edges, context=kind)().run(0, ctx, **options)


# -- which fields -------------------------------------------------------------------------------------------------


def test_what_a_default_context_is_made_of() -> None:
    assert contexts.make_default(Ctx) == Ctx(EventLog(), Total(), SharedState(["at first"]), Fixed(7))
    assert type(contexts.make_default(Context)) is Context


@dataclass
class Plain(Context):
    count: int = 0


@dataclass
class Given(Context):
    limit: Fixed[int]


@dataclass
class Vague(Context):
    log: Any


@dataclass
class Nobody(Context):
    log: EventLog[Unknown]


class NotDecorated(Context):
    log: EventLog[str]


class Assigned(Context):
    log: EventLog[str] = EventLog()


class Made(Context):
    def __init__(self) -> None:
        self.log: EventLog[str] = EventLog()


class Demanding(Context):
    def __init__(self, what: str) -> None:
        self.what = what


class Longer(Ctx):
    more: EventLog[str]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Plain, r"Plain\.count: a context's fields are EventLog, Fixed, SharedState or Merge types"),
        (Given, r"Given\.limit has no default: give the field one, or pass ctx=Given\(\.\.\.\)"),
        (Vague, r"Vague\.log has no default"),
        (Nobody, r"Nobody\.log has no default"),
        (NotDecorated, r"NotDecorated\.log: .*is the @dataclass decorator missing\?"),
        (Assigned, r"^Assigned\.log: .*is the @dataclass decorator missing\?"),
        (Made, r"Made\.log: .*is the @dataclass decorator missing\?"),
        (Longer, r"Longer\.more: .*is the @dataclass decorator missing\?"),
        (Demanding, r"Demanding cannot be made without arguments: .*'what'"),
    ],
)
def test_contexts_that_would_lose_writes_or_cannot_be_made(kind: type[Context], text: str) -> None:
    with pytest.raises(WorkflowDefinitionError, match=text):
        contexts.make_default(kind)


@dataclass
class Fine(Context):
    limits: ClassVar[dict[str, int]] = {"a": 1}
    log: EventLog[Unknown] = field(default_factory=EventLog)

    def double(self) -> None:
        self.log.append(2)


def test_class_variables_methods_and_unknown_names_are_fine_where_nothing_hangs_on_them() -> None:
    assert list(run(lambda ctx, v: ctx.double(), kind=Fine).context.log) == [2]


@pytest.mark.parametrize("wrong", [3, {}, Ctx, "ctx"], ids=repr)
def test_what_is_no_context(wrong: Any) -> None:
    with pytest.raises(WorkflowDefinitionError, match="a context derives from Context"):
        run(lambda v: v, ctx=wrong)


# -- outside of a step --------------------------------------------------------------------------------------------


def test_free_fields_are_plain_values() -> None:
    ctx = contexts.make_default(Ctx)
    ctx.log.append("a")
    ctx.state.set("b")
    ctx.total.merge(Total(1))
    assert (list(ctx.log), ctx.state.get(), ctx.total, ctx.fixed.get()) == (["a"], "b", Total(1), 7)
    assert pickle.loads(pickle.dumps(ctx)) == ctx
    assert copy.deepcopy(ctx) == ctx
    assert ctx.cancelled is False
    with pytest.raises(RuntimeError, match="only while a step runs"):
        ctx.item  # noqa: B018


def test_the_callers_context_is_not_touched() -> None:
    ctx = Ctx(EventLog(["before"]), Total(1))

    def step(ctx: Ctx, value: Any) -> None:
        ctx.log.append("in")
        ctx.total.merge(Total(2))
        ctx.state.set("new")

    after = run(step, ctx=ctx).context
    assert (list(ctx.log), ctx.total, ctx.state.get()) == (["before"], Total(1), ["at first"])
    assert (list(after.log), after.total, after.state.get()) == (["before", "in"], Total(1, 2), "new")


# -- in a step ----------------------------------------------------------------------------------------------------


def test_a_step_sees_what_was_before_and_what_it_wrote() -> None:
    def first(ctx: Ctx, value: Any) -> Any:
        assert not ctx.total
        ctx.log.append("1")
        ctx.total.merge(Total(1))
        ctx.state.set("one")
        return list(ctx.log), ctx.total.parts, ctx.state.get()

    def second(ctx: Ctx, value: Any) -> Any:
        ctx.log.append("2")
        ctx.total.merge(Total(2))
        return value, list(ctx.log), ctx.total.parts, ctx.state.get(), len(ctx.log)

    assert run(first, second).output == ((["1"], [1], "one"), ["1", "2"], [1, 2], "one", 2)


def test_a_failed_attempt_writes_nothing() -> None:
    def step(ctx: Ctx, value: Any) -> None:
        ctx.log.append(ctx.item.attempt)
        ctx.total.merge(Total(ctx.item.attempt))
        if ctx.item.attempt < 3:
            raise ValueError

    made = Workflow.build("W", {"s": node(retry=RetryPolicy(3, 0.0))(step)}, "s", context=Ctx)
    result = made().run()
    assert (list(result.context.log), result.context.total) == ([3], Total(3))


def test_what_a_step_does_to_an_object_after_writing_it_is_not_written() -> None:
    def step(ctx: Ctx, value: Any) -> None:
        mine = [1]
        ctx.log.append(mine)
        ctx.state.set(mine)
        mine.append(2)
        ctx.state.get().append(3)
        for event in ctx.log:
            event.append(4)

    def look(ctx: Ctx, value: Any) -> Any:
        return list(ctx.log), ctx.state.get()

    assert run(step, look).output == ([[1]], [1])


def test_looking_at_a_merge_in_a_step() -> None:
    def step(ctx: Ctx, value: Any) -> Any:
        empty = bool(ctx.total)
        ctx.total.merge(Total(4))
        ctx.total.merge(Total(5))
        total = ctx.total
        looks = (len(total), list(total), total[1], 4 in total, 6 in total, total == Total(4, 5), f"{total}")
        return empty, bool(total), *looks

    assert run(step).output == (False, True, 2, [4, 5], 5, True, False, True, "Total(4, 5)")


def test_a_merge_without_a_length_is_true() -> None:
    assert run(lambda ctx, v: bool(ctx.most), kind=Bare).output is True


class Most(Merge):
    def __init__(self, most: int = 0) -> None:
        self.most = most

    def merge(self, other: Most) -> None:
        self.most = max(self.most, other.most)


@dataclass
class Bare(Context):
    most: Most


def test_a_merge_that_is_passed_on_is_its_value_as_of_then() -> None:
    def step(ctx: Ctx, value: Any) -> Any:
        ctx.total.merge(Total(1))
        ctx.total.merge(ctx.total)
        return ctx.total

    result = run(step)
    assert result.output == Total(1, 1)
    assert result.context.total == Total(1, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda ctx, v: setattr(ctx, "total", Total(5)),
        lambda ctx, v: setattr(ctx, "log", EventLog()),
        lambda ctx, v: setattr(ctx, "note", "for later"),
        lambda ctx, v: setattr(ctx.total, "parts", [1]),
    ],
    ids=["a merge", "a log", "something new", "inside a merge"],
)
def test_what_would_be_seen_by_some_steps_only_is_refused(wrong: Any) -> None:
    with pytest.raises(RunFailedError) as caught:
        run(wrong)
    assert isinstance(caught.value.__cause__, AttributeError)


# -- order --------------------------------------------------------------------------------------------------------


@given(st.permutations(range(12)))
def test_folding_is_by_field_in_the_order_given(numbers: list[int]) -> None:
    ctx = contexts.make_default(Ctx)
    pairs = [(n % 3, LoggedEvent(Total(n) if n % 3 == 1 else n, "x", (n, ()))) for n in numbers]
    contexts.fold(ctx, pairs)
    assert list(ctx.log) == [n for n in numbers if n % 3 == 0]
    assert ctx.total.parts == [n for n in numbers if n % 3 == 1]
    assert ctx.state.get() == [n for n in numbers if n % 3 == 2][-1]


def test_folding_leaves_the_events_alone() -> None:
    event = LoggedEvent(Total(1))
    ctx = contexts.make_default(Bare2)
    contexts.fold(ctx, [(0, event), (0, LoggedEvent(Total(2)))])
    assert ctx.keep.kept[0].parts == [1, 2]
    assert event.event.parts == [1]


class Keep(Merge):
    """Keeps the first that is merged, itself, and merges the others into that."""

    def __init__(self) -> None:
        self.kept: list[Total] = []

    def merge(self, other: Any) -> None:
        if self.kept:
            self.kept[0].merge(other)
        else:
            self.kept.append(other)


@dataclass
class Bare2(Context):
    keep: Keep


def test_entries_say_where_they_come_from() -> None:
    def step(ctx: Ctx, value: Any) -> None:
        ctx.log.append(value)
        ctx.state.set(1)
        ctx.log.append("again")

    (first, again) = run(step).context.log.iter()
    assert first == LoggedEvent(0, "s0", (0, ()), 0)
    assert again == LoggedEvent("again", "s0", (0, ()), 2)


def test_apply_all() -> None:
    log = EventLog([1, 2, 3])
    state = [0]
    assert log.apply_all(state, lambda event, s: s.append(event)) is state
    assert state == [0, 1, 2, 3]
    assert log.apply_all_default(list, lambda event, s: s.append(event)) == [1, 2, 3]
    assert log.apply_all_default(list, lambda event, s: s.append(event)) == [1, 2, 3], "a fresh one each time"


# -- the item -----------------------------------------------------------------------------------------------------


def test_row_138_an_items_seed_is_its_own_and_stays() -> None:
    def made(**changes: Any) -> int:
        facts = {"run_id": "r", "node": "n", "item_id": 1, "attempt": 1, "error": None}
        return Item(**{**facts, "order": (2, (1,)), "run_seed": 5, **changes}).seed

    # A number written down here: another version, machine or hash seed must give the same.
    assert made() == 11915846289848154390
    assert made(run_id="other", item_id=9, attempt=3, node="m", error=ValueError()) == made()
    seeds = {made(order=(d, (b,)), run_seed=s) for d in range(10) for b in range(10) for s in range(10)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**64 for seed in seeds)


def seeds_of(seed: int) -> list[int]:
    made = Workflow.build("W", {"s": node(lambda ctx, v: ctx.item.seed)}, "s")
    with Coordinator(0) as coordinator:
        outputs: list[int] = coordinator.start(made, None, seed=seed).wait().outputs
        return outputs


def test_the_seed_of_a_run_is_what_items_seeds_derive_from() -> None:
    assert seeds_of(1) == seeds_of(1)
    assert seeds_of(1) != seeds_of(2)


def test_an_on_failure_node_is_told_the_error() -> None:
    def fails(value: Any) -> None:
        raise ValueError("the reason")

    def mends(ctx: Context, value: Any) -> Any:
        error = ctx.item.error
        return type(error).__name__, str(error), value, ctx.item.node

    made = Workflow.build("W", {"a": node(fails), "b": node(mends)}, "a", {}, {"a": ["b"]})
    assert made().run(3).output == ("ValueError", "the reason", 3, "b")
