"""Ctrl-C while the command line is imported ends the process, as a signal does, without a traceback.

Imported first of all in this package, in the process of the user's command. What the command line does later about
signals is in ``terminal``.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
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


# ``_signal``, which is built in: importing ``signal`` takes milliseconds, in which there would be tracebacks.
_name = sys.argv[0] if sys.argv else ""
if is_command(_name, sys.orig_argv) and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
