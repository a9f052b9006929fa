"""How many workers there are: the CPUs that this process may use, or what the user says; and how much memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MEMBERSHIP: Final = Path("/proc/self/cgroup")
GROUPS: Final = Path("/sys/fs/cgroup")
MOST_WORKERS: Final = 1024


def usable_cpus(membership: Path = MEMBERSHIP, groups: Path = GROUPS) -> int:
    """The CPUs of its affinity, but no more than the quotas of its control groups, rounded down, come to; at least 1.

    Args:
        membership: the file that tells which groups this process is in.
        groups: where control groups are mounted.
    """
    quotas = [_quota(folder, first) for folder, first in _folders("cpu", membership, groups)]
    return max(1, min([len(os.sched_getaffinity(0)), *(int(quota) for quota in quotas if quota is not None)]))


def usable_memory(membership: Path = MEMBERSHIP, groups: Path = GROUPS) -> int:
    """Bytes: those of the machine, but no more than the limits of its control groups.

    Args:
        membership: the file that tells which groups this process is in.
        groups: where control groups are mounted.
    """
    limits = [_limit(folder, first) for folder, first in _folders("memory", membership, groups)]
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *(limit for limit in limits if limit is not None)])


def _folders(controller: str, membership: Path, groups: Path) -> Iterator[tuple[Path, bool]]:
    """The folders of all groups that this process is in and that can be seen from here, and whether they are of
    version 1."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = groups / controller if controllers else groups  # version 1 has a tree for each, version 2 has one
        below = [part for part in group.split("/") if part not in ("", "..")]
        for depth in range(len(below) + 1):
            # Inside a container its own group may be mounted as the top: what cannot be seen is that one's path.
            yield top.joinpath(*below[:depth]), bool(controllers)


def _quota(folder: Path, first: bool) -> float | None:
    """The CPUs of one group, of version 1 if it is the ``first``; None: there is no limit."""
    names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if first else ("cpu.max",)
    try:
        quota, period = " ".join((folder / name).read_text() for name in names).split()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):
        return None  # no such file, or "max"


def _limit(folder: Path, first: bool) -> int | None:
    """The bytes of one group; None: there is no limit. (Without one, version 1 has a number near 2 to the 63.)"""
    try:
        return int((folder / ("memory.limit_in_bytes" if first else "memory.max")).read_text())
    except (OSError, ValueError):
        return None


def checked_memory(memory: object) -> int:
    """The bytes.

    Raises:
        ValueError: it is not a whole number above 0.
    """
    if isinstance(memory, bool) or not isinstance(memory, int) or memory < 1:
        raise ValueError(f"memory must be a whole number of bytes from 1 on, not {memory!r}")
    return memory


def checked_workers(workers: object) -> int:
    """The number of workers.

    Raises:
        ValueError: it is not a whole number, 0 or more and no more than any one machine has use for.
    """
    if isinstance(workers, bool) or not isinstance(workers, int) or not 0 <= workers <= MOST_WORKERS:
        raise ValueError(f"workers must be a whole number from 0 (inline) to {MOST_WORKERS}, not {workers!r}")
    return workers
