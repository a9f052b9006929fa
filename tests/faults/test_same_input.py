"""Whether an input is the one that a run began with: what its pickle says counts, and ``==`` of the user's own classes;
never that of builtins and libraries, for which ``1``, ``1.0`` and ``True`` are one.
"""

from __future__ import annotations

import array
import datetime
import types
from collections import Counter, OrderedDict, UserDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import Coordinator, FloxideError, RunStatus
from floxide_mp.coordinator import own_equality, sameness
from floxide_mp.coordinator.sameness import Likeness, compare, differing
from floxide_mp.wire import codec
from tests.flows_run import Echo
from tests.scripts import printed

LIMIT = 40.0
SAME, OTHER = Likeness.SAME, Likeness.OTHER


class Params(dict[str, int]):
    rate = 0


class Table(list[int]):
    unit = "m"


class Label(str):
    lang = ""


class Meters(float):
    pass


class Large(int):
    pass


class Feet(float):
    pass


class Steps(OrderedDict[str, int]):
    pass


class Plain:
    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)


class Column:
    """As of an ORM: ``==`` gives an expression, which is true."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> Any:
        return ("=", self, other)


class Failing(Column):
    def __eq__(self, other: object) -> Any:
        raise RuntimeError("not to be compared")


class Config:
    """Leaves out of ``==`` when it was made."""

    def __init__(self, rate: int, made: float) -> None:
        self.rate, self.made = rate, made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and self.rate == other.rate


class Derived(Config):
    pass


class Hashed(Config):
    def __eq__(self, other: object) -> bool:
        return super().__eq__(other)

    def __hash__(self) -> int:
        return hash(self.rate)


class Wrapped(UserDict[str, int]):
    """Inherits an ``==`` that is written in Python, but not by the user."""


class Borrowing(Params):
    __eq__ = dict.__eq__


@dataclass
class Settings:
    rate: Any
    made: float = field(default=0.0, compare=False)
    inner: Any = None


class Defined(Plain):
    """As attrs makes it."""

    __attrs_attrs__ = (types.SimpleNamespace(name="rate", eq=True), types.SimpleNamespace(name="made", eq=False))
    __hash__ = None  # type: ignore[assignment]
    exec(compile("def __eq__(self, other): return self.rate == other.rate", "<attrs generated methods it>", "exec"))


@dataclass
class Rated(dict[str, int]):
    rate: int = 0


def given(value: Any, **state: Any) -> Any:
    value.__dict__.update(state)
    return value


FOLD = datetime.datetime(2020, 1, 1)

PAIRS: dict[str, tuple[Any, Any, Likeness]] = {
    "dict subclass": (given(Params(n=2), rate=10), given(Params(n=2), rate=99), OTHER),
    "list subclass": (given(Table([1]), unit="m"), given(Table([1]), unit="ft"), OTHER),
    "str subclass": (given(Label("a"), lang="de"), given(Label("a"), lang="en"), OTHER),
    "subclass or not": (Params(n=2), {"n": 2}, OTHER),
    "library's ==": (given(Wrapped(n=2), rate=10), given(Wrapped(n=2), rate=99), OTHER),
    "borrowed ==": (given(Borrowing(n=2), rate=10), given(Borrowing(n=2), rate=99), OTHER),
    "float subclasses": (Meters(1), Feet(1), OTHER),
    "int and bool": (1, True, OTHER),
    "int and float": (1, 1.0, OTHER),
    "int subclasses": (Large(10**5000), 10**5000, OTHER),
    "float and bool": (0.0, False, OTHER),
    "zeros": (0.0, -0.0, OTHER),
    "complex zeros": (0j, -0j, OTHER),
    "keys": ({1: "a"}, {True: "a"}, OTHER),
    "elements": ({1, "a"}, {1.0, "a"}, OTHER),
    "set and frozenset": ({1}, frozenset({1}), OTHER),
    "bytes and bytearray": (b"a", bytearray(b"a"), OTHER),
    "list and tuple": ([1], (1,), OTHER),
    "dict and OrderedDict": ({"a": 1}, OrderedDict(a=1), OTHER),
    "dict and Counter": ({"a": 1}, Counter("a"), OTHER),
    "OrderedDict": (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1), OTHER),
    "OrderedDict subclass": (Steps(a=1, b=2), Steps(b=2, a=1), OTHER),
    "deque": (deque([1, 2], 2), deque([1, 2], 9), OTHER),
    "defaultdict": (defaultdict(int, a=1), defaultdict(list, a=1), OTHER),
    "Decimal": (Decimal("1.0"), Decimal("1.00"), OTHER),
    "Fraction": (Fraction(1), 1, OTHER),
    "fold": (FOLD.replace(fold=0), FOLD.replace(fold=1), OTHER),
    "time zones": (
        datetime.datetime(2020, 1, 1, 12, tzinfo=datetime.UTC),
        datetime.datetime(2020, 1, 1, 13, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
        OTHER,
    ),
    "array": (array.array("i", [1]), array.array("l", [1]), OTHER),
    "range": (range(0), range(1, 1), OTHER),
    "namespace": (types.SimpleNamespace(a=1), types.SimpleNamespace(a=True), OTHER),
    "expression": (Column("price"), Column("weight"), OTHER),
    "failing": (Failing("price"), Failing("weight"), OTHER),
    "own class, another": (Config(1, 1.5), Config(2, 1.5), OTHER),
    "own class and one derived": (Config(1, 1.5), Derived(1, 1.5), OTHER),
    "dataclass": (Settings(1), Settings(True), OTHER),
    "dataclass in it": (Settings(1, 1.5, Settings(1)), Settings(1, 2.5, Settings(1.0)), OTHER),
    "dataclass of a builtin": (given(Rated(), n=1), given(Rated(), n=2), OTHER),
    "attrs": (Defined(rate=1, made=0), Defined(rate=True, made=0), OTHER),
    # ... and the same
    "digits": ({10**5000: {"a": 1, "b": 2}}, {10**5000: {"b": 2, "a": 1}}, SAME),
    "attrs, same": (Defined(rate=1, made=1.5), Defined(rate=1, made=2.5), SAME),
    "nan": (float("nan"), float("nan"), SAME),
    "dict order": ({"a": 1, "b": 2}, {"b": 2, "a": 1}, SAME),
    "dict subclass, same": (given(Params(n=2), rate=10), given(Params(n=2), rate=10), SAME),
    "expression, same": (Column("price"), Column("price"), SAME),
    "own class": (Config(1, 1.5), Config(1, 2.5), SAME),
    "own class, derived": (Derived(1, 1.5), Derived(1, 2.5), SAME),
    "dataclass, same": (Settings(1, 1.5), Settings(1, 2.5), SAME),
    "dataclass, state": (given(Settings(1), cached=1), Settings(1), SAME),
    "dataclass in one": (Settings(1, 1.5, Config(1, 1.5)), Settings(1, 2.5, Config(1, 2.5)), SAME),
    "among others": ([Column("a"), Config(1, 1.5)], [Column("a"), Config(1, 2.5)], SAME),
    "in a set": (
        {Hashed(1, 1.5), Hashed(2, 1.5), Hashed(3, 0)},
        {Hashed(2, 2.5), Hashed(1, 2.5), Hashed(3, 0)},
        SAME,
    ),
    "as keys": ({Hashed(1, 1.5): 1, Hashed(2, 1.5): 2}, {Hashed(2, 2.5): 2, Hashed(1, 2.5): 1}, SAME),
    "keys change": ({Hashed(1, 1.5): 1, Hashed(2, 1.5): 2}, {Hashed(2, 2.5): 1, Hashed(1, 2.5): 2}, OTHER),
    "places change": ([Config(1, 1.5), Config(2, 1.5)], [Config(2, 2.5), Config(1, 2.5)], OTHER),
    "order of equal ones": (
        {"a": Config(1, 1.5), "b": Config(1, 2.5)},
        {"b": Config(1, 3.5), "a": Config(1, 4.5)},
        SAME,
    ),
    "one more": ([Config(1, 1.5)], [Config(1, 2.5), Config(1, 2.5)], OTHER),
    "a function beside it": ([lambda: 1, Config(1, 1.5)], [lambda: 1, Config(1, 2.5)], SAME),
    "another function": ([lambda: 1, Config(1, 1.5)], [lambda: 2, Config(1, 2.5)], OTHER),
}


def compared(before: Any, now: Any) -> list[Likeness]:
    """Both ways, and inside of other values."""
    wraps: list[Callable[[Any], Any]] = [
        lambda value: value,
        lambda value: [value],
        lambda value: {"in": (value, 7)},
        lambda value: Plain(it=value),
        lambda value: given(Params(n=1), it=value),
    ]
    ways = [(before, now), (now, before)]
    return [compare(codec.encode(wrap(one)), codec.encode(wrap(two))) for wrap in wraps for one, two in ways]


@pytest.mark.parametrize(("before", "now", "right"), PAIRS.values(), ids=PAIRS)
def test_row_114_which_values_are_the_same(before: Any, now: Any, right: Likeness) -> None:
    assert set(compared(before, now)) == {right}
    assert set(compared(before, before)) == {SAME}


def numpy_pairs() -> dict[str, tuple[Any, Any, Likeness]]:
    np = pytest.importorskip("numpy")
    return {
        "integers": (np.array([1], "i4"), np.array([1], "i8"), OTHER),
        "more integers": (np.array([1, 2], "i4"), np.array([1, 2], "i8"), OTHER),
        "bool": (np.array([1.0]), np.array([True]), OTHER),
        "days": (np.array(["2020-01-01"], "M8[D]"), np.array(["2020-01-01"], "M8[ns]"), OTHER),
        "matrix": (np.array([[3]]).view(np.matrix), np.array([[3]]), OTHER),
        "shape": (np.ones((1, 1)), np.ones(1), OTHER),
        "no dimension": (np.array(0.0), np.array(-0.0), OTHER),
        "scalars": (np.float32(1), np.float64(1), OTHER),
        "scalar and float": (np.float64(1), 1.0, OTHER),
        "np.bool and bool": (np.bool_(True), True, OTHER),
        "records": (np.rec.array([(1,)], dtype=[("a", "i4")]), np.array([(1,)], dtype=[("a", "i4")]), OTHER),
        "fields": (np.zeros(1, [("a", "i4")]), np.zeros(1, [("b", "i4")]), OTHER),
        "objects": (np.array([1], object), np.array([True], object), OTHER),
        "byte order": (np.array([1], "<i2"), np.array([1], ">i2"), OTHER),
        "dataclass": (Settings(np.array([1], "i4")), Settings(np.array([1], "i8")), OTHER),
        "own class in an array": (
            np.array([Config(1, 1.5), 2], object),
            np.array([Config(1, 2.5), 2], object),
            SAME,
        ),
        "nan": (np.array([1.0, np.nan]), np.array([1.0, np.nan]), SAME),
        "dataclass, same": (Settings(np.arange(3), 1.5), Settings(np.arange(3), 2.5), SAME),
    }


def test_row_114_which_arrays_are_the_same() -> None:
    for name, (before, now, right) in numpy_pairs().items():
        assert set(compared(before, now)) == {right}, name
        assert set(compared(before, before)) == {SAME}, name


def test_row_114_which_frames_are_the_same() -> None:
    pd = pytest.importorskip("pandas")
    tuples = [(1, 2)]
    pairs = {
        "names": (
            pd.MultiIndex.from_tuples(tuples, names=["a", "b"]),
            pd.MultiIndex.from_tuples(tuples, names=["a", "c"]),
            OTHER,
        ),
        "freq": (pd.date_range("2020", periods=1, freq="D"), pd.date_range("2020", periods=1, freq="h"), OTHER),
        "one value": (pd.Series([1]), pd.Series([1.0]), OTHER),
        "series name": (pd.Series([1], name="a"), pd.Series([1], name="b"), OTHER),
        "one cell": (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [True]}), OTHER),
        "nan": (pd.DataFrame({"a": [float("nan")]}), pd.DataFrame({"a": [float("nan")]}), SAME),
    }
    for name, (before, now, right) in pairs.items():
        assert set(compared(before, now)) == {right}, name
        assert set(compared(before, before)) == {SAME}, name


def test_row_114_a_run_is_not_taken_for_one_with_another_input() -> None:
    with Coordinator(0) as c:
        c.start(Echo, given(Params(n=2), rate=10), run_id="r").wait(LIMIT)
        with pytest.raises(FloxideError, match="began with another input"):
            c.start(Echo, given(Params(n=2), rate=99), run_id="r")
        first, now = [Config(1, 1.5), Plain(n=1)], [Config(1, 2.5), Plain(n=1.0)]
        c.start(Echo, first, run_id="s").wait(LIMIT)
        with pytest.raises(FloxideError, match=r"input\[1\]\.n is another one"):
            c.start(Echo, now, run_id="s")
        c.start(Echo, Plain(conf=Config(1, 1.5)), run_id="t").wait(LIMIT)
        assert c.start(Echo, Plain(conf=Config(1, 2.5)), run_id="t").status is RunStatus.COMPLETED


def test_row_114_what_is_the_same_to_its_class_is_not_named_as_what_differs() -> None:
    before, now = [Config(1, 1.5), 3], [Config(1, 2.5), 4]
    assert differing(codec.encode(before), codec.encode(now), "input") == "input[1]"


def test_row_114_a_list_of_many_is_asked_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_equality, "MOST", 10)
    before, now = ([Config(n, made) for n in range(100)] for made in (1.5, 2.5))
    assert compare(codec.encode(before), codec.encode(now)) is SAME
    assert compare(codec.encode(before), codec.encode([*now[:-1], Config(0, 2.5)])) is OTHER


def test_row_114_values_that_cannot_be_read_are_not_said_to_be_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_deep(*_: Any) -> Any:
        raise RecursionError

    monkeypatch.setattr(sameness, "_read", too_deep)
    assert compare(codec.encode(1), codec.encode(True)) is Likeness.UNKNOWN
    assert compare(codec.encode(Column("a")), codec.encode(Column("b"))) is Likeness.UNKNOWN
    assert compare(codec.encode([1]), codec.encode([2])) is OTHER
    assert compare(codec.encode(Config(1, 1.5)), codec.encode(Config(1, 2.5))) is SAME


SCRIPT = """
    import sys, time
    from dataclasses import dataclass, field
    from floxide_mp import Workflow, node

    class Config:
        def __init__(self, rate): self.rate, self.made = rate, time.time_ns()
        def __eq__(self, other): return self.rate == other.rate

    @dataclass
    class Job:
        conf: Config
        made: int = field(default_factory=time.time_ns, compare=False)

    @node
    def rate(job): return job.conf.rate

    class Nightly(Workflow):
        rate = rate
        start = rate

    if __name__ == "__main__":
        for rate in (10, 99):
            try:
                print(Nightly().run_with_checkpoint(Job(Config(rate)), store="runs.db", run_id="tonight").output)
            except Exception as error:
                print(type(error).__name__)
"""


def test_row_114_of_classes_of_a_script(tmp_path: Path) -> None:
    assert [printed(SCRIPT, tmp_path) for _ in range(2)] == ["10\nFloxideError\n"] * 2
