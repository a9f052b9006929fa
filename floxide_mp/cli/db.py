"""``floxide-mp db check|info|backup``: the file that is a store. What is in its runs is shown by ``runs_command``."""

from __future__ import annotations

import os
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Final

from ..errors import StoreCorruptError, StoreError, StoreVersionError
from ..stores.sqlite import schema
from ..stores.sqlite.backup import back_up
from ..stores.sqlite.store import SQLiteStore
from . import formatting, store_option
from .formatting import CliError, Parser
from .runs import owned
from .summary import STATUSES, owner_of, standings

BESIDE: Final = ("", "-wal", "-shm", ".key", ".lock")  # what a store's files end in


def parse(arguments: Sequence[str]) -> Namespace:
    """The options of the command.

    Raises:
        Refused: they make no sense.
    """
    parser = Parser(
        prog=f"{formatting.PROGRAM} db",
        description="Look after the file that runs are remembered in. "
        "check: read all of it, and say ok, or what the first thing is that is not as it was written. "
        "info: its version, who has it, how many runs there are, how large it is. "
        "backup: copy it, as it is at one moment, with its key, to the new file --to, and read all of the copy. "
        "All may be asked while a program writes to it.",
        epilog="Exit codes: 0 ok, 1 check found a fault, 2 usage, or a store that cannot be opened.",
        allow_abbrev=False,
    )
    parser.add_argument("what", choices=DOES, help="see above")
    store_option.add(parser, "the file that a program was given as --store, or as store=")
    parser.add_argument("--to", metavar="PATH", help="backup: the file to be made")
    parser.add_argument(
        "--without-log",
        action="store_true",
        help="backup: also of a copy that was made by other means while the store was open, and lacks its log",
    )
    found = parser.parse_args(arguments)
    if (found.what == "backup") != (found.to is not None) or (found.without_log and found.what != "backup"):
        parser.error("--to PATH belongs to backup, and backup needs it; so does --without-log")
    return found


def do(options: Namespace) -> list[str]:
    """Do it; the lines of the command.

    Raises:
        Refused: the store cannot be opened, or ``check`` has found a fault.
    """
    try:
        return DOES[options.what](options)
    except StoreError as error:
        raise store_option.refusal(error, options.store) from None


def _check(options: Namespace) -> list[str]:
    with closing(SQLiteStore.open_reader(options.store)) as reader:
        try:
            reader.check()
        except StoreCorruptError as error:
            raise CliError(formatting.message(str(error)), code=1) from None
    return ["ok"]


def _info(options: Namespace) -> list[str]:
    path = options.store
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


def _backup(options: Namespace) -> list[str]:
    runs = back_up(options.store, options.to, without_log=options.without_log)
    return [f"{options.to}: a copy with {runs} {'run' if runs == 1 else 'runs'}; its key is {options.to}.key"]


DOES: Final[Mapping[str, Callable[[Namespace], list[str]]]] = {"check": _check, "info": _info, "backup": _backup}
