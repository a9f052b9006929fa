"""``floxide-mp db check|info``: the file that is a store. What is in its runs is shown by ``runs_command``."""

from __future__ import annotations

import os
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Final

from . import report, store_option
from .errors import StoreCorruptError, StoreError, StoreVersionError
from .report import Parser, Refused
from .runs_command import owned
from .standing import STATUSES, owner_of, standings
from .stores import schema
from .stores.sqlite import SQLiteStore

BESIDE: Final = ("", "-wal", "-shm", ".key", ".lock")  # what a store's files end in


def parse(arguments: Sequence[str]) -> Namespace:
    """The options of the command.

    Raises:
        Refused: they make no sense.
    """
    parser = Parser(
        prog=f"{report.PROGRAM} db",
        description="Look after the file that runs are remembered in. "
        "check: read all of it, and say ok, or what the first thing is that is not as it was written. "
        "info: its version, who has it, how many runs there are, how large it is. "
        "Both may be asked while a program writes to it.",
        epilog="Exit codes: 0 ok, 1 check found a fault, 2 usage, or a store that cannot be opened.",
        allow_abbrev=False,
    )
    parser.add_argument("what", choices=DOES, help="see above")
    store_option.add(parser, "the file that a program was given as --store, or as store=")
    return parser.parse_args(arguments)


def do(options: Namespace) -> list[str]:
    """Do it; the lines of the command.

    Raises:
        Refused: the store cannot be opened, or ``check`` has found a fault.
    """
    try:
        return DOES[options.what](options.store)
    except StoreError as error:
        raise store_option.refusal(error, options.store) from None


def _check(path: str) -> list[str]:
    with closing(SQLiteStore.open_reader(path)) as reader:
        try:
            reader.check()
        except StoreCorruptError as error:
            raise Refused(report.message(str(error)), code=1) from None
    return ["ok"]


def _info(path: str) -> list[str]:
    try:
        with closing(SQLiteStore.open_reader(path)) as reader:
            owner, counts = owner_of(reader), Counter(one.status for one in standings(reader))
    except StoreVersionError as error:
        return [f"schema: version {error.found}; this floxide-mp has {schema.VERSION}", *_sizes(path)]
    runs = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    return [
        f"schema: version {schema.VERSION}",
        f"owner: {owned(owner)} (epoch {owner.epoch})",
        f"runs: {runs or 'none'}",
        *_sizes(path),
    ]


def _sizes(path: str) -> list[str]:
    real = os.path.realpath(path)
    found = [(real + end, os.path.getsize(real + end)) for end in BESIDE if os.path.exists(real + end)]
    return [f"{name}: {size:,} bytes" for name, size in found]


DOES: Final[Mapping[str, Callable[[str], list[str]]]] = {"check": _check, "info": _info}
