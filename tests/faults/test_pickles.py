"""FAULTS 46 to 56: nodes, inputs, results, events and exceptions that do not travel.

Each runs inline and on processes, for the two must say the same, and always with innocent siblings.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from floxide_mp import (
    Coordinator,
    Fixed,
    Join,
    Next,
    Node,
    RemoteError,
    RunFailedError,
    RunStatus,
    SerializationError,
    WorkerDiedError,
    Workflow,
    node,
    when,
)
from tests import flows_pickles as flows
from tests.scripts import printed

LIMIT = 50.0


@pytest.fixture(scope="module", params=[0, 2], ids=["inline", "processes"])
def coordinator(request: pytest.FixtureRequest) -> Iterator[Coordinator]:
    """One for all tests that end no worker: that it is still good for the next one is part of what is shown."""
    with Coordinator(request.param) as made:
        yield made


def a_lock_in(name: str) -> Any:
    """Nodes with something in them that cannot be pickled, and the path to it."""
    lock = threading.Lock()

    class Holder(Node):
        def __init__(self, part: Any) -> None:
            self.part = part

        def process(self, value: Any) -> Any:
            return value

    @node
    def closure(value: Any) -> Any:
        return lock, value

    parts = {
        "nested": flows.Box({"deeper": [1, flows.Box(lock)]}),
        "slots": flows.Slots(1, lock),
        "frozen": flows.FrozenPoint(1, lock),
        "picky": flows.Picky(lock),
        "generator": (n for n in range(3)),
        "bound method": flows.Box(lock).__eq__,
        "lambda": lambda: lock,
    }
    return closure if name == "closure" else Join(lambda _: lock) if name == "join" else Holder(parts[name])


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("nested", "node 'odd'.part.inner['deeper'][1].inner is a lock"),
        ("slots", "node 'odd'.part.second is a lock"),
        ("frozen", "node 'odd'.part.y is a lock"),
        ("picky", "node 'odd'.part.kept is a lock"),
        ("generator", "node 'odd'.part is a generator"),
        ("bound method", "node 'odd'.part.__self__.inner is a lock"),
        ("lambda", "node 'odd'.part, its variable lock is a lock"),
        ("closure", "node 'odd'.function, its variable lock is a lock"),
        ("join", "node 'odd'.function, its variable lock is a lock"),
    ],
)
def test_row_46_a_node_that_cannot_be_pickled(coordinator: Coordinator, name: str, path: str) -> None:
    odd = a_lock_in(name)
    nodes = {"first": flows.echo, "odd": odd}
    workflow = Workflow.build("Odd", nodes, start="first", edges={"first": ["odd"]})
    before = len(coordinator.runs())
    with pytest.raises(SerializationError) as caught:
        coordinator.start(workflow, [])
    assert path in str(caught.value)
    assert len(coordinator.runs()) == before


def test_row_46_edges_that_cannot_be_pickled(coordinator: Coordinator) -> None:
    lock = threading.Lock()
    guarded = {when(int, lambda value: bool(lock)): ["to"], object: []}
    taking = {when(int, take=lambda value: lock): ["to"], object: []}
    predicate = {(lambda value: bool(lock)): ["to"]}
    for edges in (guarded, taking, predicate):
        nodes = {"at": flows.echo, "to": flows.take}
        workflow = Workflow.build("Odd", nodes, start="at", edges={"at": edges})
        before = len(coordinator.runs())
        with pytest.raises(SerializationError, match=r"edges of 'at'.*its variable lock is a lock"):
            coordinator.start(workflow, 1)
        assert len(coordinator.runs()) == before


@pytest.mark.parametrize("workers", [0, 1])
def test_row_46_classes_of_a_script_that_cannot_be_pickled(tmp_path: Path, workers: int) -> None:
    """The usual way to get there: a script with a lock in a class, or in a global that a node uses."""
    script = """
        import threading
        from floxide_mp import Coordinator, Node, SerializationError, Workflow, node
        LOCK = threading.Lock()
        class Field(Node):
            lock = threading.Lock()
            def process(self, value): return value
        class Method(Node):
            def process(self, value):
                with LOCK: return value
        @node
        def function(value):
            with LOCK: return value
        with Coordinator({workers}) as c:
            for odd in (Field(), Method(), function):
                try:
                    c.start(Workflow.build("Odd", {{"odd": odd}}, start="odd"), 1)
                except SerializationError as error:
                    print(error)
            print(c.runs())
    """
    field, method, function, runs = printed(script.format(workers=workers), tmp_path).splitlines()
    assert "node 'odd', its class Field.lock is a lock" in field
    assert "node 'odd', its class Method.process, its global LOCK is a lock" in method
    assert "node 'odd'.function, its global LOCK is a lock" in function
    assert runs == "[]"


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [1, threading.Lock()]}, "input['a'][1] is a lock"),
        (flows.Pair(1, flows.Slots(threading.Lock())), "input.right.first is a lock"),
        ([flows.Unruly(ValueError("never"))], "input[0] is a Unruly: never"),
        ([flows.Unruly(SystemExit(0))], "input[0] is a Unruly"),
        ([flows.Unruly(asyncio.CancelledError())], "input[0] is a Unruly"),
        ({flows.Rude(): flows.Rude()}, "Rude"),
    ],
)
def test_row_47_an_input_that_cannot_be_pickled(coordinator: Coordinator, value: Any, path: str) -> None:
    before = len(coordinator.runs())
    with pytest.raises(SerializationError) as caught:
        coordinator.start(flows.Echo, value)
    assert path in str(caught.value)
    assert str(caught.value).startswith("input cannot be pickled")
    assert len(coordinator.runs()) == before
    assert coordinator.start(flows.Echo, 1).wait(LIMIT).output == 1


def test_row_47_a_context_that_cannot_be_pickled(coordinator: Coordinator) -> None:
    ctx = flows.Scheduler(flows.EventLog(), flows.SharedState([]), Fixed(flows.Box(threading.Lock())))  # type: ignore[arg-type]
    before = len(coordinator.runs())
    with pytest.raises(SerializationError, match=r"ctx cannot be pickled: ctx\.fixed\.value\.inner is a lock"):
        coordinator.start(flows.Spoiled, [1], ctx=ctx)
    assert len(coordinator.runs()) == before


def test_row_47_an_interrupt_while_the_input_is_pickled_is_the_callers(coordinator: Coordinator) -> None:
    """Ctrl-C during a long pickle must not look like a bad value."""
    before = len(coordinator.runs())
    with pytest.raises(KeyboardInterrupt):
        coordinator.start(flows.Echo, flows.Unruly(KeyboardInterrupt()))
    assert len(coordinator.runs()) == before


BAD_VALUES = {
    "result_lock": "the result of work.inner['here'][1] is a lock",
    "result_generator": "the result of work[0] is a generator",
    "result_slots": "the result of work.second is a lock",
    "result_deep": "the result of work cannot be pickled: it is nested too deeply (list)",
    "result_exits": "the result of work is a Unruly",
    "result_is_cancelled": "the result of work.inner is a Unruly",
    "result_rude": "the result of work",
    "result_file": "the result of work[0] is a TextIOWrapper",
    "event_lock": "event cannot be pickled: event.inner is a lock",
    "event_deep": "event cannot be pickled: it is nested too deeply (list)",
    "split_lock": "the result of work is a lock",
}


def test_row_48_results_and_events_that_cannot_be_pickled(coordinator: Coordinator) -> None:
    names = [part for name in BAD_VALUES for part in ("fine", name)]
    run = coordinator.start(flows.Tricks, names)
    result = run.wait(LIMIT)
    assert result.outputs.count("fine") == len(BAD_VALUES)
    assert list(result.context.log) == ["fine"] * len(BAD_VALUES)
    rescued = {name: (kind, text) for name, kind, text in (o for o in result.outputs if o != "fine")}
    assert rescued.keys() == BAD_VALUES.keys()
    for name, path in BAD_VALUES.items():
        kind, text = rescued[name]
        assert kind == "SerializationError"
        assert path in text
    assert result.metrics.failed == len(BAD_VALUES)
    assert len(run.errors()) == len(BAD_VALUES)


@pytest.mark.parametrize("name", ["result_lock", "event_lock"])
def test_row_48_without_on_failure_the_run_fails_and_says_why(coordinator: Coordinator, name: str) -> None:
    run = coordinator.start(flows.Strict, [name])
    with pytest.raises(RunFailedError, match=r"work .*SerializationError") as caught:
        run.wait(LIMIT)
    cause = caught.value.__cause__
    assert isinstance(cause, SerializationError)
    assert cause.path == {"result_lock": "the result of work.inner['here'][1]", "event_lock": "event.inner"}[name]
    assert list(run.context().log) == []
    assert run.status is RunStatus.FAILED


def test_row_48_an_interrupt_while_a_result_is_pickled() -> None:
    """The value's doing is its step's failure; inline it may be Ctrl-C, and is the caller's."""
    for workers in (2, 0):
        with Coordinator(workers) as coordinator:
            result = coordinator.start(flows.Tricks, ["fine", "result_interrupts", "fine"]).wait(LIMIT)
            rescued = [output for output in result.outputs if output != "fine"]
            assert len(result.outputs) == 3
            assert [(name, kind) for name, kind, _ in rescued] == [("result_interrupts", "KeyboardInterrupt")]
    with Coordinator(0) as coordinator:
        run = coordinator.start(flows.Strict, ["result_is_interrupted"])
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                run.wait(LIMIT)
        assert run.status is RunStatus.RUNNING


