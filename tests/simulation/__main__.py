"""Plays many schedules, each of which follows from its seed, and stops at the first that shows a fault."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Final, NamedTuple

from .runner import PER_CASE, Failed, simulating

CHUNK: Final = 20 * PER_CASE


class Part(NamedTuple):
    """What came of some seeds."""

    runs: int
    moves: int
    seen: Counter[str]
    failure: str | None


def play(seeds: range) -> Part:
    """Play these, up to the first that fails."""
    seen: Counter[str] = Counter()
    moves = 0
    with simulating() as runner:
        for number, seed in enumerate(seeds):
            try:
                played = runner.play(seed)
            except Failed as failure:
                return Part(number, moves, seen, str(failure))
            moves += played.moves
            seen.update(played.happened)
            seen.update(f"a run ends {end}" for end in played.ends)
    return Part(len(seeds), moves, seen, None)


def parts(first: int, runs: int, processes: int) -> Iterator[Part]:
    """In the order of the seeds."""
    end = first + runs
    chunks = [range(at, min(at + CHUNK, end)) for at in range(first, end, CHUNK)]
    if processes == 1:
        yield from map(play, chunks)
        return
    with ProcessPoolExecutor(processes) as pool:
        try:
            yield from pool.map(play, chunks)
        finally:
            pool.shutdown(cancel_futures=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000, help="how many schedules")
    parser.add_argument("--seed", type=int, default=0, help="of the first; the others follow")
    parser.add_argument("--processes", type=int, default=1, help="to play them on")
    given = parser.parse_args()
    began, runs, moves, seen = time.monotonic(), 0, 0, Counter[str]()
    for part in parts(given.seed, given.runs, given.processes):
        runs, moves = runs + part.runs, moves + part.moves
        seen += part.seen
        rate = f"{runs:,} schedules, {moves:,} moves, {runs / (time.monotonic() - began):,.0f} schedules a second"
        if sys.stdout.isatty():
            print(rate, end="\r", flush=True)
        if part.failure is not None:
            print(part.failure, rate, sep="\n\n")
            return 1
    print(rate, *(f"{count:9,}  {what}" for what, count in seen.most_common()), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
