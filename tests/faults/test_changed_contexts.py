"""A run is left, and the next release of its module has another context class: its fields are found by their names."""

from __future__ import annotations

import importlib
import json
import pickle
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from floxide_mp import (
    Context,
    Coordinator,
    EventLog,
    Fixed,
    FloxideError,
    RunFailedError,
    SharedState,
    WorkflowDefinitionError,
)
from floxide_mp.api import context as contexts
from tests.scripts import run_python

LIMIT = 40.0
both_engines = pytest.mark.parametrize("workers", [0, 2])

MODULE = """
    from dataclasses import dataclass, field
    from floxide_mp import Context, EventLog, Fixed, Merge, SharedState, Workflow, node

    class Sum(Merge):
        def __init__(self, n=0): self.n = n
        def merge(self, other): self.n += other.n

    @dataclass(kw_only=True)
    class Ctx(Context):
        {fields}

    @node
    def begin(ctx: Ctx, x):
        {begin}
        return x

    @node
    def work(ctx: Ctx, x):
        {work}

    class Orders(Workflow):
        begin, work, context = begin, work, Ctx
        start, edges = begin, {{begin: [work]}}
"""
LOG = "paid: EventLog[str] = field(default_factory=EventLog)"
SUM = "total: Sum"
STATE = "note: SharedState[str] = field(default_factory=lambda: SharedState('none'))"
FIXED = "rate: Fixed[int] = field(default_factory=lambda: Fixed(1))"
UNUSED = "unused: EventLog[int]"
FIRST = [FIXED, LOG, SUM, STATE, UNUSED]
BEGIN = "ctx.paid.append('order 1'); ctx.total.merge(Sum(5)); ctx.note.set('begun')"
FAILS = "raise RuntimeError('stopped here')"
SEEN = "return list(ctx.paid), ctx.total.n, ctx.note.get(), ctx.rate.get()"

