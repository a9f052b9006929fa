"""What two type hints can have in common: a word where nothing can, and never a false alarm."""

from __future__ import annotations

import collections
import enum
import sys
import typing
from collections.abc import Callable, Collection, Generator, Hashable, Iterable, Iterator, Mapping, Sequence, Sized
from collections.abc import Set as AnySet
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, LiteralString, NamedTuple, NewType, Protocol, TypedDict, TypeVar

import pytest
from beartype.door import is_bearable
from hypothesis import assume, example, given
from hypothesis import strategies as st

from floxide_mp.graph import type_compat
from floxide_mp.graph.type_compat import cases, elements, list_of, may_be, shown

T = TypeVar("T")
Number = TypeVar("Number", int, float)
In = TypeVar("In", contravariant=True)


class Animal: ...


Beast = TypeVar("Beast", bound=Animal)


class Cat(Animal): ...


class Dog(Animal): ...


class Left: ...


class Right: ...


class Both(Left, Right): ...


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Speaks(Protocol):
    def speak(self) -> str: ...


class Box(Generic[T]): ...


class Numbers(Box[int]): ...


class Pair(Box[tuple[T, str]]): ...


class Sink(Generic[In]): ...


class Ages(dict[str, int]): ...


class Mixed(list[int | str]): ...


class Point(NamedTuple):
    x: int
    y: int


class Address(TypedDict):
    street: str


UserId = NewType("UserId", int)
OrderId = NewType("OrderId", int)


def meet(given: Any, taken: Any) -> bool:
    return may_be(cases(given), cases(taken))


APART = [
    (int, str),
    (float, int),
    (None, int),
    (Colour, int),
    (Cat, Dog),
    (Cat, Left),
    (int, Iterable[int]),
    (Callable[[int], str], int),
    (Address, int),
    (UserId, str),
    (Number, str),
    (Beast, str),
    (LiteralString, int),
    (Annotated[int, "seconds"], str),
    (Literal["a"], Literal["b"]),
    (Literal[1], Literal[True]),
    (Literal[1, 2], str),
    (Literal["a"], list[str]),
    (Literal[Colour.RED], Literal[Colour.BLUE]),
    (int | None, str | bytes),
    (list[int], dict[str, int]),
    # what is in brackets
    (list[int], list[str]),
    (list[int], Sequence[str]),
    (list[int] | None, list[str]),
    (list[Cat], list[Dog]),
    (list[list[int]], list[list[str]]),
    (list[Literal[1]], list[Literal[2]]),
    (list[UserId], list[str]),
    (list[int | None], list[str | bytes]),
    (typing.List[int], list[str]),  # noqa: UP006
    (Iterable[int], list[str]),
    (set[int], AnySet[str]),
    (dict[str, int], dict[str, str]),
    (dict[str, int], Mapping[int, int]),
    (collections.defaultdict[str, int], dict[str, str]),
    (tuple[int, str], tuple[str, int]),
    (tuple[int, int], tuple[int]),
    (tuple[int, int], tuple[str, ...]),
    (tuple[int, str], Sequence[int]),
    (tuple[int, ...], tuple[str, ...]),
    (type[int], type[str]),
    (type[Cat], type[Dog]),
    (Box[int], Box[str]),
    (Numbers, Box[str]),
    (Pair[int], Box[tuple[str, str]]),
    (Ages, dict[str, str]),
    (Mixed, list[bytes]),
]

