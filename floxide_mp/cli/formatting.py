"""What a person sees: values, failures and tracebacks as text. Who prints it, and where, is decided in ``cli``."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import Any, Final, NoReturn

from ..errors import FloxideError, WorkflowDefinitionError
from ..texts import printable
from ..types import RunInfo

PROGRAM: Final = "floxide-mp"
MOST_STOPPED: Final = 2  # runs that are told of one by one: all that a stopped program says is five lines
MACHINERY: Final = ("floxide_mp", "importlib", "runpy", "_frozen_importlib", "_frozen_importlib_external")


class CliError(Exception):
    """What is asked for cannot be done. The ``text`` is all that standard error gets, ``code`` the exit code."""

    def __init__(self, text: str, code: int = 2) -> None:
        super().__init__(text)
        self.code = code


class Parser(argparse.ArgumentParser):
    """Reads arguments; what it cannot make sense of is ``CliError``."""

    def error(self, text: str) -> NoReturn:
        raise CliError(message(text, f"{self.prog} --help says more"))


class LogLines(logging.Formatter):
    """Formats log records without what a terminal would take for an order: they may quote what a stranger sent."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def line_of(value: Any) -> str:
    """An output as one line: JSON where it can be said in JSON, else its ``repr``."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        pass  # and what the user's repr may raise does not come "during the handling" of this
    return " ".join(repr(value).splitlines())


def message(text: str, hint: str = "") -> str:
    """One line from the program, and one with what to do about it."""
    return f"{PROGRAM}: {text}\n" + (f"  {hint}\n" if hint else "")


def failure(error: FloxideError) -> str:
    """Why a run did not complete: a line that names run, node, item and attempt, then what the worker has to say."""
    cause = error.__cause__
    notes = getattr(cause, "__notes__", None) or [""]
    told = notes[-1].strip("\n")  # the worker's traceback, where the codec puts it
    if len(told.splitlines()) <= 2:
        told = ""  # an error that was never raised: the line has said it all
    return message(str(error)) + (f"{told}\n" if told else "")


def completed(info: RunInfo) -> str:
    """A completed run in one line."""
    counts = info.metrics
    seconds = (info.finished_at or info.started_at) - info.started_at
    return (
        f"run {info.run_id} completed after {seconds:.2f} s: {counts.completed} steps, "
        f"{counts.failed} failed, {counts.retries} tried again"
    )


def stopped(infos: Sequence[RunInfo], name: str, command: str = "") -> str:
    """Runs that a signal ended, a line each if they are few, and the ``command`` that goes on with them, if any."""
    lines = []
    for info in infos[:MOST_STOPPED]:
        counts = info.metrics
        left = counts.total_work_items - counts.completed - counts.failed
        lines.append(f"run {info.run_id} was stopped by {name}: {counts.completed} steps are done, {left} are left")
    if len(infos) > MOST_STOPPED:
        lines.append(f"{len(infos) - MOST_STOPPED} more runs were stopped by {name}")
    if command:
        lines[-1] += "; this goes on:"
    return "".join(map(message, lines[:-1])) + message(lines[-1], command)


def kept(command: str) -> str:
    """That a failed run is not lost, and the command that goes on with it."""
    return message("its finished steps are kept; when what was wrong is mended, this goes on with the rest:", command)


def user_traceback(error: BaseException) -> str:
    """The traceback of a user's error, without this package's frames and the import system's above the user's."""
    inner = error.__traceback__
    while inner is not None and _is_machinery(inner.tb_frame.f_globals.get("__name__", "")):
        inner = inner.tb_next
    return "".join(traceback.format_exception(type(error), error, inner))


def wrong_workflow(error: WorkflowDefinitionError) -> str:
    """What is wrong with a graph, after the place of the class statement that declares it."""
    frames = traceback.extract_tb(error.__traceback__)
    calls = list(zip(frames, _modules(error), strict=True))
    where = [f"{frame.filename}:{frame.lineno}: " for frame, module in calls if not _is_machinery(module)]
    return message(f"{where[-1] if where else ''}{error}")


def listed(names: Iterable[str]) -> str:
    """Names for a sentence: ``Orders, Returns``."""
    return ", ".join(sorted(names))


def _is_machinery(module: str) -> bool:
    return module.split(".")[0] in MACHINERY


def _modules(error: BaseException) -> list[str]:
    return [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]


def say(text: str) -> None:
    """Write to standard error, whatever has become of it."""
    try:
        print(printable(text), end="", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass  # nobody is there to read
