"""The tasks of ``schedulers.redun``, in a module that its processes import by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redun import task

from benchmarks.flows import noop
from benchmarks.tasks import busy, clocked

steps_of: dict[Callable[..., Any], Any] = {
    function: task(name=function.__name__, namespace="benchmarks", cache=False, load_module=__name__)(function)
    for function in (noop, busy, clocked)
}
