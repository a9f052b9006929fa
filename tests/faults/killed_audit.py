"""``examples.audit`` on disk, as a program that may be killed: ``python -m tests.faults.killed_audit FOLDER
DIRECTORY``.

It begins the audit of a directory, or goes on with it. Which files are measured is in the history, with a line at the
beginning and one at the end of each measurement; the report is in the file of that name.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from examples.audit import Audit, File, Measured, Request, measure
from floxide_mp import Context, Coordinator, Node
from tests.faults.killing import note

RUN: Final = "audit"
WORKERS: Final = 2


class Noted(Node):
    """``measure``, with a line before and after it."""

    def __init__(self, home: str) -> None:
        self.home = home

    def process(self, ctx: Context, file: File) -> Measured:
        note(self.home, "did", file.name, ctx.item.attempt, os.getpid())
        try:
            done: Measured = measure(file)
        finally:
            note(self.home, "end", file.name, os.getpid())
        return done


def main(home: str, directory: str) -> None:
    with Coordinator(WORKERS, store=os.path.join(home, "runs.db")) as coordinator:
        run = coordinator.start(Audit(measure=Noted(home)), Request(directory), run_id=RUN)
        Path(home, "report").write_text("\n".join(run.wait().output))


if __name__ == "__main__":
    from tests.faults.killed_audit import main as _main  # its classes are not those of ``__main__``

    _main(sys.argv[1], sys.argv[2])