BAD_ERRORS = {  # what on_failure gets as ctx.item.error, and a part of text and notes
    "error_with_lock": ("RemoteError", "WithLock: the text"),
    "error_one_way": ("RemoteError", "OneWay: the text (5)"),
    "error_local": ("RemoteError", "Local: the text"),
    "error_mute": ("Mute", "in error_mute"),
    "error_quitter": ("Quitter", "in error_quitter"),
    "error_group": ("RemoteError", "the text (2 sub-exceptions)"),
    "error_base_group": ("BaseExceptionGroup", "the text (2 sub-exceptions)"),
    "error_cause": ("ValueError", "behind it"),
    "error_deep": ("RemoteError", "in error_deep"),
    "error_frozen": ("RemoteError", "FrozenError: 5"),
    "error_turncoat": ("RemoteError", "Turncoat: the text"),
    "error_dropout": ("RemoteError", "Dropout: the text"),
    "error_exit": ("SystemExit", "the text"),
    "error_cancelled": ("CancelledError", "the text"),
}


def test_row_49_exceptions_that_do_not_travel(coordinator: Coordinator) -> None:
    names = [part for name in BAD_ERRORS for part in ("fine", name)]
    run = coordinator.start(flows.Tricks, names)
    result = run.wait(LIMIT)
    assert result.outputs.count("fine") == len(BAD_ERRORS)
    rescued = {name: (kind, text) for name, kind, text in (o for o in result.outputs if o != "fine")}
    assert rescued.keys() == BAD_ERRORS.keys()
    for name, (kind, part) in BAD_ERRORS.items():
        assert rescued[name][0] == kind, name
        assert part in rescued[name][1], name
        assert f"in {name}" in rescued[name][1], f"{name}: the worker's traceback is lost"
    for row in run.errors():
        assert row.traceback, row


