"""What it costs to remember, next to what people use for it today: ``python -m benchmarks.durable [--json]``.

No-op steps on two workers, a fan-out and a chain of them: in memory, on SQLite with both durabilities, and by the
peers of ``benchmarks.peers``, which says how each is used (extra ``bench``; for one that is not installed, a line says
so). All are warm: processes started, databases made, code imported. Contenders take turns within one run, in rotating
order; slow ones are given fewer steps, and the rates compared. So that a round's noise cancels, ratios are medians
of what came out of each round.

What they remember is not the same: the pool keeps results and forgets what is to be done, joblib finds results by
their arguments, LangGraph and DBOS keep the order of what was done, Prefect its states and results.

Then: bytes on disk per step, after one run each in a store of its own that was closed; and how long it takes until a
run of a million finished items and a thousand pending ones, whose program was killed, is at work again
(``benchmarks.resuming``).
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple

from benchmarks import flows, resuming
from benchmarks.contender import WORKERS, Peer
from benchmarks.measuring import Paper, Spread, interleaved, spread, timed
from benchmarks.peers import PEERS
from floxide_mp import Coordinator, Workflow
from floxide_mp.stores.sqlite.store import SQLiteStore

MEMORY, SQLITE, FULL, LOOP = "in memory", "SQLite", "SQLite, full", "SQLite, loop"
SCENARIOS = "fan_out", "chain"
TITLES = {"fan_out": "fan-out", "chain": "chain"}
LEAST: dict[str, dict[str, float]] = {  # of the rate on SQLite: in that of another
    "fan_out": {MEMORY: 0.6, "pool": 3, "joblib": 15, "langgraph": 20, "dbos": 80},
    "chain": {"pool": 2},
}


class Entry(NamedTuple):
    """One scenario, run by one contender: how many steps, and what times a run of them."""

    title: str
    steps: int
    time: Callable[[], float]


def workflow(scenario: str, name: str, steps: int) -> tuple[type[Workflow], int]:
    """Of so many steps, and its input."""
    if scenario == "fan_out":
        return flows.FanOut, steps
    return (flows.Loop, steps) if name == LOOP else (flows.chain(steps), 0)


@contextmanager
def opened(sizes: dict[str, int], peers: list[str]) -> Iterator[dict[str, dict[str, Entry]]]:
    """All contenders by scenario, ready. ``sizes``: steps by scenario."""
    found: dict[str, dict[str, Entry]] = {scenario: {} for scenario in SCENARIOS}
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="durable"))
        stores = {
            MEMORY: None,
            SQLITE: SQLiteStore(os.path.join(directory, "process.db")),
            FULL: SQLiteStore(os.path.join(directory, "full.db"), "full"),
        }
        ours = {name: stack.enter_context(Coordinator(WORKERS, store=store)) for name, store in stores.items()}
        ours[LOOP] = ours[SQLITE]
        for scenario, steps in sizes.items():
            for name, coordinator in ours.items():
                if name != LOOP or scenario == "chain":
                    once = partial(run, coordinator, *workflow(scenario, name, steps))
                    once()
                    found[scenario][name] = Entry(f"floxide_mp, {name}", steps, once)
        for name in peers:
            peer = stack.enter_context(Peer(PEERS[name]))
            for (scenario, steps), most in zip(sizes.items(), PEERS[name].steps, strict=True):
                steps = min(steps, most)
                found[scenario][name] = Entry(PEERS[name].title, steps, partial(peer.time, scenario, steps))
        yield found


def run(coordinator: Coordinator, of: type[Workflow], value: int) -> float:
    """Seconds from a run's start until its outputs are there, decoded and in order."""
    return timed(lambda: coordinator.start(of, value).wait().outputs)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.durable", description="the cost of remembering each step")
    parser.add_argument("--wide", type=int, default=20_000, help="steps of a fan-out")
    parser.add_argument("--long", type=int, default=2_000, help="steps of a chain")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="of these only")
    parser.add_argument("--finished", type=int, default=1_000_000, help="items of the run that is resumed")
    parser.add_argument("--pending", type=int, default=1_000)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of tables")
    options = parser.parse_args(arguments)
    paper = Paper("durable", options.json)
    sizes = {"fan_out": options.wide, "chain": options.long}
    absent = {name: package for name in options.peers if (package := PEERS[name].missing()) is not None}
    met = []
    with opened(sizes, [name for name in options.peers if name not in absent]) as contenders:
        for scenario, those in contenders.items():
            samples = interleaved({name: one.time for name, one in those.items()}, options.rounds)
            met += report(paper, scenario, those, samples, absent)
    paper.say("\nbytes on disk, and a run that is resumed")
    for scenario, steps in sizes.items():
        size = bytes_per_step(*workflow(scenario, SQLITE, steps), steps)
        met.append(paper.target(f"bytes on disk per no-op step, {TITLES[scenario]}", size, 250, most=True))
    if options.finished:
        met.append(resumed(paper, options.finished, options.pending))
    return 0 if all(met) else 1


