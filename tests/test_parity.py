"""``tests/parity.toml``: what the Rust crate floxide offers, and where it is wrong, each with the test that shows what
this package does. The tests and names that its rows point to are there.
"""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import floxide_mp
from floxide_mp import ports

ROOT = Path(__file__).parent.parent
ROWS: dict[str, list[dict[str, Any]]] = tomllib.loads((ROOT / "tests" / "parity.toml").read_text())


@cache
def functions(path: str) -> frozenset[str]:
    return frozenset(n.name for n in ast.parse((ROOT / path).read_text()).body if isinstance(n, ast.FunctionDef))


@pytest.mark.parametrize("part", ["offered", "wrong"])
def test_each_row_has_a_test_or_says_why_not(part: str) -> None:
    assert len(ROWS[part]) > 50
    for row in ROWS[part]:
        assert row["tests"] or (part == "offered" and row.get("differs")), row


def test_the_tests_that_are_named_exist() -> None:
    named = {test for rows in ROWS.values() for row in rows for test in row["tests"]}
    assert len(named) > 50
    split = (test.split("::") for test in sorted(named))
    assert not [f"{path}::{name}" for path, name in split if name not in functions(path)]


def test_the_names_of_this_package_exist() -> None:
    missing = set()
    for row in ROWS["offered"]:
        for head, tail in re.findall(r"`([A-Z]\w+)(?:\.(\w+))?[^`]*`", row["here"]):
            owner = getattr(floxide_mp if head in floxide_mp.__all__ else ports, head, None)
            if owner is None or (tail and not hasattr(owner, tail)):
                missing.add(f"{head}.{tail}" if tail else head)
        for example in re.findall(r"`examples\.(\w+)`", row["here"]):
            if not (ROOT / "examples" / f"{example}.py").is_file():
                missing.add(f"examples.{example}")
    assert not missing, "\n".join(sorted(missing))