@pytest.mark.parametrize("name", BAD_ERRORS)
def test_row_49_a_run_that_fails_by_one_says_so(coordinator: Coordinator, name: str) -> None:
    run = coordinator.start(flows.Strict, [name])
    with pytest.raises(RunFailedError) as caught:
        run.wait(LIMIT)
    assert type(caught.value.__cause__).__name__ == BAD_ERRORS[name][0]
    assert any(f"in {name}" in note for note in caught.value.__cause__.__notes__)  # type: ignore[union-attr]
    if isinstance(caught.value.__cause__, RemoteError):
        assert caught.value.__cause__.type_name == run.errors()[0].type_name
    assert run.info().error is not None


# What a look at such an error runs is its class's own code.
RAISING = """
from floxide_mp import RunFailedError, Workflow, node

class Attributes(Exception):
    def __getattribute__(self, name):
        raise RuntimeError(name)

class Text(AttributeError):
    def __str__(self):
        raise RuntimeError("no text")

class Name(NameError):
    name = property(lambda self: 1 / 0)

class Exits(TypeError):
    def __str__(self):
        raise SystemExit(3)

class Arguments(KeyError):
    args = property(lambda self: 1 / 0)

class Notes(ImportError):
    def add_note(self, note):
        raise RuntimeError("no notes")

KINDS = [Attributes, Text, Name, Exits, Arguments, Notes]

@node
def fails(number: int) -> int:
    raise KINDS[number]()

class Fails(Workflow):
    fails = fails
    start = fails

for workers in (0, 1):
    for number in range(len(KINDS)):
        try:
            Fails().run(number, workers=workers)
        except RunFailedError as error:
            print(str(error).partition("attempt 1): ")[2].partition(";")[0])
"""


@pytest.mark.parametrize("stdin", [False, True])
def test_row_49_errors_whose_own_code_raises(stdin: bool, tmp_path: Path) -> None:
    """They are their items' failures, with a guard or without; one such ended the worker that described it."""
    assert printed(RAISING, tmp_path, stdin).splitlines() == 2 * [
        "Attributes: Attributes",
        "Text: <RuntimeError in __str__>",
        "Name: Name",
        "Exits: <SystemExit in __str__>",
        "Arguments: Arguments",
        "Notes: Notes",
    ]


def test_row_50_a_result_that_kills_whoever_unpickles_it(coordinator: Coordinator) -> None:
    """The coordinator lives in this very process: had it opened the result, pytest would have ended."""
    run = coordinator.start(flows.Bombs, ["a", "bomb", "b", "bomb"])
    result = run.wait(LIMIT)
    assert result.metrics.completed == 5
    assert len(result._outputs) == 4
    assert run.info().status is RunStatus.COMPLETED
    assert run.errors() == run.work_items() == []
    repr(result)
    repr(run)


