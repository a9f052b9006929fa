"""The four transitions."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from floxide_mp import Abort, Hold, Next, NextAll


@pytest.mark.parametrize("made", [Next(1), NextAll([1, 2]), Hold(), Abort("why")], ids=lambda t: type(t).__name__)
def test_they_are_values_and_travel(made: object) -> None:
    assert pickle.loads(pickle.dumps(made)) == made
    assert repr(made).startswith(type(made).__name__ + "(")
    for field in dataclasses.fields(made):  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, field.name, None)


def test_next_all_takes_any_iterable_and_does_not_look_into_it() -> None:
    lazy = (1 // 0 for _ in range(3))
    assert NextAll(lazy).values is lazy