NEAR = [
    (Any, int),
    (object, int),
    (T, int),
    (int, Hashable),
    (bool, float),
    (int, complex),
    (bytearray, bytes),
    (Animal, Cat),
    (Cat, Animal),
    (Cat, Speaks),
    (Left, Right),  # there is one that is both
    (Sized, Iterable[int]),
    (Cat, Beast),
    (int, UserId),
    (UserId, OrderId),  # they are the same at run time
    (str, LiteralString),
    (Literal["a", "b"], Literal["b", "c"]),
    (str, Literal["a"]),
    (Colour, Literal[Colour.RED]),
    (Address, dict[str, str]),
    (Address, Mapping[str, object]),
    (Point, tuple[int, int]),
    (str, Sequence[str]),
    (bytes, Sequence[int]),
    (Path, str | Path),
    (list, list[int]),
    (list[Any], list[int]),
    (list[T], list[int]),  # type: ignore[valid-type]
    (list[int], list[float]),
    (list[Cat], list[Animal]),
    (list[Animal], list[Cat]),
    (list[Left], list[Right]),
    (list[int | str], list[str | bytes]),
    (list[int | str], list[bool]),
    (list[None], list[int | None]),
    (tuple[int, object], tuple[object, str]),  # (1, "a"), though neither is a kind of the other
    (tuple[int, ...], tuple[int, int]),
    (tuple[int, *tuple[str, ...]], tuple[int, str]),  # type: ignore[misc]
    (dict[str, object], dict[object, int]),
    (dict[str, int], Iterable[str]),
    (collections.Counter[str], dict[str, int]),
    (Generator[int, str, None], Iterator[int]),
    (Generator[int, str, None], Generator[int, int, None]),  # one that does not mind what it is sent
    (Callable[[int], str], Callable[[str], str]),  # lambda x: "a"
    (Callable[..., int], Callable[..., str]),
    (type, type[int]),
    (type[Animal], type[Cat]),
    (Box[int | str], Box[str | bytes]),
    (Box[Any], Box[int]),
    (Numbers, Box[int | str]),
    (Sink[int], Sink[str]),  # one that takes both
    (Mixed, list[str | bytes]),
    (Ages, Iterable[str]),
]


@pytest.mark.parametrize(("given", "taken"), APART, ids=repr)
def test_nothing_is_of_both(given: Any, taken: Any) -> None:
    assert not meet(given, taken)


@pytest.mark.parametrize(("given", "taken"), NEAR, ids=repr)
def test_something_may_be_of_both(given: Any, taken: Any) -> None:
    assert meet(given, taken)


@pytest.mark.parametrize("hint", [hint for pair in APART + NEAR for hint in pair], ids=repr)
def test_a_hint_matches_itself_and_what_is_not_known(hint: Any) -> None:
    assert meet(hint, hint)
    assert meet(hint, Any) and meet(Any, hint)
    assert meet(hint, hint | None) if hint not in (None, LiteralString) else True


@pytest.mark.parametrize(
    "hint", ["NoSuchName", 3, [int], typing.Never, typing.Self, typing.ClassVar[int], ...], ids=repr
)
def test_what_is_no_hint_of_a_value_is_not_known(hint: Any) -> None:
    assert cases(hint) is None


def test_a_class_that_does_not_like_to_be_compared_matches() -> None:
    class Shy(type):
        def __subclasscheck__(cls, other: type) -> bool:
            raise RuntimeError("leave me alone")

    assert meet(int, Shy("Odd", (), {}))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type statements are of 3.12")
def test_type_statements() -> None:
    made: dict[str, Any] = {}
    exec("type Rows = list[int] | None\ntype Tree = int | list[Tree]\nclass Put[T]:\n    pass", made)
    assert not meet(made["Rows"], list[str])
    assert meet(made["Rows"], list[int])
    assert not meet(made["Tree"], str)
    assert meet(made["Tree"], made["Tree"])
    assert meet(made["Put"][int], made["Put"][str])  # what it does with its T is not said


# -- no false alarms ----------------------------------------------------------------------------------------------

# Not 1 beside True, which are one and the same for beartype's ``Literal[1]``.
ATOMS: list[Any] = [5, True, 2.5, "a", b"b", None, Colour.RED, Cat(), Dog(), Both(), int, Cat, len, Point(1, 2)]


