"""What a history of executions, kills and told facts must be like. Knows nothing of the engine: only what steps and
programs wrote down, in the one order in which they did, and what there is in the end.

A line is a list: ``did`` KEY ATTEMPT PID by a step that is executed; by a program, with its PID, ``born``, ``opened``
FOUND OVER COMPLETED, ``started``, ``told`` INDEX NUMBER KEY KEYS, ``looked`` COMPLETED ATTEMPTS KEYS, ``paused``,
``failed``, ``done``, ``closed`` LEFTOVERS; by whoever kills ``killing`` WHOM and, when it is dead, ``killed``. KEYS are
steps that the program knows by this to be committed, ATTEMPTS pairs of a step and an attempt that has failed.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

Line = list[Any]


class Facts(NamedTuple):
    """What a run came to. Outputs and events are in the run's order; ``counts``: items, completed, failed."""

    outputs: list[Any]
    events: list[str]
    sum: int
    last: str
    counts: tuple[int, int, int]


def parse(text: bytes) -> list[Line]:
    """The lines, but for those that a kill cut short.

    Raises:
        AssertionError: more were cut short than were written when somebody was killed.
    """
    found, torn = [], 0
    for line in filter(None, text.split(b"\n")):
        try:
            found.append(json.loads(line))
        except ValueError:
            torn += 1
    kills = sum(line[0] == "killing" for line in found)
    assert torn <= 4 * kills, f"{torn} lines are cut short by {kills} kills"
    return found


def executed(lines: Iterable[Line]) -> set[str]:
    """The keys of the steps that were executed."""
    return {line[1] for line in lines if line[0] == "did"}


def check_history(lines: Sequence[Line], keys: set[str], outputs: Sequence[Any]) -> Counter[str]:
    """Raise ``AssertionError`` for what must not be; counts what there was.

    Args:
        keys: the steps of the undisturbed run.
        outputs: of the run, each a number and the keys of the steps that it came of.
    """
    done = executed(lines)
    assert done == keys, f"never executed: {sorted(keys - done)[:9]}; unknown: {sorted(done - keys)[:9]}"
    _check_acknowledged(lines)
    _check_programs(lines)
    told = _check_outputs(lines)
    assert sorted(told) == sorted((number, trail[-1]) for number, trail in outputs), f"only {told} was told"
    return Counter({"steps": len(keys), "executed again": _repeated(lines)})


def check_facts(got: Facts, expected: Facts) -> None:
    """The run came to what it comes to undisturbed; but that a booking sees those that were committed before it."""
    assert got.outputs == expected.outputs, first_difference(got.outputs, expected.outputs)
    plain, bookings = _bookings(got.events)
    expected_plain, _ = _bookings(expected.events)
    assert plain == expected_plain, first_difference(plain, expected_plain)
    assert sorted(bookings) == list(range(len(bookings))), f"a booking did not see those before it: {sorted(bookings)}"
    assert got[2:] == expected[2:], f"{got[2:]}, and undisturbed {expected[2:]}"


def first_difference(got: Sequence[Any], expected: Sequence[Any]) -> str:
    for number, (one, other) in enumerate(zip(got, expected, strict=False)):
        if one != other:
            return f"number {number} is {one!r}, and undisturbed {other!r}"
    return f"{len(got)} of them, and undisturbed {len(expected)}: {[*got, *expected][min(len(got), len(expected))]!r}"


def _bookings(events: Iterable[str]) -> tuple[list[str], list[int]]:
    parts = [event.partition(" seen ") for event in events]
    return [text for text, _, _ in parts], [int(seen) for _, mark, seen in parts if mark]


def _check_acknowledged(lines: Sequence[Line]) -> None:
    """What somebody was told of is not executed any more: steps, and attempts of them."""
    known: set[str] = set()
    attempts: dict[str, int] = {}
    for number, line in enumerate(lines):
        if line[0] in ("told", "looked"):
            known.update(line[-1])
        if line[0] == "looked":
            attempts.update(sorted(line[3]))
        elif line[0] == "failed":
            attempts.clear()  # what is unfinished is tried again as if for the first time
        elif line[0] == "did":
            assert line[1] not in known, f"line {number}: {line} was acknowledged before"
            assert line[2] > attempts.get(line[1], 0), f"line {number}: attempt {attempts[line[1]]} was acknowledged"


def _repeated(lines: Sequence[Line]) -> int:
    """How many executions there were of attempts that had been made before.

    That is to be only where somebody was killed while, or after, the earlier one was written down; or where the run
    failed and what was unfinished began anew. What was not on disk when a program was killed has not happened, so
    there the number of an attempt may go back. Other than that, no attempt is made twice, and their numbers grow.
    """
    again = 0
    before: dict[str, tuple[int, int, int]] = {}  # key -> attempt, and how many disturbances, and ends, were over
    begun = over = ends_begun = ends_over = 0
    for number, line in enumerate(lines):
        ends = line[0] == "failed" or line[1] != "worker"
        if line[0] in ("killing", "failed"):
            begun, ends_begun = begun + 1, ends_begun + ends
        if line[0] in ("killed", "failed"):
            over, ends_over = over + 1, ends_over + ends
        if line[0] == "did":
            _, key, attempt, _ = line
            last, quiet, whole = before.get(key, (0, over, ends_over))
            if attempt <= last:
                again += 1
                assert begun > quiet, f"line {number}: {line} follows attempt {last}, and nobody was killed in between"
                assert attempt == last or ends_begun > whole, f"line {number}: {line} follows attempt {last}"
            before[key] = attempt, over, ends_over
    return again


def _check_programs(lines: Sequence[Line]) -> None:
    """Runs that were started, and steps that were counted, are there for the next program; what is over stays so."""
    started = over = False
    counted = 0
    for number, line in enumerate(lines):
        where = f"line {number}: {line}"
        if line[0] == "opened":
            _, _, found, completed, count = line
            assert found or not started, f"{where}: the run that was started is lost"
            assert completed or not over, f"{where}: the run was completed"
            assert count >= counted, f"{where}: {counted} were completed"
            counted, over = count, completed
        elif line[0] == "started":
            started = True
        elif line[0] == "looked":
            assert line[2] >= counted, f"{where}: {counted} were completed"
            counted = line[2]
        elif line[0] == "done":
            over = True
        elif line[0] == "did":
            assert not over, f"{where}: the run was completed"
        elif line[0] == "closed":
            assert not any(line[2].values()), where


def _check_outputs(lines: Sequence[Line]) -> list[tuple[int, str]]:
    """Each program is told the same outputs in the same order, none twice, and whoever is told the end, all."""
    known: list[tuple[int, str]] = []
    told: dict[int, int] = defaultdict(int)  # by program
    for number, line in enumerate(lines):
        if line[0] == "told":
            _, pid, index, value, key, _ = line
            assert index == told[pid], f"line {number}: {line} is number {told[pid]}"
            told[pid] += 1
            if index == len(known):
                known.append((value, key))
            assert known[index] == (value, key), f"line {number}: {line} was {known[index]}"
        elif line[0] == "done":
            assert told[line[1]] == len(known), f"line {number}: {line[1]} was told {told[line[1]]} of {len(known)}"
    assert len({key for _, key in known}) == len(known), "an output was told twice"
    return known
