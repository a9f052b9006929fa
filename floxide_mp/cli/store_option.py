"""``--store PATH`` on the command line: looking into the store, what is said when that fails, and the command that goes
on with a run. What a store holds is shown by ``runs_command``, ``context_command`` and ``db_command``.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

from ..errors import StoreCorruptError, StoreError, StoreLockedError, StoreVersionError
from ..graph.validate import nearest
from . import formatting
from .formatting import CliError

if TYPE_CHECKING:  # looking into a store brings along what a run in memory does not need
    from ..ports import RunRecord
    from ..stores.sqlite.reader import Reader

PLACEHOLDER: Final = "MODULE"  # in commands about runs whose module nobody has named

PACKAGE: Final = __package__.partition(".")[0]  # what ``python -m`` is given


def add(parser: argparse.ArgumentParser, what: str, required: bool = True) -> None:
    parser.add_argument("--store", metavar="PATH", required=required, help=what)


@contextmanager
def reading(path: str) -> Iterator[Reader]:
    """The store for a look, whoever owns it. It is not made if it is not there.

    Raises:
        Refused: it cannot be read, or is not what was written.
    """
    from ..stores.sqlite.store import SQLiteStore

    try:
        with closing(SQLiteStore.open_reader(path)) as reader:
            yield reader
    except StoreError as error:
        raise refusal(error, path) from None


def refusal(error: StoreError, path: str) -> CliError:
    """Why a store cannot be used, and what to do about it."""
    if isinstance(error, StoreLockedError):
        hint = f"one program at a time runs what is there; see {formatting.PROGRAM} runs --store {shlex.quote(path)}"
    elif isinstance(error, StoreVersionError):
        hint = ""  # its text says what to do
    elif isinstance(error, StoreCorruptError):
        hint = "restore a backup of it (with its .key), or name another file"
    else:
        hint = ""
    return CliError(formatting.message(str(error), hint))


def find(reader: Reader, run_id: str) -> RunRecord:
    """The run of that id: the header of its record.

    Raises:
        Refused: there is none.
    """
    records = {record.run_id: record for record in reader.runs()}
    if run_id not in records:
        hint = f"{formatting.PROGRAM} runs --store {shlex.quote(reader.path)} lists what there is"
        raise CliError(formatting.message(f"there is no run {run_id!r}{nearest(run_id, records)}", hint))
    return records[run_id]


def resuming(run_id: str, store: str, target: str, workers: int | None = None) -> str:
    """The command that goes on with a run, to be pasted into the shell that this one was given in.

    Args:
        target: MODULE[:NAME].
        workers: how many, if that was said.
    """
    where = [f"--store={store}"] if store.startswith("-") else ["--store", store]
    how = [] if workers is None else ["--workers", str(workers)]
    words = [run_id, *where, target, *how]
    if run_id.startswith("-") or target.startswith("-"):
        words = [*where, *how, "--", run_id, target]
    return shlex.join([*_program(), "resume", *words])


def repeating(arguments: Sequence[str]) -> str:
    """The command that runs with these arguments, likewise."""
    return shlex.join([*_program(), "run", *arguments])


def _program() -> list[str]:
    """How this program was started, as far as its arguments."""
    started = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
    if started[-2:] == ["-m", PACKAGE] or os.path.basename(started[-1]) == formatting.PROGRAM:
        return started
    return [sys.executable, "-m", PACKAGE]