def values(mixed: bool) -> st.SearchStrategy[Any]:
    # An empty container is of everything, which says nothing of what is in it; and beartype looks at one element,
    # so where it is asked, all are the same.
    def wrapped(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        keys = st.sampled_from([key for key in ATOMS if key is not None])
        return (
            inner.map(lambda v: [v])
            | inner.map(lambda v: Mixed([v]) if type(v) in (int, str) else (v,))
            | (st.tuples(inner, inner) if mixed else inner.map(lambda v: (v, v)))
            | st.dictionaries(keys, inner, min_size=1, max_size=1)
            | keys.map(lambda v: {v})
            | keys.map(lambda v: collections.Counter([v]))
        )

    return st.recursive(st.sampled_from(ATOMS), wrapped, max_leaves=4)


PLAIN: list[Any] = [int, bool, float, str, bytes, None, Colour, Animal, Cat, Dog, Left, Right, Both, Point, Any, object]
PLAIN += [Hashable, Sized, UserId, OrderId, Number, Beast, T, LiteralString, Literal[5], Literal["a", 5, None]]
PLAIN += [Literal[Colour.RED], type, type[int], type[Animal], Callable[[int], str], Callable[..., Any], Address, Mixed]
PLAIN += [list, tuple, dict, Sequence, Annotated[int, "x"]]


OF_ATOMS = [(atom, [hint for hint in PLAIN if is_bearable(atom, hint)]) for atom in ATOMS]


def compound(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    one = st.sampled_from([list, Sequence, Iterable, Collection, set, AnySet, collections.deque, collections.Counter])
    two = st.sampled_from([dict, Mapping, collections.defaultdict])
    return (
        st.builds(lambda kind, a: kind[a], one, inner)
        | st.builds(lambda kind, a, b: kind[a, b], two, inner, inner)
        | st.builds(lambda a, b: tuple[a, b], inner, inner)
        | st.builds(lambda a: tuple[a, ...], inner)
        | st.builds(lambda a, b: typing.Union[a, b], inner, inner)  # noqa: UP007
    )


HINTS = st.recursive(st.sampled_from(PLAIN), compound, max_leaves=4)


@st.composite
def hints_of(draw: Any, value: Any) -> Any:
    """A hint that the value is of."""
    kind = type(value)
    found = [object, Any, kind, *next((of for atom, of in OF_ATOMS if atom is value), ())]
    if isinstance(value, tuple) and kind is tuple:
        found += [tuple[tuple(draw(hints_of(one)) for one in value)]]
    if isinstance(value, list | set | tuple) and kind is not Point:
        inner = typing.Union[tuple(draw(hints_of(one)) for one in value)]  # noqa: UP007
        found += [Iterable[inner], Collection[inner]]
        found += (
            [Sequence[inner], kind[inner, ...] if kind is tuple else list[inner]] if kind is not set else [set[inner]]
        )
    if isinstance(value, dict):
        ((key, one),) = value.items()
        a, b = draw(hints_of(key)), draw(hints_of(one))
        found += [dict[a, b], Mapping[a, b], Iterable[a]]
    hint = draw(st.sampled_from(found))
    return draw(st.sampled_from([hint, typing.Union[hint, draw(HINTS)], Annotated[hint, "x"]]))  # noqa: UP007


@given(st.data())
def test_hints_of_one_value_match(data: st.DataObject) -> None:
    value = data.draw(values(mixed=True))
    one, other = data.draw(hints_of(value)), data.draw(hints_of(value))
    assume(is_bearable(value, one) and is_bearable(value, other))
    assert meet(one, other), value


@given(HINTS, HINTS, st.lists(values(mixed=False), min_size=30, max_size=30))
@example(list[int], list[str], [[]])
def test_a_value_that_is_of_both_hints_may_go_along(one: Any, other: Any, some: list[Any]) -> None:
    if not meet(one, other):
        both = [value for value in some if is_bearable(value, one) and is_bearable(value, other)]
        assert both in ([], [[]])


# -- what is said, and without the library ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (int, "int"),
        (int | None, "int | None"),
        (list[Cat | None], "list[Cat | None]"),
        (Mapping[str, tuple[int, ...]], "Mapping[str, tuple[int, ...]]"),
        (Literal["a", Colour.RED], "Literal['a'] | Literal[Colour.RED]"),
        (Callable[[int], Cat], "Callable[[int], Cat]"),
        (list[UserId], "list[UserId]"),
        (list[T], "list[T]"),  # type: ignore[valid-type]
    ],
)
def test_hints_are_shown_as_they_are_written(hint: Any, text: str) -> None:
    assert shown(cases(hint)) == text


def test_what_comes_of_going_through_something() -> None:
    assert elements(cases(list[int] | tuple[str, bytes])) == (int, str, bytes)
    assert elements(cases(dict[str, int])) == elements(cases(str)) == (str,)
    assert elements(cases(Ages)) == (str,)
    assert elements(cases(list[Any])) is elements(cases(list)) is elements(cases(tuple[()])) is elements(None) is None
    assert list_of((int, list[str])) == list[int | list[str]]
    assert list_of(()) is list_of(None) is list


def test_without_the_library_only_classes_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "beartype", None)  # as where it is not installed
    type_compat._library.cache_clear()
    try:
        assert meet(list[int], list[str])
        assert not meet(list[int], dict[str, int])
        assert not meet(int, str)
    finally:
        type_compat._library.cache_clear()
