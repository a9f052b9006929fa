"""``docs/faults.md``: each row of the fault table is there, with tests that exist and carry its number in their names.

A test that is named and does not exist fails this suite; so does a test of a row that the page does not have.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "faults.md").read_text()
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
NUMBERS = re.compile(r"test_rows?_(\d\d\d?(?:_(?:to_|row_)?\d\d\d?)*)_")
LATER = {36, 42, 52, 83}  # may come later
GONE = {37}  # was of migrations: a file of another version is refused, row 38
ALL = set(range(1, 84)) - LATER - GONE


def rows() -> Iterator[tuple[int, list[str]]]:
    """(number, cells) of each row."""
    for line in PAGE.splitlines():
        if re.match(r"\| \d", line):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            assert len(cells) == 4, line
            yield int(cells[0]), cells


def numbers(name: str) -> set[int]:
    """The rows that a test's name carries: ``test_rows_01_to_03_07_x`` has 1, 2, 3 and 7."""
    found = NUMBERS.match(name)
    if found is None:
        return set()
    made: set[int] = set()
    for first, last in re.findall(r"(\d\d\d?)(?:_to_(\d\d\d?))?", found[1]):
        made |= set(range(int(first), int(last or first) + 1))
    return made


@cache
def functions(path: str) -> frozenset[str]:
    file = ROOT / path
    if not file.exists():
        return frozenset()
    return frozenset(n.name for n in ast.parse(file.read_text()).body if isinstance(n, ast.FunctionDef))


def test_the_rows_of_a_name() -> None:
    assert numbers("test_row_14_x") == {14}
    assert numbers("test_rows_01_to_03_07_x") == {1, 2, 3, 7}
    assert numbers("test_row_07_row_18_x") == {7, 18}
    assert numbers("test_row_09_3_quick_deaths") == {9}
    assert numbers("test_row_107_x") == {107}
    assert numbers("test_rows_99_to_101_107_x") == {99, 100, 101, 107}
    assert numbers("test_borrow_14") == set()


def test_each_row_is_there_once_and_in_order() -> None:
    found = [number for number, _ in rows()]
    assert found == sorted(set(found))
    assert set(found) >= ALL and not GONE & set(found)


def test_each_row_says_what_is_seen_and_which_test_shows_it() -> None:
    for number, (_, fault, seen, tests) in rows():
        assert fault, number
        assert seen, number
        assert TEST.findall(tests), number
        assert not re.sub(r"[\s,]", "", TEST.sub("", tests)), f"row {number}: {tests}"


def test_the_tests_of_a_row_carry_its_number() -> None:
    wrong = [(n, name) for n, cells in rows() for _, name in TEST.findall(cells[3]) if n not in numbers(name)]
    assert not wrong


def test_the_tests_that_are_named_exist() -> None:
    """Nothing is passed over: a row whose test is still missing is listed here."""
    missing = [
        f"row {n}: {path}::{name}"
        for n, cells in rows()
        for path, name in TEST.findall(cells[3])
        if name not in functions(path)
    ]
    assert not missing, "\n".join(missing)


def test_tests_of_rows_are_tests_of_rows_that_there_are() -> None:
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name in functions(str(path.relative_to(ROOT))):
            if name.startswith(("test_row_", "test_rows_")):
                assert numbers(name), f"{path}: {name}"
                assert numbers(name) <= {number for number, _ in rows()} | LATER, f"{path}: {name}"
