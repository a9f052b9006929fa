"""A run that fails, is mended and goes on: ``run_with_checkpoint`` and ``resume`` on a store.

python -m floxide_mp examples.checkpoint

The total of three months, of which February's file is late. The first run fails there. When the file has come the run
is taken up at the step that failed: January's file, which is gone by then, is not read again. The store outlives the
runs; here it is in memory, and one on disk outlives this process, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from floxide_mp import (
    AlreadyCompletedError,
    Arrivals,
    Coordinator,
    Join,
    MemoryStore,
    NextAll,
    RunFailedError,
    Workflow,
    node,
)


@node
def months(folder: str) -> NextAll[Path]:
    return NextAll(Path(folder, month) for month in ("january", "february", "march"))


@node
def read(file: Path) -> int:
    if not file.exists():
        raise LookupError(f"{file.name} is not there")
    return sum(map(int, file.read_text().split()))


@Join
def total(sums: Arrivals) -> int:
    return sum(sums)


class Quarter(Workflow):
    months, read, total = months, read, total

    start = months
    edges = {months: [read], read: [total]}

    @staticmethod
    def cli_run(coordinator: Coordinator, value: Any) -> Iterator[str]:
        workers = sum(worker.pid != os.getpid() for worker in coordinator.workers())  # what --workers says
        store = MemoryStore()
        quarter = Quarter()
        with TemporaryDirectory() as folder:
            Path(folder, "january").write_text("10 20 30")
            Path(folder, "march").write_text("7")
            try:
                quarter.run_with_checkpoint(folder, store=store, run_id="q1", workers=workers)
            except RunFailedError as error:
                yield str(error)
            Path(folder, "february").write_text("100 200")
            Path(folder, "january").unlink()
            result = quarter.resume(store=store, run_id="q1", workers=workers)
            yield f"resumed: {result.output} after {result.metrics.completed} steps"
            result = quarter.run_with_checkpoint(folder, store=store, run_id="q1", workers=workers)
            yield f"once more: {result.output}, and nothing has run"
        try:
            quarter.resume(store=store, run_id="q1", workers=workers)
        except AlreadyCompletedError:
            yield "there is nothing left to resume"
