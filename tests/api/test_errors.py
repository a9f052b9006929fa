"""The error tree: what is caught by what, and that facts travel."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from floxide_mp import errors
from floxide_mp.errors import FloxideError

ALL = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, FloxideError)]


@pytest.mark.parametrize("kind", ALL, ids=lambda c: c.__name__)
def test_they_survive_pickling_with_their_facts(kind: type[FloxideError]) -> None:
    error = kind("what happened", run_id="r1", node="pay", item_id=7, attempt=2, problems=("a", "b"), exit_code=-9)
    for made in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(made) is kind
        assert str(made) == "what happened"
        assert vars(made) == vars(error)
        assert (made.run_id, made.node, made.item_id, made.attempt) == ("r1", "pay", 7, 2)


@pytest.mark.parametrize("kind", ALL, ids=lambda c: c.__name__)
def test_the_four_facts_are_always_there(kind: type[FloxideError]) -> None:
    error = kind("text")
    assert (error.run_id, error.node, error.item_id, error.attempt) == (None, None, None, None)
    assert pickle.loads(pickle.dumps(error)).args == ("text",)
    assert str(kind()) == ""


def test_notes_and_subclasses_travel_too() -> None:
    error = Own("mine", node="n", code=3)
    error.add_note("seen in the worker")
    made = pickle.loads(pickle.dumps(error))
    assert (type(made), made.code, made.node, made.__notes__) == (Own, 3, "n", ["seen in the worker"])


class Own(errors.StoreError):
    code = 0


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        (errors.WorkflowDefinitionError, ValueError),
        (errors.NotStartedError, LookupError),
        (errors.RunTimeoutError, TimeoutError),
        (errors.NodeTimeoutError, TimeoutError),
        (errors.SerializationError, TypeError),
        (errors.StoreLockedError, errors.StoreError),
        (errors.StoreCorruptError, errors.StoreError),
        (errors.StoreVersionError, errors.StoreError),
    ],
)
def test_what_else_catches_them(kind: type, also: type) -> None:
    assert issubclass(kind, also)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__ is not None
    for kind in ALL:
        assert kind.__name__ in errors.__doc__
