"""How short a task may be: ``python -m benchmarks.metg [--json] [--picture benchmarks/metg.svg]``.

METG(50%) is the measure of Task Bench (Slaughter et al., SC20): the shortest task with which a system still keeps half
of what its workers could do. Efficiency is tasks x length / workers / time of the whole run, from its start until all
results are there, and tasks are made shorter until it falls. A task keeps a CPU busy for a number of iterations, whose
cost is measured in the same workers right before (``benchmarks.tasks``), and hands on one number.

- ``trivial``: independent tasks, with every contender; and two batches whose lengths differ much.
- ``chain stencil_1d fft tree random_nearest``: who waits for whom (``benchmarks.patterns``), ours as nodes, edges and
  ``Join``, dask's as a graph given to ``Client.get``; ray and parsl, too, with ``--graphs dask,ray,parsl``.

Contenders take turns as in ``benchmarks.steps``. Without redun, whose tasks take some 10 ms, and prefect: 50 ms, and
its flows start processes anew.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable
from typing import NamedTuple

from benchmarks import patterns, picture
from benchmarks.contender import WORKERS, Contender, Peer, take_turns
from benchmarks.measuring import Neighbours, Paper, Spread
from benchmarks.ours import OURS
from benchmarks.patterns import PATTERNS, Point, metg
from benchmarks.steps import OTHERS, named, present
from benchmarks.tasks import clocked, ideal, lengths

TRIVIAL = "trivial"
INF = float("inf")
SKEWED = "one long", "heavy tail"
SKEW = 500, 0.001  # tasks of a skewed batch, and their mean length in seconds
ROWS = 80, 20, 5  # a graph has so many: few, where more would take too long
PEERS = [name for name in OTHERS if name not in {"redun", "prefect", "langgraph", "pydantic-graph"}]
CLOCK = 8, 0.005  # tasks that measure what an iteration costs, and their length in seconds
HOPELESS = 0.25  # of the efficiency with the longest tasks: after that, no shorter tasks are tried


class Plan(NamedTuple):
    """What is measured, and how. Times in seconds."""

    durations: tuple[float, ...]  # of tasks, falling
    seconds: float  # that one run should take
    width: int
    iterations: float  # in a second, here
    patterns: tuple[str, ...]
    graphs: frozenset[str]  # contenders that run them


class Found(NamedTuple):
    """Of one contender and pattern: a curve for each round, and the efficiency to keep."""

    rounds: list[list[Point]]
    least: float

    def metg(self) -> Spread:
        """Seconds: least, median and most of the rounds; infinity where the longest tasks were too short."""
        each = [metg(points, self.least) for points in self.rounds]
        return Spread(min(each), statistics.median(each), max(each))

    def curve(self) -> list[Point]:
        """Medians of the rounds; as far as the longest of them goes."""
        most = max(map(len, self.rounds))
        at = [[points[n] for points in self.rounds if n < len(points)] for n in range(most)]
        return [Point(*(statistics.median(values) for values in zip(*points, strict=True))) for points in at]

    def efficiency(self, duration: float) -> float:
        """Of tasks of about that length; 0 if there were none."""
        near = [p.efficiency for points in self.rounds for p in points if 0.7 < p.duration / duration < 1.4]
        return statistics.median(near) if near else 0.0


def settings() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.metg", description="the shortest task that keeps 50% efficiency")
    parser.add_argument("--patterns", default=",".join((TRIVIAL, *PATTERNS)))
    parser.add_argument("--least", type=float, default=50, help="the efficiency to keep, in percent")
    parser.add_argument("--longest", type=float, default=10_000, help="microseconds of a task")
    parser.add_argument("--shortest", type=float, default=1)
    parser.add_argument("--seconds", type=float, default=0.6, help="that one run should take")
    parser.add_argument("--width", type=int, default=16, help="columns of a graph")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=5.5, help="no turn begins after, no round that is longer")
    parser.add_argument("--peers", type=named, default=PEERS, help=f"some ('' for none): {','.join(PEERS)}")
    parser.add_argument("--graphs", default="dask", help="those of the peers that run graphs")
    parser.add_argument("--picture", metavar="PATH", help="an SVG of all curves")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of tables")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = settings().parse_args(arguments)
    paper = Paper("metg", options.json)
    contenders = present(paper, [name for name in options.peers if name in PEERS])
    del contenders["otherwise"]
    plan = Plan(
        tuple(geometric(options.longest * 1e-6, options.shortest * 1e-6)), options.seconds, options.width,
        1 / statistics.median(clocked(200_000) for _ in range(9)), tuple(options.patterns.split(",")),
        frozenset(OURS) | set(options.graphs.split(",")),
    )  # fmt: skip
    neighbours = Neighbours()
    curves: dict[tuple[str, str], Found] = {}
    skewed: dict[tuple[str, str], list[float]] = {}

    def turn(name: str, number: int, peer: Peer) -> None:
        for pattern in plan.patterns:
            if pattern == TRIVIAL:
                found = independent(peer, plan)
                for batch in SKEWED:
                    skewed.setdefault((batch, name), []).append(unequal(peer, plan, batch))
            elif name in plan.graphs:
                found = dependent(peer, plan, pattern, prepare=name in OURS)
            else:
                continue
            curves.setdefault((pattern, name), Found([], options.least / 100)).rounds.append(found)

    for name, why in take_turns(contenders, options.rounds, options.minutes, turn).items():
        paper.say(f"  {contenders[name].title} failed: {why}")
        paper.record("failed", contender=name, why=why)
    others = neighbours.share()
    paper.say(f"  others used {others:.1%} of the CPUs; with much above 3 %, the efficiencies mean nothing")
    paper.record("machine", others=round(others, 4))
    report(paper, contenders, curves, skewed)
    if options.picture:
        with open(options.picture, "w", encoding="utf-8") as file:
            file.write(drawing(contenders, curves))
    return 0 if all(targets(paper, curves)) else 1


def geometric(longest: float, shortest: float) -> Iterable[float]:
    """Two lengths to each power of ten, falling; the shortest is among them."""
    number = 0
    while (duration := longest * 10 ** (-number / 2)) > shortest * 1.01:
        yield duration
        number += 1
    yield shortest


# -- one contender ----------------------------------------------------------------------------------------------


def swept(plan: Plan, clock: Callable[[], float], run: Callable[[int, float], tuple[int, float]]) -> list[Point]:
    """Efficiency with ever shorter tasks, until it is hopeless.

    Args:
        clock: seconds that an iteration costs now.
        run: ``run(iterations, each)``: how many tasks it ran, and seconds; ``each`` is what one of them may be expected
            to take of those.
    """
    points: list[Point] = []
    overhead = 0.0  # seconds of the whole run, for each task, that were no work
    for duration in plan.durations:
        iterations = max(1, round(duration * plan.iterations))
        length = iterations * clock()
        tasks, seconds = run(iterations, length / WORKERS + overhead)
        overhead = max(0.0, (seconds / tasks) - length / WORKERS)
        points.append(Point(length, tasks * length / WORKERS / seconds))
        if points[-1].efficiency < HOPELESS * max(points[0].efficiency, 0.2):
            break
    return points


def independent(peer: Peer, plan: Plan) -> list[Point]:
    def run(iterations: int, each: float) -> tuple[int, float]:
        tasks = max(4, round(plan.seconds / each / WORKERS)) * WORKERS
        return tasks, peer.time("alike", tasks, iterations)

    return swept(plan, lambda: clock(peer, plan), run)


def dependent(peer: Peer, plan: Plan, pattern: str, prepare: bool) -> list[Point]:
    prepared = set()

    def run(iterations: int, each: float) -> tuple[int, float]:
        sizes = {rows: patterns.count(pattern, plan.width, rows) for rows in ROWS}
        rows = next((rows for rows, tasks in sizes.items() if tasks * each <= 2 * plan.seconds), ROWS[-1])
        if prepare and rows not in prepared:  # the graph has come to the workers, then
            prepared.add(rows)
            peer.time("graph", pattern, plan.width, rows, 1)
        return sizes[rows], peer.time("graph", pattern, plan.width, rows, iterations)

    return swept(plan, lambda: clock(peer, plan), run)


def unequal(peer: Peer, plan: Plan, batch: str) -> float:
    """Efficiency of a skewed batch: the time that no schedule can beat, in the time that it took."""
    tasks, mean = SKEW
    iterations = round(mean * plan.iterations)
    best = ideal(lengths(batch, tasks, iterations), WORKERS) * clock(peer, plan)
    return best / peer.time("skewed", batch, tasks, iterations)


def clock(peer: Peer, plan: Plan) -> float:
    tasks, length = CLOCK
    return peer.figure("clock", tasks, round(length * plan.iterations))


# -- all of them ------------------------------------------------------------------------------------------------


def report(
    paper: Paper,
    contenders: dict[str, Contender],
    curves: dict[tuple[str, str], Found],
    skewed: dict[tuple[str, str], list[float]],
) -> None:
    heads = {TRIVIAL: ("METG(50%)", "at 1 ms", "at 10 ms", *SKEWED)}
    for pattern in dict.fromkeys(pattern for pattern, _ in curves):
        rows = []
        for (at, name), found in curves.items():
            if at != pattern:
                continue
            shortest = found.metg()
            cells = ["{1} ({0} .. {2})".format(*map(length, shortest))]
            cells += [f"{e:.3f}" if (e := found.efficiency(d)) else "" for d in (0.001, 0.01)]
            if pattern == TRIVIAL:
                cells += [f"{statistics.median(skewed[batch, name]):.3f}" for batch in SKEWED]
            rows.append((contenders[name].title, *cells))
            paper.record(
                "metg", pattern=pattern, contender=name,
                us=[None if value == INF else round(value * 1e6, 2) for value in shortest],
                curve=[(round(p.duration * 1e6, 2), round(p.efficiency, 4)) for p in found.curve()],
                skewed={batch: [round(v, 4) for v in skewed[batch, name]] for batch in SKEWED if pattern == TRIVIAL},
            )  # fmt: skip
        rounds = max(len(found.rounds) for (at, _), found in curves.items() if at == pattern)
        paper.say(f"\n{pattern}: median (least .. most) of up to {rounds} rounds; efficiencies")
        paper.table(("", *heads.get(pattern, heads[TRIVIAL][:3])), rows)
    paper.say()


def targets(paper: Paper, curves: dict[tuple[str, str], Found]) -> list[bool]:
    """The ratio to the pipe is that of the figures that were measured when the targets were set."""
    met = []
    longest = max(p.duration for found in curves.values() for points in found.rounds for p in points)
    shortest = {key: min(found.metg().median, longest) * 1e6 for key, found in curves.items()}
    if ours := curves.get((TRIVIAL, "memory")):
        met = [
            paper.target("trivial, METG, us", shortest[TRIVIAL, "memory"], 10, most=True),
            paper.target("trivial on SQLite, METG, us", shortest[TRIVIAL, "sqlite"], 20, most=True),
            paper.target("trivial, efficiency with 1 ms", ours.efficiency(0.001), 0.97),
            paper.target("trivial, efficiency with 10 ms", ours.efficiency(0.01), 0.985),
        ]
        if (TRIVIAL, "pipe") in shortest:
            times = shortest[TRIVIAL, "pipe"] / shortest[TRIVIAL, "memory"]
            met.append(paper.target("trivial, times shorter than a pipe to each worker", times, 27 / 10))
    for pattern in ("stencil_1d", "tree"):
        if (pattern, "memory") in curves:
            met.append(paper.target(f"{pattern}, METG, us", shortest[pattern, "memory"], 150, most=True))
            if (pattern, "dask") in curves:
                times = shortest[pattern, "dask"] / shortest[pattern, "memory"]
                met.append(paper.target(f"{pattern}, times shorter than dask's", times, 10))
    return met


def drawing(contenders: dict[str, Contender], curves: dict[tuple[str, str], Found]) -> str:
    """Contenders in the legend by their METG with independent tasks, the best first."""
    found = dict.fromkeys(pattern for pattern, _ in curves)
    first = TRIVIAL if TRIVIAL in found else next(iter(found))
    names = sorted({name for _, name in curves}, key=lambda name: metg_of(curves, first, name))
    labels = {name: f"{contenders[name].title}: {length(metg_of(curves, first, name))}" for name in names}
    drawn = picture.lines(
        {name: labels[name] for name in OURS if name in labels},
        {name: labels[name] for name in names if name not in OURS},
    )
    panels = [
        picture.Panel(
            {TRIVIAL: "trivial: independent tasks"}.get(pattern, pattern),
            {name: curves[pattern, name].curve() for name in reversed(drawn) if (pattern, name) in curves},
        )
        for pattern in (first, *(other for other in found if other != first))
    ]
    title = f"How short a task may be: efficiency on {WORKERS} workers, and METG(50%) of independent tasks"
    return picture.svg(title, panels, drawn)


def metg_of(curves: dict[tuple[str, str], Found], pattern: str, name: str) -> float:
    found = curves.get((pattern, name))
    return INF if found is None else found.metg().median


def length(seconds: float) -> str:
    if seconds == INF:
        return "-"
    return f"{seconds * 1e6:.3g} µs" if seconds < 1e-3 else f"{seconds * 1e3:.3g} ms"


if __name__ == "__main__":
    raise SystemExit(main())
