"""This process's module search path, as it is good in another process and in any directory."""

from __future__ import annotations

import os
import sys
from typing import Final


def directory() -> str | None:
    """The working directory; None: it has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return None


_FIRST: Final = directory()  # where the program was when it imported this package


def absolute() -> list[str]:
    """``sys.path`` with absolute entries only.

    A relative entry means the directory that it meant when a module was first looked for in it: the importer that
    Python keeps for it looks there, wherever the program has gone since. The empty entry means the directory that the
    program was in when it imported this package, and the one that it is in now. Both go where there is none any more.
    """
    found: dict[str, None] = {}
    for entry in sys.path:
        if not isinstance(entry, str):
            continue  # Python passes over it, too
        if not entry:
            found.update((known, None) for known in (_FIRST, directory()) if known is not None)
        elif os.path.isabs(entry):
            found[entry] = None
        else:
            kept = getattr(sys.path_importer_cache.get(entry), "path", None)
            if kept is None and (now := directory()) is not None:
                kept = os.path.normpath(os.path.join(now, entry))
            if kept is not None:
                found[kept] = None
    return list(found)
