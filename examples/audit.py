"""An audit of a directory: what is in it, what is there twice, how small it could be.

    python -m floxide_mp examples.audit                                     # Python's own library
    python -m floxide_mp examples.audit --input '"/usr/share/doc"'
    python -m floxide_mp examples.audit --input '{"directory": ".", "limit": 500}' --workers 4

``walk`` finds the files and splits, ``measure`` works on each of them, ``report`` joins. A file that cannot be read
goes to ``unreadable`` and does not stop the others. The report is the same on any number of workers.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import sysconfig
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

from floxide_mp import Abort, Arrivals, Context, Join, NextAll, RunResult, Workflow, node

LEFT_OUT = ("__pycache__", ".git", "site-packages", "config-*")  # directories that are not the thing itself


@dataclass(frozen=True)
class Request:
    """What to look at: a directory, and at most so many of its files."""

    directory: str = sysconfig.get_path("stdlib")
    limit: int | None = None


@dataclass(frozen=True)
class File:
    """A file to be measured; ``name`` is relative to ``root``."""

    root: str
    name: str


@dataclass(frozen=True)
class Measured:
    name: str
    size: int
    lines: int
    packed: int
    sha256: str


@dataclass(frozen=True)
class Unreadable:
    name: str
    reason: str


def files(root: str) -> Iterator[File]:
    """The files below ``root``, in the same order every time."""
    for place, directories, names in os.walk(root):
        directories[:] = sorted(d for d in directories if not any(fnmatch(d, pattern) for pattern in LEFT_OUT))
        for name in sorted(names):
            path = Path(place, name)
            if path.is_file() or not path.exists():  # no pipes and devices; what is a dead link will be reported
                yield File(root, str(path.relative_to(root)))


@node
def walk(request: Request) -> NextAll[File]:
    return NextAll(islice(files(request.directory), request.limit))


@node
def measure(file: File) -> Measured:
    data = Path(file.root, file.name).read_bytes()
    return Measured(file.name, len(data), data.count(b"\n"), len(lzma.compress(data)), hashlib.sha256(data).hexdigest())


@node
def unreadable(ctx: Context, file: File) -> Unreadable | Abort:
    error = ctx.item.error
    if isinstance(error, OSError):
        return Unreadable(file.name, error.strerror or type(error).__name__)
    return Abort(error or "no error")  # anything else is a mistake of ours: it ends the run


@Join
def report(found: Arrivals) -> list[str]:
    """The lines of the report."""
    measured: list[Measured] = sorted(found.by_node["measure"], key=lambda one: one.name)
    missed: list[Unreadable] = sorted(found.by_node["unreadable"], key=lambda one: one.name)
    by_kind: dict[str, list[Measured]] = defaultdict(list)
    by_content: dict[str, list[Measured]] = defaultdict(list)
    for one in measured:
        by_kind[PurePath(one.name).suffix or "(none)"].append(one)
        if one.size:
            by_content[one.sha256].append(one)
    copies = [same for same in by_content.values() if len(same) > 1]
    lines = [f"{'kind':<12} {'files':>8} {'lines':>10} {'bytes':>14} {'by lzma':>14}"]
    for kind, ones in [*sorted(by_kind.items()), ("all", measured)]:
        counts = (len(ones), sum(o.lines for o in ones), sum(o.size for o in ones), sum(o.packed for o in ones))
        lines.append("{:<12} {:>8,} {:>10,} {:>14,} {:>14,}".format(kind, *counts))
    wasted = sum(same[0].size * (len(same) - 1) for same in copies)
    lines.append(f"{len(copies):,} files are there more than once, which takes {wasted:,} bytes")
    lines += [f"  {same[0].sha256[:12]} {' = '.join(one.name for one in same)}" for same in copies]
    lines.append(f"{len(missed):,} files could not be read")
    lines += [f"  {one.name}: {one.reason}" for one in missed]
    return lines


class Audit(Workflow):
    walk, measure, unreadable, report = walk, measure, unreadable, report

    start = walk
    edges = {walk: [measure], measure: [report], unreadable: [report]}
    on_failure = {measure: [unreadable]}

    @staticmethod
    def cli_input(value: Any) -> Request:
        request = Request(**value) if isinstance(value, dict) else Request(value) if value else Request()
        if not os.path.isdir(request.directory):
            raise ValueError(f"there is no directory {request.directory}")
        return request

    @staticmethod
    def cli_report(result: RunResult) -> list[str]:
        lines: list[str] = result.output
        return lines
