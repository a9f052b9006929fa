"""Whether this process is a worker that is not ready: it starts, or imports a workflow. It must start no workers then.

A module that runs its workflow as it is imported, with no guard, would do so again in each worker, whose worker imports
it again, without an end. Used in worker processes; the check is made wherever worker processes are started.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ..errors import FloxideError

MARK: Final = "FLOXIDE_WORKER_OF"  # in the environment of a process that is to be a worker, until it is one

_importing = False


@contextmanager
def importing() -> Iterator[None]:
    """What is imported meanwhile is imported by a worker, for the workflow that it is to work on.

    Raises:
        FloxideError: a module ended with ``sys.exit``, as ``argparse`` does when it cannot read the command line.
    """
    global _importing
    before, _importing = _importing, True
    try:
        yield
    except SystemExit as error:
        raise FloxideError(
            f"a module that the workflow needs ended with sys.exit({error.code!r}) as a worker imported it (the "
            f"command line, sys.argv, is {sys.argv!r} there); what a module is to do in the program only belongs "
            'under: if __name__ == "__main__":'
        ) from error
    finally:
        _importing = before


def be_worker() -> None:
    """From now on this process is a worker, whose nodes may start what they like."""
    os.environ.pop(MARK, None)


def check_may_start() -> None:
    """Worker processes may be started here.

    Raises:
        FloxideError: this process is a worker that imports the workflow, or was meant to be a worker.
    """
    if _importing:
        raise FloxideError(
            "a workflow is run by a module as a worker process imports it, and that run would start workers that "
            "import the module again: put what runs the workflow into a function, or under: "
            'if __name__ == "__main__":'
        )
    if MARK in os.environ:
        raise FloxideError(
            f"this process was started as a worker of process {os.environ[MARK]}, and has not become one: it must not "
            "start workers in its turn (the program is its own sys.executable, or a sitecustomize starts a run)"
        )
