"""The contenders of the benchmarks: their processes, the tasks they run, the patterns of those, METG, the picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import NoReturn
from xml.etree import ElementTree

import pytest

from benchmarks import patterns, picture
from benchmarks.contender import Contender, Peer, take_turns
from benchmarks.metg import Plan, geometric, swept
from benchmarks.patterns import PATTERNS, Point, metg, parents
from benchmarks.steps import compared
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


def test_no_turn_begins_when_time_is_up() -> None:
    told = []
    take_turns({"a": HERE, "b": HERE}, 5, 0.0, lambda name, number, peer: told.append(name))
    assert told == ["a"]


def test_only_rounds_that_both_had_are_compared() -> None:
    assert compared({0: 2.0, 2: 6.0}, {0: 1.0, 1: 5.0, 2: 2.0}) == (2.25, 2.5, 2.75)


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


def test_who_depends_on_whom() -> None:
    assert [parents("chain", 4, 1, c) for c in range(4)] == [[0], [1], [2], [3]]
    assert [parents("stencil_1d", 4, 1, c) for c in range(4)] == [[0, 1], [0, 1, 2], [1, 2, 3], [2, 3]]
    assert [parents("tree", 8, 3, c) for c in range(8)] == [[0], [0], [1], [1], [2], [2], [3], [3]]
    assert [parents("fft", 8, row, 3) for row in range(1, 5)] == [[2, 3, 4], [1, 3, 5], [3, 7], [2, 3, 4]]
    assert all(c in parents("random_nearest", 8, row, c) for row in range(1, 20) for c in range(8))
    with pytest.raises(ValueError, match="no pattern 'ring'"):
        parents("ring", 4, 1, 0)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_has_its_tasks_and_runs_in_our_words(pattern: str) -> None:
    width, rows = 4, 4
    found = list(patterns.tasks(pattern, width, rows))
    assert len(found) == patterns.count(pattern, width, rows) == (11 if pattern == "tree" else 16)
    there = {(row, column) for row, column, _ in found}
    for row, column, above in found:
        assert all((row - 1, parent) in there for parent in above) and above == parents(pattern, width, row, column)
    last = there - {(row - 1, parent) for row, _, above in found for parent in above}
    result = patterns.workflow(pattern, width, rows)().run(3)
    assert result.outputs == [3] * len(last)
    assert result.metrics.completed == len(found) + 1


def test_metg_is_read_off_between_two_points() -> None:
    points = [Point(1e-2, 0.99), Point(1e-3, 0.8), Point(1e-4, 0.2)]
    assert metg(points) == pytest.approx(10**-3.5)
    assert metg(points, 0.8) == pytest.approx(1e-3)
    assert metg(points, 0.1) == 1e-4
    assert metg(points, 0.995) == inf
    assert metg([Point(1e-3, 0.9), Point(1e-4, 0.3), Point(1e-5, 0.6)]) == 1e-5


def test_lengths_fall_geometrically_down_to_the_shortest() -> None:
    assert list(geometric(100.0, 1.0)) == pytest.approx([100, 100 / 10**0.5, 10, 10**0.5, 1])
    assert list(geometric(1.0, 1.0)) == [1.0]


def test_a_sweep_ends_when_it_is_hopeless_and_expects_what_it_has_seen() -> None:
    plan = Plan((1.0, 0.1, 0.01, 0.001), 1.0, 16, 1000.0, (), frozenset())
    expected = []

    def run(iterations: int, each: float) -> tuple[int, float]:
        expected.append(each)
        return 10, 10 * (iterations / 1000 / 2 + 0.05)  # on two workers, and 50 ms more for each

    points = swept(plan, lambda: 1e-3, run)
    assert [p.efficiency for p in points] == pytest.approx([0.5 / 0.55, 0.05 / 0.1, 0.005 / 0.055])
    assert expected == pytest.approx([0.5, 0.1, 0.055])


def test_the_picture_is_svg_with_every_curve_axis_and_label() -> None:
    curve = [Point(1e-2, 0.9), Point(1.05e-6, 0.2)]
    drawn = picture.lines({"ours": "ours: 1 µs", "disk": "on disk"}, {"theirs": "<theirs> & others"})
    panels = [picture.Panel("first", {"theirs": curve, "ours": curve}), picture.Panel("second", {"ours": curve})]
    root = ElementTree.fromstring(picture.svg("A title", panels, drawn))
    space = "{http://www.w3.org/2000/svg}"
    texts = [text.text for text in root.iter(f"{space}text")]
    assert {"A title", "first", "second", "ours: 1 µs", "on disk", "<theirs> & others"} <= set(texts)
    assert [t for t in texts if t in ("1 µs", "10 ms", "100 ms", "0 %", "100 %")].count("1 µs") == 2
    assert "100 ms" not in texts
    paths = [line.attrib["points"] for line in root.iter(f"{space}polyline")]
    assert len(paths) == 3 and all(len(path.split()) == 2 for path in paths)
    height, width = float(root.attrib["height"]), float(root.attrib["width"])
    for x, y in (point.split(",") for path in paths for point in path.split()):
        assert 0 <= float(x) <= width and 0 <= float(y) <= height
