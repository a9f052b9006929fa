"""``python -m floxide_mp``: the same as the console script ``floxide-mp``."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; until it watches for signals, Ctrl-C ends the process (``ctrl_c``)."""
    from .cli.main import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
