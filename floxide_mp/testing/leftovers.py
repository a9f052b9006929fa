"""What a process may leave behind of what it had for a while: processes, threads, descriptors. Linux."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any


def leftovers() -> dict[str, set[Any]]:
    """All that this process has now, to be compared with what it has later."""
    return {
        "processes": children(),
        "threads": set(threading.enumerate()),
        "descriptors": set(descriptors().items()),
    }


def children() -> set[int]:
    """Direct children of this process, zombies included."""
    me = os.getpid()
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # ended while we looked
            if int(fields[1]) == me:
                found.add(int(entry.name))
    return found


def descriptors() -> dict[int, str]:
    """Open descriptors and what they are of."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the descriptor of the listing itself
    return found
