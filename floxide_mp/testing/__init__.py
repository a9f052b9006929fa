"""For those who write an engine of their own: does it keep what ``floxide_mp.ports`` says of one? Needs no pytest.

    from floxide_mp.testing import check_engine

    check_engine(lambda ledger, workers: MyEngine(ledger, workers), workers=2)

What a check finds wrong is an ``AssertionError`` that says what was promised, what was expected and what there was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engines import check_engine, engine_checks


def __getattr__(name: str) -> Any:
    # Worker processes import workflows from this package, and none of the rest: they start sooner.
    if name in __all__:
        from . import engines

        return getattr(engines, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})  # also what is imported later: for completion and ``help``


__all__ = ["check_engine", "engine_checks"]
