"""For those who write an engine or a store of their own: does it keep what ``floxide_mp.ports`` says of one? Needs no
pytest.

    from floxide_mp.testing import check_engine, check_store

    check_engine(lambda scheduler, workers: MyEngine(scheduler, workers), workers=2)
    check_store(MyStore)

What a check finds wrong is an ``AssertionError`` that says what was promised, what was expected and what there was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engines import check_engine, engine_checks
    from .stores import STORE_CHECKS, check_store


def __getattr__(name: str) -> Any:
    # Worker processes import workflows from this package, and none of the rest: they start sooner.
    if name in ("check_engine", "engine_checks"):
        from . import engines

        return getattr(engines, name)
    if name in __all__:
        from . import stores

        return getattr(stores, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})  # also what is imported later: for completion and ``help``


__all__ = ["STORE_CHECKS", "check_engine", "check_store", "engine_checks"]
