"""Routes: which arm a value takes, and what is said when it takes none."""

from __future__ import annotations

import enum
from typing import Any

import pytest

from floxide_mp import FloxideError, when
from floxide_mp.api.route import choose, describe


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Animal:
    pass


class Cat(Animal):
    pass


def is_long(value: Any) -> bool:
    return len(value) > 3


@pytest.mark.parametrize(
    ("keys", "value", "arm"),
    [
        ([int, str], "x", 1),
        ([Animal], Cat(), 0),
        ([Cat, Animal], Cat(), 0),
        ([Animal, Cat], Cat(), 0),  # the first match wins, not the nearest
        ([Colour.RED, Colour.BLUE], Colour.BLUE, 1),
        ([Colour.RED, Colour], Colour.BLUE, 1),
        ([1, 2], 2, 1),
        ([True, 1], 1, 1),
        ([1, True], True, 1),
        ([1, 1.0], 1.0, 1),
        ([None, object], None, 0),
        ([object], None, 0),
        (["a", "b"], "b", 1),
        ([(1, 2)], (1, 2), 0),
        ([is_long, object], "long", 0),
        ([is_long, object], "no", 1),
        ([lambda v: v > 3, object], 4, 0),
        ([when(int, lambda v: v > 3), int], 4, 0),
        ([when(int, lambda v: v > 3), int], 3, 1),
        ([when(is_long), object], "long", 0),
        ([when(when(int), lambda v: v)], 1, 0),
    ],
)
def test_which_arm(keys: list[Any], value: Any, arm: int) -> None:
    assert choose(keys, value) == (arm, value)


def test_take_changes_what_goes_on_after_the_guard_has_seen_the_whole() -> None:
    keys = [when(tuple, lambda v: v[0] == "retry", take=lambda v: v[1]), when(tuple, take=len)]
    assert choose(keys, ("retry", 7)) == (0, 7)
    assert choose(keys, ("stop", 7)) == (1, 2)
    assert choose([when(int, take=lambda v: None)], 1) == (0, None)


def test_a_guard_is_not_asked_about_values_of_another_kind() -> None:
    assert choose([when(str, lambda v: v.upper()), int], 3) == (1, 3)


def test_nothing_matches_says_the_value_and_the_arms() -> None:
    with pytest.raises(FloxideError) as caught:
        choose([int, Colour.RED, "x", is_long, when(Cat, is_long)], "no!")
    text = str(caught.value)
    assert "no!" in text
    for arm in ("int", "Colour.RED", "'x'", "is_long", "when(Cat, is_long)"):
        assert arm in text


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_a_repr_that_raises_does_not_hide_what_happened() -> None:
    with pytest.raises(FloxideError, match=r"<Rude, whose repr raised RuntimeError>.*int"):
        choose([int], Rude())


def test_a_long_value_is_shortened() -> None:
    with pytest.raises(FloxideError) as caught:
        choose([int], "x" * 10**6)
    assert len(str(caught.value)) < 400


def test_a_guard_that_raises_is_the_items_failure() -> None:
    with pytest.raises(ZeroDivisionError):
        choose([when(int, lambda v: 1 // v)], 0)


class Vague:
    def __eq__(self, other: object) -> Any:
        raise ValueError("the truth value of this is ambiguous")

    __hash__ = None  # type: ignore[assignment]


def test_a_literal_is_not_compared_with_values_of_another_type() -> None:
    assert choose([1, "x", Vague], Vague())[0] == 2


def test_descriptions() -> None:
    assert [describe(k) for k in (int, is_long, 1, when(int), when(int, is_long))] == [
        "int", "is_long", "1", "int", "when(int, is_long)",
    ]  # fmt: skip