Release = Callable[..., Any]


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    """Write the module as it is in a release, and import it."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def made(fields: list[str], work: str, begin: str = BEGIN) -> Any:
        text = MODULE.format(fields="\n        ".join(fields), begin=begin, work=work)
        (tmp_path / "orders_91.py").write_text(textwrap.dedent(text))
        sys.modules.pop("orders_91", None)
        importlib.invalidate_caches()
        module: ModuleType = importlib.import_module("orders_91")
        return module.Orders

    monkeypatch.setitem(sys.modules, "orders_91", ModuleType("orders_91"))
    return made


def left(store: Path, orders: Any, workers: int = 0, ctx: Any = None) -> None:
    with Coordinator(workers, store=store) as c, pytest.raises(RunFailedError, match="stopped here"):
        c.start(orders, 1, ctx, run_id="r").wait(LIMIT)


@both_engines
@pytest.mark.parametrize("verb", ["resume", "start"])
def test_row_91_fields_in_another_order_and_new_ones(workers: int, verb: str, release: Release, tmp_path: Path) -> None:
    store = tmp_path / "runs.db"
    left(store, release(FIRST, FAILS), workers)
    work = "ctx.more.append(7); ctx.total.merge(Sum(2)); ctx.note.set(ctx.note.get() + ', done'); "
    work += "return list(ctx.paid), list(ctx.more), ctx.total.n, ctx.note.get(), ctx.rate.get(), ctx.limit.get()"
    more = ["more: EventLog[int] = field(default_factory=EventLog)", "limit: Fixed[int]"]
    with pytest.raises(WorkflowDefinitionError, match=r"Ctx\.limit has no default"), Coordinator(0, store=store) as c:
        c.resume(release([STATE, *more, SUM, LOG, FIXED], work), "r")
    more[1] += " = field(default_factory=lambda: Fixed(3))"
    orders = release([STATE, *more, SUM, LOG, FIXED], work)
    with Coordinator(workers, store=store) as c:
        run = c.resume(orders, "r") if verb == "resume" else c.start(orders, 1, run_id="r", resume=True)
        assert run.wait(LIMIT).output == (["order 1"], [7], 7, "begun, done", 1, 3)
        context = run.context()
        assert (list(context.paid), list(context.more), context.total.n) == (["order 1"], [7], 7)
        assert (context.note.get(), context.rate.get(), context.limit.get()) == ("begun, done", 1, 3)
    with Coordinator(0, store=store) as c:  # and in a third one, which reads what two releases have written
        again = release([LOG, *more, STATE, SUM], work)
        assert c.start(again, 1, run_id="r").context().note.get() == "begun, done"


@both_engines
def test_row_91_what_the_next_release_writes_is_read_by_the_one_after(
    workers: int, release: Release, tmp_path: Path
) -> None:
    store = tmp_path / "runs.db"
    left(store, release([LOG], FAILS, "ctx.paid.append('one')"))
    more = "more: EventLog[str]"
    second = "ctx.more.append('two')"
    with Coordinator(workers, store=store) as c, pytest.raises(RunFailedError):
        c.resume(release([more, LOG], second + "; " + FAILS), "r").wait(LIMIT)
    # What a step that failed has written does not count, so the next one writes it again.
    with Coordinator(workers, store=store) as c:
        done = c.resume(release([more, STATE, LOG], second + "; return list(ctx.paid), list(ctx.more)"), "r")
        assert done.wait(LIMIT).output == (["one"], ["two"])


GONE = r"run 'r' cannot go on with this Ctx: the field paid \(EventLog\) is gone, and steps have written to it"
KIND = r"run 'r' .* the field note is of kind EventLog now, and steps have written to it as SharedState"


@pytest.mark.parametrize(
    ("fields", "message"),
    [([FIXED, SUM, STATE], GONE), ([LOG, SUM, FIXED, "note: EventLog[str]"], KIND)],
    ids=["gone", "another kind"],
)
def test_row_91_a_field_that_is_gone_or_is_another_kind_and_has_events_is_refused_by_name(
    fields: list[str], message: str, release: Release, tmp_path: Path
) -> None:
    store = tmp_path / "runs.db"
    left(store, release(FIRST, FAILS))
    orders = release(fields, "return 1")
    with Coordinator(0, store=store) as c:
        for go_on in (lambda: c.resume(orders, "r"), lambda: c.start(orders, 1, run_id="r", resume=True)):
            with pytest.raises(FloxideError, match=message):
                go_on()
        with pytest.raises(FloxideError, match="steps have written to it"):
            c.run("r").context()
    done = run_python(["-m", "floxide_mp", "context", "r", "--store", str(store)], None, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "steps have written to it" in done.stderr and "Traceback" not in done.stderr
    with Coordinator(0, store=store) as c:
        assert c.resume(release(FIRST, SEEN), "r").wait(LIMIT).output == (["order 1"], 5, "begun", 1)


def test_row_91_a_field_without_events_may_go_and_may_become_another_kind(release: Release, tmp_path: Path) -> None:
    store = tmp_path / "runs.db"
    left(store, release(FIRST, FAILS))
    unused = "unused: SharedState[int] = field(default_factory=lambda: SharedState(9))"
    with Coordinator(0, store=store) as c:
        run = c.resume(release([unused, STATE, SUM, LOG], "return ctx.unused.get(), list(ctx.paid)"), "r")
        assert run.wait(LIMIT).output == (9, ["order 1"])
    done = run_python(["-m", "floxide_mp", "context", "r", "--store", str(store)], None, tmp_path)
    shown = json.loads(done.stdout)
    assert (shown["unused"], shown["paid"], shown["note"]) == (9, ["order 1"], "begun")


def test_row_91_the_command_line_reads_an_older_run_by_names(release: Release, tmp_path: Path) -> None:
    left(tmp_path / "runs.db", release(FIRST, FAILS))
    release(["more: EventLog[int]", STATE, SUM, LOG], FAILS)
    done = run_python(["-m", "floxide_mp", "context", "r", "--store", "runs.db"], None, tmp_path)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert (shown["more"], shown["note"], shown["total"], shown["paid"]) == ([], "begun", {"n": 5}, ["order 1"])


def test_row_91_a_context_of_a_derived_class(release: Release, tmp_path: Path) -> None:
    """The workflow's own class does not have all of its fields."""
    store = tmp_path / "runs.db"
    orders = release([LOG], FAILS, "ctx.paid.append('one')")
    extra = ("extra", SharedState, field(default_factory=lambda: SharedState(4)))
    derived = make_dataclass("Derived", [extra], bases=(orders.context,))
    derived.__module__ = "orders_91"
    sys.modules["orders_91"].Derived = derived  # type: ignore[attr-defined]
    left(store, orders, ctx=derived())
    with Coordinator(0, store=store) as c:
        assert c.resume(orders, "r").run_id == "r"
        assert list(c.run("r").context().paid) == ["one"]
        assert c.run("r").context().extra.get() == 4