def report(
    paper: Paper,
    scenario: str,
    contenders: dict[str, Entry],
    samples: dict[str, list[float]],
    absent: dict[str, str],
) -> list[bool]:
    """A line for each contender; whether each target of the scenario was met."""
    rates = {name: [contenders[name].steps / s for s in seconds] for name, seconds in samples.items()}
    times = {name: compared(rates[SQLITE], of) for name, of in rates.items()}
    rows = []
    for name, one in contenders.items():
        rate = spread(rates[name])
        rows.append((one.title, f"{one.steps:,}", rate.text(), times[name].text(2)))
        paper.record(
            "samples", scenario=scenario, contender=name, steps=one.steps,
            seconds=[round(s, 5) for s in samples[name]], steps_per_second=[round(r, 1) for r in rate],
            sqlite_times_as_fast=round(times[name].median, 3),
        )  # fmt: skip
    for name, package in absent.items():
        rows.append((PEERS[name].title, "", f"not installed: pip install {package}", ""))
        paper.record("absent", scenario=scenario, contender=name, package=package)
    rounds = len(samples[SQLITE])
    paper.say(f"\n{TITLES[scenario]}, {WORKERS} workers; median (quartiles) of {rounds} rounds")
    paper.table(("", "no-op steps", "steps/s", "SQLite is so many times as fast"), rows)
    return [
        paper.target(f"{TITLES[scenario]} on SQLite, times {contenders[name].title}", times[name].median, least)
        for name, least in LEAST[scenario].items()
        if name in times
    ]


def compared(ours: list[float], theirs: list[float]) -> Spread:
    return spread([one / other for one, other in zip(ours, theirs, strict=True)])


def bytes_per_step(of: type[Workflow], value: int, steps: int) -> float:
    """What a run leaves in a database of its own, without what it had before."""
    with tempfile.TemporaryDirectory(prefix="durable") as directory:
        path = os.path.join(directory, "runs.db")
        SQLiteStore(path).close()
        empty = os.path.getsize(path)
        with Coordinator(WORKERS, store=path) as coordinator:
            coordinator.start(of, value).wait()
        assert os.listdir(directory).count("runs.db-wal") == 0, "not closed"
        return (os.path.getsize(path) - empty) / steps


def resumed(paper: Paper, finished: int, pending: int) -> bool:
    with tempfile.TemporaryDirectory(prefix="durable") as directory:
        found = resuming.measure(directory, finished, pending)
    paper.record("resumed", finished=finished, pending=pending, **found)
    text = f"resuming {finished:,} finished and {pending:,} pending items, seconds until the first is run"
    met = paper.target(text, found["seconds"], 3, most=True)
    mib = {key: found[key] / 2**20 for key in ("grown", "peak")}
    paper.say(f"          its memory grew by {mib['grown']:,.0f} MiB, to {mib['peak']:,.0f} MiB at the most")
    return met


if __name__ == "__main__":
    raise SystemExit(main())
