"""Ids of runs that are taken: by a run that nobody named, and by one that was started before."""

from __future__ import annotations

import base64
import copyreg
import json
import pickle
import re
import sys
from collections import OrderedDict
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from floxide_mp import Coordinator, FloxideError, MemoryStore, RunStatus, source
from floxide_mp.coordinator import arguments
from floxide_mp.coordinator.sameness import Likeness, compare, differing
from floxide_mp.wire import codec
from tests.flows_run import Echo
from tests.naming import without_address
from tests.scripts import printed

LIMIT = 40.0


def drawn(patch: pytest.MonkeyPatch, *numbers: bytes) -> None:
    """What the operating system's source of randomness gives next to those who make up an id."""
    left = list(numbers)
    urandom: Callable[[int], bytes] = lambda size: left.pop(0).ljust(size, b"\0")  # noqa: E731
    patch.setattr(arguments.os, "urandom", urandom)


def test_row_92_an_id_that_is_made_up_is_made_up_again_until_it_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    drawn(monkeypatch, b"a", b"a", b"b", b"a", b"b", b"c")
    with Coordinator(0, store=store) as c:
        first, second = c.start(Echo, "one"), c.start(Echo, "one")
        assert first.run_id != second.run_id
    with Coordinator(0, store=store) as c:
        third = c.start(Echo, "other")
        assert third.wait(LIMIT).output == "other", "the same input or not: nobody named that run"
        assert len({first.run_id, second.run_id, third.run_id}) == 3
        assert len(third.run_id.rpartition("-")[2]) == 16, "64 bits"
        assert len(c.runs()) == 3


def test_row_92_of_a_run_that_a_source_feeds(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn(monkeypatch, b"a", b"a", b"b")
    with Coordinator(0) as c:
        c.start(Echo, "one").wait(LIMIT)
        sender, values = source(1)
        run = c.start(Echo, values)
        for number in range(5):
            sender.send(number)  # the second one waits for room, which the run that was started makes
        sender.close()
        assert run.wait(LIMIT).outputs == list(range(5))


# -- whether it is the same input ---------------------------------------------------------------------------------

TONIGHT = """
    from floxide_mp import Workflow, node

    class Query:
        def __init__(self, tags): self.tags = tags

    @node
    def go(q): return sorted(q.tags)

    class Nightly(Workflow):
        go = go
        start = go

    if __name__ == "__main__":
        tags = "ant bee cat dog elk fox gnu hen".split()
        given = [Query(set(tags)), {tag: {tag, 1} for tag in set(tags)}]
        print(Nightly(go=node(lambda q: sorted(q[0].tags))).run_with_checkpoint(
            given, store="runs.db", run_id="tonight").output)
"""


def test_row_114_the_same_program_started_again_goes_on_with_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its input has sets, in an object of a class without ``__eq__``: other bytes in each process."""
    seen = set()
    for seed in ("1", "2", "3"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        seen.add(printed(TONIGHT, tmp_path))
    assert seen == {"['ant', 'bee', 'cat', 'dog', 'elk', 'fox', 'gnu', 'hen']\n"}


MADE = """
    import base64, collections, datetime, enum, functools, sys
    from floxide_mp.wire import codec

    class Tags(set): pass
    class Color(enum.Enum): RED = 1
    class Plain:
        def __init__(self, **state): self.__dict__.update(state)
    words = "ant bee cat dog elk fox gnu hen".split()

    def local():
        class Local(Plain):
            known = {"ant", "bee", "cat", "dog"}
        return Local

    found = {
        "sets": {frozenset(words), frozenset(words[1:])},
        "set of a class": Plain(tags=Tags(words)),
        "dicts": {word: {word: set(words)} for word in set(words)},
        "collections": [collections.Counter(set(words)), collections.defaultdict(set, dict.fromkeys(set(words), 1))],
        "objects in a set": {Plain(n=n, tags=set(words)) for n in range(9)},
        "itself": (lambda plain: [plain.__dict__.update(me=plain, tags=set(words)), plain])(Plain()),
        "by value": [lambda x: x in {"ant", "bee", "cat"}, local(), local()(n={"ant", "bee", "cat"})],
        "others": [datetime.date(2020, 1, 1), Color.RED, functools.partial(print, sep=set(words)), float("nan"), b""],
    }
    try:
        import numpy as np
        import pandas as pd
        found["arrays"] = [np.arange(6.0).reshape(2, 3), np.array([set(words), "x"], dtype=object), np.float32(2)]
        found["frames"] = [pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), pd.Series([1.5, 2.5], name="s")]
    except ImportError:
        pass
    for name, value in found.items():
        print(name, base64.b64encode(codec.encode(value, name)).decode(), sep=":")
