"""``Check``: one promise that a suite holds somebody to, and how it is told that it is not kept. What is promised, and
by whom, is not here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..texts import shown


@dataclass(frozen=True)
class Check:
    """Call it: what is wrong is raised.

    Attributes:
        name: one word for it.
        promise: the sentence that it holds one to.
    """

    name: str
    promise: str
    body: Callable[[], None]

    def __call__(self) -> None:
        try:
            self.body()
        except Exception as error:
            error.add_note(f"\n{self.name}: {self.promise}")
            raise

    def __str__(self) -> str:
        return self.name


def run_all(checks: Sequence[Check]) -> None:
    """Run them all.

    Raises:
        ExceptionGroup: the failed ones' errors; its text names them.
    """
    failures: dict[str, Exception] = {}
    for check in checks:
        try:
            check()
        except Exception as error:
            failures[check.name] = error
    if failures:
        text = f"{len(failures)} of {len(checks)} checks failed: {', '.join(failures)}"
        raise ExceptionGroup(text, list(failures.values()))


def equal(what: str, found: Any, expected: Any) -> None:
    """Hold two values to be equal.

    Raises:
        AssertionError: they are not.
    """
    if found != expected:
        raise AssertionError(f"{what}: expected {_short(expected)}, found {_short(found)}")


def raised(kind: type[BaseException], error: BaseException | None) -> None:
    """Hold an error to be one of that kind.

    Raises:
        AssertionError: it is another one, which is its cause, or none.
    """
    if not isinstance(error, kind):
        raise AssertionError(f"expected {kind.__name__}, found {_short(error)}") from error


def _short(value: Any) -> str:
    text = shown(value)
    return text if len(text) <= 600 else f"{text[:300]} ... {text[-300:]}"
