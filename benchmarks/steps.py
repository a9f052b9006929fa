"""What one step costs, next to what Python has already: ``python -m benchmarks.steps [--json]``.

A step here does nothing, so that all that is left is the cost of having it done elsewhere. Two worker processes
each. Contenders take turns, in rotating order: each is started, warmed and asked in a process of its own, and nothing
else works meanwhile. Slow ones are given fewer steps, and the rates compared; those that take long to start have a turn
in every other round. One that is not installed (extra ``bench``) or fails is said and left out.

What they do for it is not the same: see ``benchmarks.ours``, ``benchmarks.pools`` and ``benchmarks.schedulers``.
"""

from __future__ import annotations

import argparse

from benchmarks.contender import WORKERS, Contender, Peer, take_turns
from benchmarks.measuring import Neighbours, Paper, Spread, ratio, spread
from benchmarks.ours import OURS
from benchmarks.pools import POOLS
from benchmarks.schedulers import SCHEDULERS

OTHERS = {**POOLS, **SCHEDULERS}
SCENARIOS = {"fan_out": "fan-out", "chain": "chain"}
Samples = dict[str, dict[int, float]]  # by contender, by round: seconds a step


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.steps", description="the cost of one step")
    parser.add_argument("--wide", type=int, default=100_000, help="steps of a fan-out, at most")
    parser.add_argument("--long", type=int, default=2_000, help="steps of a chain, at most")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=5.0, help="no turn begins after, no round that is longer")
    parser.add_argument(
        "--peers", type=named, default=list(OTHERS), help=f"only some ('' for none): {','.join(OTHERS)}"
    )
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    options = parser.parse_args(arguments)
    paper = Paper("steps", options.json)
    contenders = present(paper, options.peers)
    most = {"fan_out": options.wide, "chain": options.long}
    contenders = {name: one._replace(warm=min(one.warm, options.long)) for name, one in contenders.items()}
    samples: dict[str, Samples] = {scenario: {name: {} for name in contenders} for scenario in SCENARIOS}

    def turn(name: str, number: int, peer: Peer) -> None:
        for scenario, steps in sizes(contenders[name], most).items():
            peer.time(scenario, steps)  # once untimed, for what the first one of that size costs anybody
            samples[scenario][name][number] = peer.time(scenario, steps) / steps

    neighbours = Neighbours()
    failed = take_turns(contenders, options.rounds, options.minutes, turn)
    for name, why in failed.items():
        paper.say(f"  {contenders[name].title} failed and is left out: {why}")
        paper.record("failed", contender=name, why=why)
        for of in samples.values():
            del of[name]
    others = neighbours.share()
    paper.say(f"  others used {others:.1%} of the CPUs; with much above 3 %, only ratios mean something")
    paper.record("machine", others=round(others, 4))
    for scenario, of in samples.items():
        report(paper, scenario, {name: seconds for name, seconds in of.items() if seconds}, contenders, most)
    paper.say()
    return 0 if all(targets(paper, samples)) else 1


def named(text: str) -> list[str]:
    """Names of peers with commas between them, as an option."""
    names = [name for name in text.split(",") if name]
    if unknown := [name for name in names if name not in OTHERS]:
        raise argparse.ArgumentTypeError(f"no peer is called {unknown[0]}; there are {', '.join(OTHERS)}")
    return names


def present(paper: Paper, others: list[str]) -> dict[str, Contender]:
    """Ours and those of the others that are installed; a line for each that is not."""
    found = dict(OURS)
    for name in others:
        package = OTHERS[name].missing()
        if package is None:
            found[name] = OTHERS[name]
        else:
            paper.say(f"  {OTHERS[name].title} is not installed: pip install {package}")
            paper.record("absent", contender=name, package=package)
    return found


def sizes(contender: Contender, most: dict[str, int]) -> dict[str, int]:
    """How many steps of each scenario it is asked for."""
    found = zip(most.items(), contender.steps, strict=True)
    return {scenario: min(at_most, steps) for (scenario, at_most), steps in found if steps}


def report(
    paper: Paper, scenario: str, samples: Samples, contenders: dict[str, Contender], most: dict[str, int]
) -> None:
    rows = []
    for name, seconds in samples.items():
        steps = sizes(contenders[name], most)[scenario]
        micros, times = spread([s * 1e6 for s in seconds.values()]), compared(seconds, samples["memory"])
        rate = spread([1 / s for s in seconds.values()])
        rows.append((contenders[name].title, f"{steps:,}", f"{rate.median:,.0f}", micros.text(1), times.text(2)))
        paper.record(
            "samples", scenario=scenario, contender=name, steps=steps, steps_per_second=round(rate.median),
            us_per_step=[round(value, 2) for value in micros], times_ours=round(times.median, 3),
            samples=[round(s * 1e6, 2) for s in seconds.values()],
        )  # fmt: skip
    rounds = max(map(len, samples.values()))
    paper.say(f"\n{SCENARIOS[scenario]} of no-op steps, {WORKERS} workers, median (quartiles) of up to {rounds} rounds")
    paper.table(("", "steps", "steps/s", "us a step", "time, in floxide_mp's"), rows)


def compared(of: dict[int, float], to: dict[int, float]) -> Spread:
    """How many times larger, round by round."""
    rounds = sorted(of.keys() & to.keys())
    return ratio([of[number] for number in rounds], [to[number] for number in rounds])


def targets(paper: Paper, samples: dict[str, Samples]) -> list[bool]:
    """The ratios are those of the figures that were measured when the targets were set."""
    wide, long = samples["fan_out"], samples["chain"]
    chain, loop = (spread(list(long[name].values())).median * 1e6 for name in ("memory", "otherwise"))
    met = [
        paper.target("fan-out, steps a second", 1 / spread(list(wide["memory"].values())).median, 300_000),
        paper.target("fan-out, SQLite's rate in memory's", compared(wide["memory"], wide["sqlite"]).median, 0.6),
        paper.target("chain, us a step", chain, 25, most=True),
        paper.target("chain as a loop, us a step", loop, 25, most=True),
    ]
    if wide.get("pipe"):
        for what, of, least in (("fan-out", wide, 300 / 77), ("chain", long, 56 / 25)):
            times = compared(of["pipe"], of["memory"]).median
            met.append(paper.target(f"{what}, times as fast as a pipe to each worker", times, round(least, 2)))
    return met


if __name__ == "__main__":
    raise SystemExit(main())
