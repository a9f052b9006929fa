"""The descriptors 0, 1 and 2 of this process. Used in every process: the caller's and each worker's.

A daemon or a supervisor may start a program with these three closed. Then the next files, sockets and shared pages that
are opened get their numbers, and what C code prints is written into a message or into shared memory.
"""

from __future__ import annotations

import os


def occupy() -> None:
    """Open the null device at each of the descriptors 0, 1 and 2 that is closed, for as long as this process lives.

    To be called before a descriptor of ours is opened. (SQLite does the same with the files that it opens.)

    Raises:
        OSError: the null device cannot be opened.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            if (opened := os.open(os.devnull, os.O_RDWR)) == number:
                os.set_inheritable(number, True)
            else:  # another thread was faster
                os.close(opened)


def is_the_programs(number: int) -> bool:
    """Whether the descriptor is the standard stream of that number, not a file of the program that has got the number.

    What a shell, a supervisor or ``os.dup2`` put there is inheritable; what Python opens is not.
    """
    try:
        return os.get_inheritable(number)
    except OSError:
        return False
