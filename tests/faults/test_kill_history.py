"""The checker of ``soak_kills`` finds what must not be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.faults.kill_history import Facts, Line, check_facts, check_history, parse

KEYS = {"a 0/", "b 1/0", "b 1/1"}
OUTPUTS = [(7, ("a 0/", "b 1/0")), (8, ("a 0/", "b 1/1"))]
GOOD: list[Line] = [
    ["born", 10],
    ["opened", 10, False, False, 0],
    ["started", 10],
    ["did", "a 0/", 1, 11],
    ["did", "b 1/1", 1, 11],
    ["told", 10, 0, 8, "b 1/1", ["a 0/", "b 1/1"]],
    ["looked", 10, 2, [], []],
    ["did", "b 1/0", 1, 12],
    ["killing", "tree", [10]],
    ["killed", "tree"],
    ["opened", 20, True, False, 2],
    ["started", 20],
    ["did", "b 1/0", 1, 21],
    ["told", 20, 0, 8, "b 1/1", ["a 0/", "b 1/1"]],
    ["told", 20, 1, 7, "b 1/0", ["b 1/0"]],
    ["done", 20],
    ["closed", 20, {"threads": []}],
]


def changed(number: int, *lines: Line) -> list[Line]:
    return [*GOOD[:number], *lines, *GOOD[number + 1 :]]


def test_a_good_history() -> None:
    assert check_history(GOOD, KEYS, OUTPUTS) == {"steps": 3, "executed again": 1}


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (changed(4), "never executed"),
        (changed(4, GOOD[4], ["did", "c 1/2", 1, 11]), "unknown"),
        (changed(7, ["did", "b 1/1", 2, 12]), "was acknowledged before"),
        (changed(7, GOOD[7], GOOD[7]), "nobody was killed in between"),
        (changed(8), "nobody was killed in between"),
        (
            [*changed(7, ["did", "b 1/0", 2, 12])[:8], ["killing", "worker"], ["killed", "worker"], *GOOD[12:]],
            "attempt 2",
        ),
        (changed(9, GOOD[9], ["looked", 20, 2, [["b 1/0", 1]], []]), "attempt 1 was acknowledged"),
        (changed(10, ["opened", 20, False, False, 0]), "is lost"),
        (changed(10, ["opened", 20, True, False, 1]), "2 were completed"),
        (changed(12, GOOD[12], ["looked", 20, 1, [], []]), "2 were completed"),
        (changed(8, ["done", 10]), "was told 1 of 2|the run was completed"),
        (changed(16, GOOD[16], ["opened", 30, True, False, 3]), "the run was completed"),
        (changed(15, GOOD[15], ["did", "b 1/0", 3, 21]), "was acknowledged before"),
        (changed(16, ["closed", 20, {"threads": ["one"]}]), "threads"),
        (changed(13, ["told", 20, 0, 9, "b 1/1", []]), "was .8"),
        (changed(13), "is number 0"),
        (changed(14, ["told", 20, 1, 8, "b 1/1", []]), "told twice"),
        (changed(14), "only .* was told"),
    ],
)
def test_what_must_not_be(lines: list[Line], problem: str) -> None:
    with pytest.raises(AssertionError, match=problem):
        check_history(lines, KEYS, OUTPUTS)


def test_an_attempt_that_was_not_on_disk_has_not_happened() -> None:
    check_history(changed(7, ["did", "b 1/0", 2, 12]), KEYS, OUTPUTS)


def test_an_execution_while_somebody_is_killed_may_be_lost() -> None:
    check_history([*GOOD[:7], GOOD[8], GOOD[7], *GOOD[9:]], KEYS, OUTPUTS)
    with pytest.raises(AssertionError, match="nobody was killed"):
        check_history([*GOOD[:7], *GOOD[8:10], GOOD[7], *GOOD[10:]], KEYS, OUTPUTS)


FACTS = Facts(OUTPUTS, ["a", "book 1 seen 1", "book 2 seen 0"], 5, "x", (3, 3, 0))


def test_facts_may_differ_in_the_order_of_bookings_only() -> None:
    check_facts(FACTS._replace(events=["a", "book 1 seen 0", "book 2 seen 1"]), FACTS)


@pytest.mark.parametrize(
    "change",
    [
        {"outputs": OUTPUTS[:1]},
        {"outputs": OUTPUTS[::-1]},
        {"events": FACTS.events[:2]},
        {"events": ["b", *FACTS.events[1:]]},
        {"events": ["a", "book 1 seen 0", "book 2 seen 0"]},
        {"sum": 6},
        {"last": "y"},
        {"counts": (4, 3, 0)},
    ],
)
def test_facts_that_are_others(change: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        check_facts(FACTS._replace(**change), FACTS)


def test_lines_that_a_kill_cut_short() -> None:
    text = b"\n" + b"\n".join(json.dumps(line).encode() for line in GOOD[:9])
    assert parse(text + b'\n["did", "b 1') == GOOD[:9]
    with pytest.raises(AssertionError, match="cut short by 0 kills"):
        parse(b'\n["did", "b 1\n["born", 1]')
