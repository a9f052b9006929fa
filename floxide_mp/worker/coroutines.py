"""Nodes that are coroutines: each is run by a loop of its own, in its step's process and, if it can be, thread."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from .forks import end_child, mark


def awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
    import asyncio  # 40 ms that most workers never need

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(coroutine)
    from concurrent.futures import ThreadPoolExecutor

    # Inline, in a thread that runs a loop already, as a notebook's does: a loop of its own needs a thread of its own.
    with ThreadPoolExecutor(1) as elsewhere:
        return elsewhere.submit(_run, coroutine).result()


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    import asyncio

    pid = mark[0]
    try:
        result = asyncio.run(coroutine)
    except BaseException as failure:
        if mark[0] != pid:
            end_child(failure)
        raise
    if mark[0] != pid:
        end_child(None)
    return result
