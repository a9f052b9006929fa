"""How many workers there are: the CPUs that this process may use, or what the user says."""

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
    return max(1, min([len(os.sched_getaffinity(0)), *map(int, _quotas(membership, groups))]))


def _quotas(membership: Path, groups: Path) -> Iterator[float]:
    """The limits, in CPUs, of all groups that this process is in and that can be seen from here."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = groups / "cpu" if controllers else groups  # version 1 has a tree for each controller, version 2 has one
        below = [part for part in group.split("/") if part not in ("", "..")]
        for depth in range(len(below) + 1):
            # Inside a container its own group may be mounted as the top: what cannot be seen is that one's path.
            quota = _quota(top.joinpath(*below[:depth]), bool(controllers))
            if quota is not None:
                yield quota


def _quota(folder: Path, first: bool) -> float | None:
    """The limit of one group, of version 1 if it is the ``first``; None: there is none."""
    names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if first else ("cpu.max",)
    try:
        quota, period = " ".join((folder / name).read_text() for name in names).split()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):
        return None  # no such file, or "max"


def checked_workers(workers: object) -> int:
    """The number of workers.

    Raises:
        ValueError: it is not a whole number, 0 or more and no more than any one machine has use for.
    """
    if isinstance(workers, bool) or not isinstance(workers, int) or not 0 <= workers <= MOST_WORKERS:
        raise ValueError(f"workers must be a whole number from 0 (inline) to {MOST_WORKERS}, not {workers!r}")
    return workers
