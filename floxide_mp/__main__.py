"""``python -m floxide_mp``: the same as the console script ``floxide-mp``."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run the command line; until it watches for signals, Ctrl-C ends the process without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .cli import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
