"""``docs/floxide.md``: the tests and names that its tables point to are there, and no place is left to be filled."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import floxide_mp
from floxide_mp import ports

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "floxide.md").read_text()
OFFERED, WRONG = PAGE.split("\n# Where the original is wrong\n")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
TODO = re.compile(r"TODO\(test\): [^|]+?(?= `| TODO| \|)")
HEADS = {
    OFFERED: ("floxide", "here", "test", "where and why ours differs"),
    WRONG: ("where", "what goes wrong", "ours", "test"),
}


class Row(NamedTuple):
    line: str
    cells: dict[str, str]


def rows(part: str) -> Iterator[Row]:
    for line in part.splitlines():
        if line.startswith("| ") and not line.startswith("| ---"):
            cells = tuple(cell.strip() for cell in line.split("|")[1:-1])
            assert len(cells) == 4, line
            if cells != HEADS[part]:
                yield Row(line, dict(zip(HEADS[part], cells, strict=True)))


@cache
def functions(path: str) -> frozenset[str]:
    return frozenset(n.name for n in ast.parse((ROOT / path).read_text()).body if isinstance(n, ast.FunctionDef))


@pytest.mark.parametrize("part", [OFFERED, WRONG], ids=["offered", "wrong"])
def test_each_row_has_a_test_or_says_why_not(part: str) -> None:
    found = list(rows(part))
    assert len(found) > 50
    for row in found:
        test = row.cells["test"]
        assert test, row.line
        if "*not carried over*" in test:
            assert row.cells["where and why ours differs"], row.line
        else:
            assert not re.sub(r"\s", "", TODO.sub("", TEST.sub("", test + " |"))).strip("|"), row.line


def test_the_tests_that_are_named_exist() -> None:
    named = set(TEST.findall(PAGE))
    assert len(named) > 50
    assert not [f"{path}::{name}" for path, name in sorted(named) if name not in functions(path)]


def test_the_names_in_the_second_column_exist() -> None:
    missing = set()
    for row in rows(OFFERED):
        for head, tail in re.findall(r"`([A-Z]\w+)(?:\.(\w+))?[^`]*`", row.cells["here"]):
            owner = getattr(floxide_mp if head in floxide_mp.__all__ else ports, head, None)
            if owner is None or (tail and not hasattr(owner, tail)):
                missing.add(f"{head}.{tail}" if tail else head)
        for example in re.findall(r"`examples\.(\w+)`", row.cells["here"]):
            if not (ROOT / "examples" / f"{example}.py").is_file():
                missing.add(f"examples.{example}")
    assert not missing, "\n".join(sorted(missing))


def test_no_place_is_left_to_be_filled() -> None:
    left = sorted(set(TODO.findall(PAGE)))
    assert not left, "\n".join(left)
    assert "TODO" not in PAGE
