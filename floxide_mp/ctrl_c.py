"""Ctrl-C while the command line is imported ends the process, as a signal does, without a traceback.

Imported first of all in this package, in the process of the user's command. What the command line does later about
signals is in ``terminal``.
"""

from __future__ import annotations

import signal
import sys


def is_command(name: str, started_as: list[str]) -> bool:
    """Whether this process is the command line: ``python -m floxide_mp``, or the console script.

    Args:
        name: ``sys.argv[0]``: "-m" until Python has found the module, which may be another's that imports this package.
        started_as: ``sys.orig_argv``.
    """
    if name == "-m":
        return "floxide_mp" in started_as or "-mfloxide_mp" in started_as
    return name.rpartition("/")[2] == "floxide-mp"


_name = sys.argv[0] if sys.argv else ""
if is_command(_name, sys.orig_argv) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
