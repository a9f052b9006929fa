"""Many of everything: ``python -m benchmarks.scale [graph runs events items] [--json]``, on two workers.

- ``graph``: a random graph of 6,000 nodes and 20,000 edges is defined, and run with nodes of 1 ms of CPU time. Its
  efficiency is the time that two bare processes take for the same nodes, without edges or anybody who coordinates, in
  that of the run; they take turns.
- ``runs``: 10,000 runs of three steps one after the other, the last thousand beside the first. Then as many that wait
  for their input all at once, and what another run costs meanwhile.
- ``events``: a log of 1,000,000 events is read by a late node, once, in memory and on SQLite. Seconds are its own.
- ``items``: 1,000,000 items out of a generator, a step each, and a join. What the coordinator's memory grows by, and
  the rate of the last tenth of them beside that of the first. A tenth takes 0.2 seconds, so in a single run chance
  decides, and what others use of the machine meanwhile: there are nine, in a process each, and the median counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path

from benchmarks import flows
from benchmarks.flat import Sample, Window, observe, windows
from benchmarks.measuring import Neighbours, Paper, interleaved, peak, ratio, resident, spread, timed
from floxide_mp import Coordinator, RunStatus, Workflow, source

WORKERS = 2


def spend_many(nodes: int, seconds: float) -> None:
    for _ in range(nodes):
        flows.spend(seconds)


def bare(pool: Pool, nodes: int, seconds: float) -> None:
    """Half of the nodes in each process, in one call."""
    pool.starmap(spend_many, [(nodes // WORKERS, seconds)] * WORKERS, chunksize=1)


def graph(paper: Paper, options: argparse.Namespace) -> list[bool]:
    nodes, edges, seconds = options.nodes, options.edges, options.node_ms / 1e3
    made: list[type[Workflow]] = []
    defined = [timed(lambda: made.append(flows.acyclic(nodes, edges, seconds))) for _ in range(options.rounds)]
    with Coordinator(workers=WORKERS) as coordinator, get_context("spawn").Pool(WORKERS) as pool:
        coordinator.start(flows.FanOut, 1000).wait()
        bare(pool, WORKERS, 0.0)
        contenders: dict[str, Callable[[], float]] = {
            "floxide_mp": lambda: timed(lambda: coordinator.start(made[0], 1).wait()),
            "bare processes": lambda: timed(lambda: bare(pool, nodes, seconds)),
        }
        samples = interleaved(contenders, options.rounds)
    efficiency = ratio(samples["bare processes"], samples["floxide_mp"])
    paper.record(
        "graph", nodes=nodes, edges=edges, defined=[round(s, 4) for s in defined],
        **{name: [round(s, 4) for s in found] for name, found in samples.items()},
    )  # fmt: skip
    paper.say(f"\na graph of {nodes:,} nodes of {options.node_ms:g} ms and {edges:,} edges")
    paper.say(f"  defined in {spread(defined).text(2)} s, run in {spread(samples['floxide_mp']).text(2)} s")
    paper.say(f"  efficiency {efficiency.text(3)}")
    return [
        paper.target("a graph is defined, s", spread(defined).median, 1.0, most=True),
        paper.target("a graph is run, efficiency", efficiency.median, 0.9),
    ]


def runs(paper: Paper, options: argparse.Namespace) -> list[bool]:
    count, part = options.runs, max(1, options.runs // 10)
    with Coordinator(workers=WORKERS) as coordinator:
        coordinator.start(flows.FanOut, 1000).wait()

        def one() -> float:
            return timed(lambda: coordinator.start(flows.Loop, 2).wait())

        before = resident()
        seconds = [one() for _ in range(count)]
        grown = (resident() - before) / count
        first, last = statistics.median(seconds[:part]), statistics.median(seconds[-part:])
        listed = timed(coordinator.runs)
        senders, begun = [], time.perf_counter()
        for _ in range(count):
            sender, taken = source(1)
            coordinator.start(flows.Loop, taken)
            senders.append(sender)
        begun = (time.perf_counter() - begun) / count
        beside = statistics.median(one() for _ in range(part))
        for sender in senders:
            sender.close()
        completed = len(coordinator.runs(RunStatus.COMPLETED))
    assert completed == 2 * count + part + 1, completed
    paper.record(
        "runs", runs=count, first=first, last=last, beside=beside, begun=begun, listed=listed, bytes=round(grown)
    )
    paper.say(f"\n{count:,} runs of three steps, one after the other: {first * 1e6:,.0f} us each (median of the first")
    paper.say(f"  {part:,}), {last * 1e6:,.0f} (of the last), and {grown / 1e3:,.1f} KB; runs() {listed * 1e3:.1f} ms")
    paper.say(f"  as many that wait for input are started in {begun * 1e6:,.0f} us each; a run beside them takes")
    paper.say(f"  {beside * 1e6:,.0f} us")
    return [
        paper.target("a late run's time, in an early one's", last / first, 1.25, most=True),
        paper.target("a run's time beside as many that wait, in a late one's", beside / last, 1.25, most=True),
    ]


def events(paper: Paper, options: argparse.Namespace) -> list[bool]:
    each = max(1, round(options.events**0.5))
    steps = max(1, options.events // each)
    met = []
    paper.say(f"\na log of {steps * each:,} events, written {each:,} a step, is read by a late node")
    with tempfile.TemporaryDirectory() as place:
        for name, store in (("in memory", None), ("SQLite", Path(place, "runs.db"))):
            with Coordinator(workers=WORKERS, store=store) as coordinator:
                before = time.perf_counter()
                output = coordinator.start(flows.LateReader, (steps, each)).wait().output
                whole = time.perf_counter() - before
            found, total, seconds = output
            assert (found, total) == (steps * each, steps * each * (each - 1) // 2), output
            paper.record("events", store=name, events=found, seconds=round(seconds, 4), whole=round(whole, 4))
            paper.say(f"  {name}: {seconds:.2f} s, of the run's {whole:.2f} s")
            met.append(paper.target(f"a log is read, {name}, s", seconds, 2.0, most=True))
    return met


def generated(count: int, every: float) -> tuple[int, list[Sample]]:
    """Bytes that a coordinator's memory grows by at the most in such a run, and what was seen of it."""
    with Coordinator(workers=WORKERS) as coordinator:
        coordinator.start(flows.FanOut, 1000).wait()
        before = resident()
        samples = observe(coordinator, flows.Generated, count, every)
        status = coordinator.runs()[-1].status
    assert status is RunStatus.COMPLETED, status
    return peak() - before, [sample for sample in samples if 0 < sample.steps <= count]