def test_row_50_what_raises_when_it_is_opened_fails_its_own_item_only(coordinator: Coordinator) -> None:
    run = coordinator.start(flows.Onward, ["a", "b", "c", "tripwire"])
    with pytest.raises(RunFailedError) as caught:
        run.wait(LIMIT)
    assert isinstance(caught.value.__cause__, SystemExit)
    assert [(row.node, row.message) for row in run.errors()] == [("take", "not here")]


def test_row_50_innocent_siblings_of_it_finish() -> None:
    with Coordinator(1) as coordinator:
        run = coordinator.start(flows.Onward, ["a", "b", "c", "bomb"])
        with pytest.raises(RunFailedError) as caught:
            run.wait(LIMIT)
        assert isinstance(caught.value.__cause__, WorkerDiedError)
        assert run.checkpoint().outputs == ("a", "b", "c")
        assert [item.node for item in run.work_items()] == ["take"]
        assert [row.attempt for row in run.errors()] == [1, 2, 3]


def test_row_51_a_list_nested_100000_deep(coordinator: Coordinator) -> None:
    """As input. As result, event and argument of an exception: see rows 48 and 49."""
    with pytest.raises(SerializationError, match=r"input cannot be pickled: it is nested too deeply \(list\)"):
        coordinator.start(flows.Echo, flows.deep())
    ctx = flows.Log(flows.EventLog([flows.deep()]))
    with pytest.raises(SerializationError, match="ctx cannot be pickled: it is nested too deeply"):
        coordinator.start(flows.Tricks, [], ctx=ctx)


def test_row_55_a_module_that_the_workers_do_not_have() -> None:
    """It was made of a text, so it is here and can be named, but nobody else can import it."""
    text = (
        "from dataclasses import dataclass\n"
        "from floxide_mp import Context, EventLog, Node, Workflow\n"
        "@dataclass\nclass Thing:\n    x: int\n"
        "class Odd(Node):\n    def process(self, value): return value\n"
        "@dataclass\nclass Ctx(Context):\n    log: EventLog[int]\n"
    )
    module: Any = ModuleType("byhand")
    sys.modules["byhand"] = module
    try:
        exec(text, vars(module))
        with Coordinator(2) as coordinator:
            runs = [
                coordinator.start(Workflow.build("Odd", {"odd": module.Odd()}, start="odd"), 1),
                coordinator.start(flows.Echo, module.Thing(1)),
                coordinator.start(Workflow.build("Ctx", {"e": flows.echo}, start="e", context=module.Ctx), 1),
            ]
            innocent = coordinator.start(flows.Echo, "fine")
            for run in runs:
                with pytest.raises(RunFailedError) as caught:
                    run.wait(LIMIT)
                cause = caught.value.__cause__
                assert isinstance(cause, ModuleNotFoundError)
                assert cause.name == "byhand"
                told = "\n".join(cause.__notes__)
                assert "must be importable there" in told
                assert run.errors() == [], "no item is to blame"
            assert innocent.wait(LIMIT).output == "fine"
            assert all(worker.pid for worker in coordinator.workers())
    finally:
        del sys.modules["byhand"]


def test_row_56_two_equal_items_are_two_items(coordinator: Coordinator) -> None:
    same = flows.Point(1, 2)
    for values in ([1, 1, 1], [same, same, flows.Point(1, 2)], ["fine"] * 3):
        nodes = {"split": flows.split, "echo": flows.echo, "join": Join()}
        workflow = Workflow.build("Equal", nodes, start="split", edges={"split": ["echo"], "echo": ["join"]})
        result = coordinator.start(workflow, values).wait(LIMIT)
        assert result.output == values
        assert result.metrics.total_work_items == result.metrics.completed == 5


def test_row_59_plain_values_mean_next(coordinator: Coordinator) -> None:
    for value in (None, 0, [], (), "", [1, 2], {"a": Next}, int):
        assert coordinator.start(flows.Echo, value).wait(LIMIT).outputs == [value]


@pytest.mark.parametrize("name", ["list", "late", "tuple", "all", "twice"])
def test_row_59_next_inside_a_value_is_an_error_that_shows_it(coordinator: Coordinator, name: str) -> None:
    with pytest.raises(RunFailedError) as caught:
        coordinator.start(flows.Listed, name).wait(LIMIT)
    assert isinstance(caught.value.__cause__, TypeError)
    shown = "NextAll(values=[2])" if name == "tuple" else "Next(value=2)"
    assert shown in str(caught.value.__cause__)
    assert "listed" in str(caught.value.__cause__)
