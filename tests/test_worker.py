"""What a worker reports: each result once, and in the place of its own item."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from floxide_mp.ports import NEXT, Backend, Lease, Reply, Report, StepResult
from floxide_mp.runtime.board import SIZE, Board
from floxide_mp.runtime.worker import Worker, _Work


def result(number: int) -> StepResult:
    return NEXT, ((0, b"%d" % number),), (), None, False


class Growing(list[StepResult]):
    """The other thread adds a result whenever somebody looks."""

    def __iter__(self) -> Iterator[StepResult]:
        seen = list(super().__iter__())
        self.append(result(len(seen)))
        return iter(seen)

    def __len__(self) -> int:
        count = super().__len__()
        self.append(result(count))
        return count


class Listener(Backend):
    """Notes what is reported, and ends the thread that tells early with its second report."""

    def __init__(self) -> None:
        self.reports: list[Report] = []

    def exchange(self, session: int, reports: Sequence[Report], want: float) -> Reply:
        self.reports += reports
        raise EOFError


def test_results_that_come_while_others_are_told_early() -> None:
    backend: Any = Listener()
    worker = Worker(1, backend, Board(memoryview(bytearray(SIZE))))
    work = _Work(Lease(1, "run", b"", ()), limit=0, results=Growing([result(0)]))
    worker._watch(work)
    assert worker._teller is not None
    worker._teller.join(30)
    (early,) = backend.reports
    assert not early.last
    assert early.results == tuple(result(n) for n in range(len(early.results)))
    assert work.told == len(early.results)
