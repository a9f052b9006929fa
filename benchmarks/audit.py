"""A CPU-heavy batch on two workers against one, and against none: ``python -m benchmarks.audit [--json]``.

The batch is ``examples/audit.py``: SHA-256, lines and LZMA of a few thousand files of the Python installation. Runs
take turns, and the speed-up is the median of what came out of each round, because the machine's clock drifts. All
files are read once before, so that no run has them from the disk and another from the page cache. The workers
are started and have imported the example before the clock starts; that the reports are equal is checked.

A machine that does other things meanwhile cannot show its two CPUs: what all others used of them during the runs is
printed, and much above 3 % means to measure again.
"""

from __future__ import annotations

import argparse
import os
import time
from contextlib import ExitStack
from functools import partial

from benchmarks.measuring import Neighbours, Paper, interleaved, ratio, spread
from examples.audit import Audit, Request, files
from floxide_mp import Coordinator

INLINE, ONE, TWO = "inline", "1 worker", "2 workers"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.audit", description="the speed-up of a CPU-heavy batch")
    parser.add_argument("--directory", default=Request().directory)
    parser.add_argument("--files", type=int, default=1500, help="at most so many files")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    options = parser.parse_args(arguments)
    paper = Paper("audit", options.json)
    request = Request(options.directory, options.files)
    count, size = warmed(request)
    paper.say(f"{count:,} files, {size / 2**20:.1f} MiB, in the page cache")
    with ExitStack() as stack:
        coordinators = {
            name: stack.enter_context(Coordinator(workers=workers))
            for name, workers in ((INLINE, 0), (ONE, 1), (TWO, 2))
        }
        small = Request(options.directory, min(count, 20))
        reports = {name: coordinator.start(Audit, small).wait().output for name, coordinator in coordinators.items()}

        def once(name: str) -> float:
            before = time.perf_counter()
            reports[name] = coordinators[name].start(Audit, request).wait().output
            return time.perf_counter() - before

        neighbours = Neighbours()
        samples = interleaved({name: partial(once, name) for name in coordinators}, options.rounds)
    assert reports[INLINE] == reports[ONE] == reports[TWO], "the reports differ"
    others = neighbours.share()  # now that the workers have ended, what they used is known
    rows = []
    for name, seconds in samples.items():
        gained = ratio(samples[ONE], seconds)
        paper.record(
            "samples", contender=name, files=count, bytes=size, seconds=[round(s, 4) for s in seconds],
            speed_up=[round(value, 3) for value in gained],
        )  # fmt: skip
        rows.append((name, spread(seconds).text(2), gained.text(3)))
    paper.say(f"\nmedian (quartiles) of {options.rounds} rounds; others used {others:.1%} of the CPUs")
    paper.record("machine", others=round(others, 4))
    paper.table(("", "seconds", "times as fast as 1 worker"), rows)
    met = paper.target("2 workers, times as fast as 1 worker", ratio(samples[ONE], samples[TWO]).median, 1.85)
    met &= paper.target("2 workers, times as fast as inline", ratio(samples[INLINE], samples[TWO]).median, 1.85)
    return 0 if met else 1


def warmed(request: Request) -> tuple[int, int]:
    """Read every file once; how many there are, and their bytes."""
    count = size = 0
    for file in files(request.directory):
        if count == request.limit:
            break
        count += 1
        try:
            with open(os.path.join(file.root, file.name), "rb") as stream:
                size += len(stream.read())
        except OSError:
            pass  # the audit reports it
    return count, size


if __name__ == "__main__":
    raise SystemExit(main())