def items(paper: Paper, options: argparse.Namespace) -> list[bool]:
    neighbours = Neighbours()
    rounds: list[list[Window]] = []
    most = 0
    # A process each: memory that an earlier run has had would be found there by the next.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as fresh:
        for _ in range(options.rounds):
            grown, samples = fresh.submit(generated, options.items, options.every).result()
            if len(samples) < 2:
                raise SystemExit(f"{options.items:,} items were over before anybody had looked twice: use --every")
            rounds.append(windows(samples, 10))
            most = max(most, grown)
    first, last = ([1 / found[at].wall for found in rounds] for at in (0, -1))
    rates = ratio(last, first)
    cpu = ratio([found[-1].cpu for found in rounds], [found[0].cpu for found in rounds])
    others = neighbours.share()
    for number, found in enumerate(rounds):
        for window in found:
            facts = {f"{k}_us": round(getattr(window, k) * 1e6, 2) for k in ("wall", "cpu", "collecting")}
            paper.record("window", round=number, until=window.until, **facts, resident=window.resident)
    facts = {"grown": round(most / 1e6, 1), "others": round(others, 4)}
    paper.record("items", items=options.items, rates=rates, cpu=cpu, **facts)
    paper.say(f"\n{options.items:,} items out of a generator, a step each, and a join")
    paper.table(
        ("first tenth, steps/s", "last tenth", "in the first's"),
        [(f"{a:,.0f}", f"{b:,.0f}", f"{b / a:.2f}") for a, b in zip(first, last, strict=True)],
    )
    paper.say(f"  the last tenth's rate is {rates.text(2)} of the first's, the coordinator's CPU time for each")
    paper.say(f"  of its steps {cpu.text(2)}; others used {others:.1%} of the CPUs: with much above 3 %, measure again")
    return [
        paper.target("items of a generator: memory grows by, MB", most / 1e6, 150, most=True),
        paper.target("items of a generator: the last tenth's rate, in the first's", rates.median, 0.9),
    ]


SCENARIOS = {"graph": graph, "runs": runs, "events": events, "items": items}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.scale", description="many of everything")
    parser.add_argument("scenarios", nargs="*", choices=[[], *SCENARIOS], help="which; all if none is named")
    parser.add_argument("--nodes", type=int, default=6_000)
    parser.add_argument("--edges", type=int, default=20_000)
    parser.add_argument("--node-ms", type=float, default=1.0, help="CPU time of a node of the graph")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--every", type=float, default=0.05, help="seconds between two looks at the run of items")
    parser.add_argument("--rounds", type=int, default=9, help="of the graph, and of the items")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of tables")
    options = parser.parse_args(arguments)
    paper = Paper("scale", options.json)
    met = []
    for name in options.scenarios or SCENARIOS:
        met += SCENARIOS[name](paper, options)
    return 0 if all(met) else 1


if __name__ == "__main__":
    raise SystemExit(main())