@dataclass(frozen=True, slots=True)
class Slotted(Context):
    first: Fixed[int]
    second: EventLog[int]


def test_row_91_slots_are_pickled_by_name_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pickled = pickle.dumps(Slotted(Fixed(1), EventLog([2])))

    @dataclass(frozen=True, slots=True)
    class Later(Context):
        second: EventLog[int]
        third: EventLog[int]
        first: Fixed[int]

    fields = contexts.fields_of(Slotted)
    monkeypatch.setattr(sys.modules[__name__], "Slotted", Later)
    made = contexts.complete(pickle.loads(pickled), fields)
    assert (made.first, list(made.second), list(made.third)) == (Fixed(1), [2], [])


@dataclass
class Plain(Context):
    first: Fixed[int]
    second: EventLog[int]


@dataclass(frozen=True, slots=True)
class FrozenPlain(Context):
    second: EventLog[int]
    first: Fixed[int]
    third: EventLog[int] = field(default_factory=EventLog)


@pytest.mark.parametrize(("was", "now"), [("Plain", FrozenPlain), ("FrozenPlain", Plain), ("Slotted", Plain)])
def test_row_91_a_class_gets_slots_or_loses_them(was: str, now: type, monkeypatch: pytest.MonkeyPatch) -> None:
    before = globals()[was](first=Fixed(1), second=EventLog([2]))
    pickled = pickle.dumps(before)
    monkeypatch.setattr(sys.modules[__name__], was, now)
    made = contexts.complete(pickle.loads(pickled), contexts.fields_of(type(before)))
    assert type(made) is now
    assert (made.first, list(made.second)) == (Fixed(1), [2])


def test_row_91_a_field_that_is_a_property_now_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    pickled = pickle.dumps(Plain(Fixed(1), EventLog()))

    @dataclass
    class Later(Context):
        second: EventLog[int]

        @property
        def first(self) -> Fixed[int]:
            return Fixed(2)

    monkeypatch.setattr(sys.modules[__name__], "Plain", Later)
    text = r"Later.first was a field when the run began, and is no field now but another attribute \(property\): name"
    with pytest.raises(FloxideError, match=text):
        pickle.loads(pickled)


@dataclass
class OwnPickle(Context):
    first: Fixed[int]

    def __getstate__(self) -> Any:
        return {"first": Fixed(7)}


def test_row_91_a_class_that_says_how_it_is_pickled_is_asked() -> None:
    assert pickle.loads(pickle.dumps(OwnPickle(Fixed(1)))).first == Fixed(7)


def test_row_91_a_worker_whose_class_is_newer_than_the_run_says_so() -> None:
    made = Slotted(Fixed(1), EventLog())
    with pytest.raises(FloxideError, match=r"Slotted has fields here .*: second; resume the run"):
        contexts.bind(made, None, (("first", "Fixed"),))  # type: ignore[arg-type]