"""


def test_row_114_values_are_compared_without_regard_to_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, bytes]] = []
    for seed in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        lines = [line.split(":") for line in printed(MADE, tmp_path).splitlines()]
        made.append({name: base64.b64decode(payload) for name, payload in lines})
    differing = [name for name in made[0] if made[0][name] != made[1][name]]
    assert {"sets", "set of a class", "objects in a set", "itself", "by value"} <= set(differing), (
        "else nothing is shown"
    )
    monkeypatch.setattr(sys.modules["__main__"], "Tags", type("Tags", (set,), {}), raising=False)
    found = {name: compare(payload, made[1][name]) for name, payload in made[0].items()}
    assert found == dict.fromkeys(made[0], Likeness.SAME)
    # ... and each is another one than all others.
    assert {compare(made[0][a], made[1][b]) for a, b in permutations(made[0], 2)} == {Likeness.OTHER}


class Thing:
    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)


class Other(Thing):
    pass


class Job:
    """Says itself what it is."""

    def __init__(self, made: float) -> None:
        self.made = made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job)


OTHERS: list[tuple[Any, Any]] = [
    ({1, 2}, {1, 3}),
    ({1, 2}, [1, 2]),
    ([1, 2], [2, 1]),
    ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
    (OrderedDict(a=1, b=2), OrderedDict([("b", 2), ("a", 1)])),
    (Thing(n=1), Thing(n=2)),
    (Thing(n=1), Thing(m=1)),
    (Thing(n=1), Other(n=1)),
    (Thing, Other),
    ("1", 1),
    (b"ab", "ab"),
    ([[1], [2]], [[1, 2], []]),
    (json.dumps, pickle.dumps),
]


@pytest.mark.parametrize(("before", "now"), OTHERS, ids=without_address)
def test_row_114_what_is_another_value_is_found(before: Any, now: Any) -> None:
    assert compare(codec.encode(before), codec.encode(now)) is Likeness.OTHER
    assert compare(codec.encode([before, {0: now}]), codec.encode([now, {0: before}])) is Likeness.OTHER


class Slotted:
    __slots__ = ("tags",)

    def __init__(self, tags: set[int]) -> None:
        self.tags = tags


def round_trip(n: int) -> Thing:
    thing = Thing(n=n)
    thing.me = [thing]  # type: ignore[attr-defined]
    return thing


DIFFERING: list[tuple[Any, Any, str]] = [
    (Thing(made=1.5, tags={1}), Thing(made=2.5, tags={1}), "input.made"),
    ([0, {"conf": (Thing(n=1), 2)}], [0, {"conf": (Thing(n=3), 2)}], "input[1]['conf'][0].n"),
    (Slotted({1, 2}), Slotted({1, 3}), "input.tags"),
    (round_trip(1), round_trip(2), "input.n"),
    ({"a secret!": 1}, {"a secret!": 2}, "input"),
    (Thing(n=1), Thing(m=1), "input.n"),
    ([1], [1, 2], "input"),
    ({1, 2}, {2, 1}, ""),
    (Thing(n=1), Other(n=1), "input"),
    ([0, [1]], [0, {1: 1}], "input[1]"),
]


@pytest.mark.parametrize(("before", "now", "where"), DIFFERING, ids=without_address)
def test_row_114_the_error_names_what_differs(before: Any, now: Any, where: str) -> None:
    assert differing(codec.encode(before), codec.encode(now), "input") == where
    with Coordinator(0) as c:
        c.start(Echo, before, run_id="r").wait(LIMIT)
        if where:
            with pytest.raises(FloxideError, match=re.escape(f"same): {where} is another one. For this one choose")):
                c.start(Echo, now, run_id="r")


def test_row_114_state_that_means_nothing_does_not_count_where_the_class_says_so() -> None:
    with Coordinator(0) as c:
        c.start(Echo, Thing(made=1), run_id="r").wait(LIMIT)
        with pytest.raises(
            FloxideError,
            match=r"input\.made is another one.*does not count if an __eq__ of its class leaves it out$",
        ):
            c.start(Echo, Thing(made=2), run_id="r")
        c.start(Echo, Job(1.0), run_id="j").wait(LIMIT)
        assert c.start(Echo, Job(2.0), run_id="j").status is RunStatus.COMPLETED


def test_row_114_arrays_are_compared_by_type_shape_and_bytes() -> None:
    np = pytest.importorskip("numpy")
    plain = np.arange(6)
    for other in (plain + 1, plain.reshape(2, 3), plain.astype("int32"), plain.astype("float64")):
        assert compare(codec.encode([plain]), codec.encode([other])) is Likeness.OTHER
    assert compare(codec.encode([plain, {1}]), codec.encode([plain.copy(), {1}])) is Likeness.SAME


def elsewhere(name: str, **members: Any) -> ModuleType:
    made = ModuleType(name)
    for one, member in members.items():
        member.__module__, member.__qualname__ = name, one
        setattr(made, one, member)
    return made


def test_row_114_a_class_that_has_moved(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    query = type("Query", (Thing,), {})
    before, now = elsewhere("before_114", Query=query), elsewhere("now_114", Query=type("Query", (Thing,), {}))
    store = MemoryStore()
    with monkeypatch.context() as patch, Coordinator(0, store=store) as c:
        patch.setitem(sys.modules, "before_114", before)
        c.start(Echo, before.Query(tags={"a", "b"}), run_id="moved").wait(LIMIT)
    monkeypatch.setitem(sys.modules, "now_114", now)
    with Coordinator(0, store=store) as c:
        assert c.start(Echo, now.Query(tags={"a", "b"}), run_id="moved").status is RunStatus.COMPLETED
        (record,) = caplog.records
        assert "run moved: of its input, before_114.Query is now_114.Query now: it goes on" in record.getMessage()
        with pytest.raises(FloxideError, match="began with another input"):
            c.start(Echo, now.Query(tags={"a"}), run_id="moved")
        monkeypatch.setitem(sys.modules, "before_114", before)  # both are there: then the one is not the other
        with pytest.raises(FloxideError, match=r"another input .*: before_114\.Query is now_114\.Query now\. For this"):
            c.start(Echo, now.Query(tags={"a", "b"}), run_id="moved")


def test_row_114_where_it_cannot_be_told_there_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """What is pickled by a number (``copyreg.add_extension``) that is not registered any more."""
    with Coordinator(0) as c:
        copyreg.add_extension(__name__, "Thing", 0x7114)
        try:
            c.start(Echo, Thing(n=1), run_id="odd").wait(LIMIT)
        finally:
            copyreg.remove_extension(__name__, "Thing", 0x7114)
        copyreg.clear_extension_cache()
        assert c.start(Echo, Thing(n=1), run_id="odd").run_id == "odd"
    (record,) = caplog.records
    text = "run odd is there; whether it began with this input cannot be told: it goes on with what it began with"
    assert text in record.getMessage() and record.levelname == "WARNING"
