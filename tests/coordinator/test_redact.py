"""Nodes whose values are secret (``redact``): no text of ours quotes them, in no error, store or command's output."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import BatchNode, Next, NextAll, Node, RunFailedError, SerializationError, Workflow, node

SECRET = "hunter2"


@dataclass
class Login:
    user: str
    password: str


class CarriesError(ConnectionError):
    """As those of HTTP libraries: the request, with its headers, is an attribute."""


class ExtraError(Exception):
    """Whose text needs what is not among its arguments."""

    def __str__(self) -> str:
        return str(self.__dict__["code"])


@node(redact=True)
def login(how: str) -> Any:
    value = Login("me", SECRET)
    if how == "in a list":
        return [Next(value)]
    if how == "inside":
        return NextAll([Next(value)])
    if how == "text":
        return NextAll(SECRET)
    if how == "key":
        return {SECRET: threading.Lock()}
    if how == "nearly":
        return 7.0
    return value


@node(redact=True)
def use(how: str) -> int:
    if how == "extra":
        extra = ExtraError("403")
        extra.code = 403  # type: ignore[attr-defined]
        raise extra
    error = CarriesError(403, "forbidden")
    error.headers = {"Authorization": f"Bearer {SECRET}"}  # type: ignore[attr-defined]
    raise error


class Logins(Workflow):
    login, end = login, node(lambda value: value)
    start, edges = login, {login: {int: [end], 7: [end]}}


class Plain(Workflow):
    login = start = login


class Uses(Workflow):
    use = start = use


class InBatch(Workflow):
    batch = start = BatchNode(login, 1)


def failed(flow: type[Workflow], given: Any, tmp_path: Path, engine: int) -> RunFailedError:
    """The error of a run; nothing of it, of its store or of what ``show`` prints has the secret."""
    path = tmp_path / "runs.db"
    with pytest.raises(RunFailedError) as caught:
        flow().run(given, workers=engine, store=str(path), run_id="r")
    error = caught.value
    cause = error.__cause__
    assert SECRET not in f"{error} {cause!r} {vars(cause)}"
    command = [sys.executable, "-m", "floxide_mp", "show", "r", "--store", str(path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "failed attempts" in shown
    assert SECRET not in shown
    assert not any(SECRET.encode() in file.read_bytes() for file in tmp_path.iterdir())
    return error


@pytest.mark.parametrize("engine", [0, 1])
@pytest.mark.parametrize(
    ("flow", "how", "text"),
    [
        (Logins, "no arm", "no arm matches a Login (its value is not shown: redact); the arms are: int, 7"),
        (Logins, "nearly", "no arm matches a float (its value is not shown: redact); the arms are: int, 7"),
        (Plain, "in a list", "returned a list with a Next (its value is not shown: redact) in it"),
        (Plain, "inside", "returned a Next (its value is not shown: redact) inside Next or NextAll"),
        (Plain, "text", "returned NextAll(a str (its value is not shown: redact)); it takes"),
        (InBatch, ["text"], "returned NextAll(a str (its value is not shown: redact)); it takes"),
    ],
)
def test_row_130_messages_name_types(flow: Any, how: Any, text: str, engine: int, tmp_path: Path) -> None:
    error = failed(flow, how, tmp_path, engine)
    assert text in str(error)
    if how == "nearly":
        assert str(error).endswith("the arms are: int, 7")


@pytest.mark.parametrize("engine", [0, 1])
def test_row_130_keys_of_dicts_are_not_quoted(engine: int, tmp_path: Path) -> None:
    error = failed(Plain, "key", tmp_path, engine)
    assert isinstance(error.__cause__, SerializationError)
    assert "the result of login cannot be pickled: a part of it is a lock" in str(error)


@pytest.mark.parametrize("engine", [0, 1])
def test_row_130_of_an_exception_class_and_arguments_are_kept(engine: int, tmp_path: Path) -> None:
    cause = failed(Uses, "carries", tmp_path, engine).__cause__
    assert isinstance(cause, CarriesError)
    assert (cause.errno, str(cause)) == (403, "[Errno 403] forbidden")
    assert not hasattr(cause, "headers")


def test_row_130_an_exception_that_is_nothing_without_what_it_carries_is_a_text(tmp_path: Path) -> None:
    cause = failed(Uses, "extra", tmp_path, 1).__cause__
    assert str(cause) == "ExtraError: 403"


def test_without_it_values_are_quoted_and_200_characters_are_enough() -> None:
    class Open(Workflow):
        first = start = node(lambda how: Login("me", SECRET * 100))
        end = node(lambda value: value)
        edges = {first: {int: [end]}}

    with pytest.raises(RunFailedError, match=r"no arm matches Login\(user='me', password='hunter2hunter2") as caught:
        Open().run("", workers=0)
    assert SECRET * 30 not in str(caught.value)


def test_it_is_true_or_false() -> None:
    with pytest.raises(ValueError, match="redact must be True or False, not 1"):
        node(redact=1)(len)  # type: ignore[call-overload]
    assert Node.redact is False
