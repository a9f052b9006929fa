"""The contenders of the benchmarks: their processes, the tasks they run, the patterns of those, METG, the picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from benchmarks.contender import Contender, Peer, take_turns
from benchmarks.tasks import Tasks, clocked, ideal, lengths


@contextmanager
def here(directory: str) -> Iterator[Tasks]:
    yield Tasks(lambda function, values: [function(value) for value in values])


@contextmanager
def broken(directory: str) -> Iterator[NoReturn]:
    raise RuntimeError("cannot be opened")
    yield


@contextmanager
def forgetful(directory: str) -> Iterator[Tasks]:
    yield Tasks(lambda function, values: [])


HERE = Contender("here", here, steps=(10, 0), warm=1)


def test_a_contender_is_asked_in_its_own_process() -> None:
    with Peer(HERE) as peer:
        assert peer.time("fan_out", 10) > 0
        assert peer.time("alike", 3, 5) > 0
        assert peer.time("skewed", "heavy tail", 8, 5) > 0
        assert 1e-9 < peer.figure("clock", 3, 1000) < 1e-4


def test_turns_rotate_and_those_that_fail_have_no_more() -> None:
    told = []
    contenders = {
        "a": HERE,
        "forgetful": Contender("forgetful", forgetful, steps=(0, 0)),
        "broken": Contender("broken", broken),
        "rare": HERE._replace(every=2),
    }

    def turn(name: str, number: int, peer: Peer) -> None:
        told.append((number, name))
        peer.time("fan_out", 2)

    failed = take_turns(contenders, 4, 10.0, turn)
    assert told == [(0, "a"), (0, "forgetful"), (0, "rare"), (1, "a"), (2, "rare"), (2, "a"), (3, "a")]
    assert failed.keys() == {"broken", "forgetful"}
    assert "RuntimeError: cannot be opened" in failed["broken"]
    assert "0 results of 2" in failed["forgetful"]


def test_no_round_begins_when_time_is_up() -> None:
    told = []
    take_turns({"a": HERE}, 5, 0.0, lambda name, number, peer: told.append(number))
    assert told == [0]


def test_what_has_to_be_installed_is_named() -> None:
    assert HERE.missing() is None
    needs = (("py", "json"), ("some-package", "no_such_module.of_it"))
    assert HERE._replace(needs=needs).missing() == "some-package"


def test_one_long_task_is_a_quarter_of_all_and_can_be_balanced() -> None:
    values = lengths("one long", 100, 40)
    assert values[75] == 1000 and set(values[:75] + values[76:]) == {40}
    assert ideal(values, 2) == sum(values) / 2
    assert ideal([1, 1, 8], 2) == 8


def test_a_heavy_tail_has_the_mean_that_was_asked_for() -> None:
    values = lengths("heavy tail", 1000, 500)
    assert values == lengths("heavy tail", 1000, 500)
    assert abs(sum(values) / 1000 - 500) < 1
    assert max(values) > 20 * sorted(values)[500]


def test_an_iteration_takes_time() -> None:
    assert clocked(20_000) > 0
