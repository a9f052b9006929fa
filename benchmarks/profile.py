"""Where the microseconds of one step go, beside what the machine allows: ``python -m benchmarks.profile [--json]``.

The step does nothing, so all that is left is ours. Whole runs on two workers tell wall time, and CPU time of the
coordinator's process and of the workers'. The parts are measured alone, in this process, on the objects that travel in
such a run. The limits are what anybody would have to pay: a pipe, memory, a file.
"""

from __future__ import annotations

import argparse
import mmap
import multiprocessing
import os
import pickle
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from benchmarks import flows
from benchmarks.measuring import Paper, Spread, interleaved, spread, timed
from floxide_mp import Context, Coordinator
from floxide_mp.coordinator.active_run import progress_of
from floxide_mp.core.plan import Plan
from floxide_mp.core.records import Commit
from floxide_mp.core.run_state import RunState
from floxide_mp.messages import Description, Grants, Lease, Report, Results
from floxide_mp.ports import Progress, RunRecord
from floxide_mp.stores.sqlite.store import SQLiteStore
from floxide_mp.wire import codec
from floxide_mp.wire.status_page import SIZE, StatusPage
from floxide_mp.worker.worker import Worker

WORKERS = 2
LEASE = 1000  # items of a lease; what 4 ms of work come to when a step takes some microseconds
TICK = os.sysconf("SC_CLK_TCK")


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


# -- whole runs ---------------------------------------------------------------------------------------------------


def whole(paper: Paper, store: Path | None, wide: int, long: int, rounds: int) -> None:
    """Wall and CPU time of a step in whole runs."""
    rows = []
    with Coordinator(workers=WORKERS, store=store) as coordinator:
        coordinator.start(flows.FanOut, 1000).wait()
        pids = [worker.pid for worker in coordinator.workers()]
        for name, workflow, value, steps in (
            (f"fan-out of {wide:,}", flows.FanOut, wide, wide),
            (f"with an event each, {wide // 5:,}", flows.NotingFanOut, wide // 5, wide // 5),
            (f"loop of {long:,}", flows.Loop, long, long),
        ):
            coordinator.start(workflow, value).wait()
            samples: list[tuple[float, float, float]] = []
            for _ in range(rounds):
                ours, theirs = time.process_time(), sum(map(cpu_of, pids))
                wall = timed(lambda w=workflow, v=value: coordinator.start(w, v).wait())  # type: ignore[misc]
                used = time.process_time() - ours, sum(map(cpu_of, pids)) - theirs
                samples.append((wall / steps * 1e6, used[0] / steps * 1e6, used[1] / steps * 1e6))
            found = [spread([sample[part] for sample in samples]) for part in range(3)]
            rows.append((name, *(one.text(2) for one in found)))
            paper.record(
                "run", store="memory" if store is None else "sqlite", what=name,
                wall=found[0].median, coordinator=found[1].median, workers=found[2].median,
            )  # fmt: skip
    paper.say(f"\nus a step, {WORKERS} workers, {'in memory' if store is None else 'SQLite'}: median (quartiles)")
    paper.table(("", "wall", "CPU of the coordinator", "CPU of all workers"), rows)


# -- parts --------------------------------------------------------------------------------------------------------


class Nobody:
    """Describes the run to a worker whose leases are made here."""

    def describe(self, run_id: str, known: object, changed: object = ()) -> Description:
        return Description(b"key", None, codec.encode(Context()), 0)


def parts(store: SQLiteStore, line: tuple[Connection, Connection]) -> dict[str, Callable[[], float]]:
    """What is done for ``LEASE`` items of a fan-out, piece by piece; each gives seconds."""
    compiled = flows.FanOut().compiled
    bundle = codec.Bundle.of(compiled, None)
    node = bundle.names.index("work")
    backend: Any = Nobody()
    worker = Worker(1, backend, StatusPage(memoryview(bytearray(SIZE))), {b"key": bundle})
    worker._want = 60.0  # or a lease that is held up by the machine would be told of early
    payloads = [codec.encode(number) for number in range(LEASE)]
    lease = Lease(1, "run", b"key", (Grants(2, node, (1, (0,)), list(payloads)),))
    report = worker._run(lease)
    assert isinstance(report.results[0], Results)
    sent, told = pickle.dumps(lease), pickle.dumps(report)
    return {
        "worker: the step with all around it": lambda: timed(lambda: worker._run(lease)),
        "... of it, unpickling the input": lambda: timed(lambda: [pickle.loads(payload) for payload in payloads]),
        "... of it, calling the node": lambda: timed(lambda: [flows.noop(number) for number in range(LEASE)]),
        "... of it, pickling the result": lambda: timed(lambda: [pickle.dumps(number, 5) for number in range(LEASE)]),
        "worker: unpickling lease, pickling report": lambda: timed(lambda: (pickle.loads(sent), pickle.dumps(report))),
        "coordinator: pickling lease, unpickling report": lambda: timed(
            lambda: (pickle.dumps(lease), pickle.loads(told))
        ),
        "pipe: both": lambda: timed(lambda: carried(line, sent, told)),
        "coordinator: deciding (core)": lambda: deciding(compiled.plan, payloads, report),
        "SQLite: preparing and writing (its thread)": lambda: writing(store, compiled.plan, payloads, report),
        "caller: unpickling the output": lambda: timed(lambda: [codec.decode(payload) for payload in payloads]),
    }


def carried(line: tuple[Connection, Connection], *messages: bytes) -> None:
    """Through the kernel, without waking anybody."""
    here, there = line
    for message in messages:
        here.send_bytes(message)
        there.recv_bytes()


def spread_out(plan: Plan, payloads: list[bytes]) -> RunState:
    """A run that has been fanned out, with that not yet committed."""
    state = RunState(plan)
    state.start(b"")
    split = state.claim(1, 1)
    state.fan_out(split, 0, list(payloads), ())  # type: ignore[arg-type]
    return state


def finish(state: RunState, report: Report) -> tuple[Commit, Progress]:
    """From a lease's claim to the commit that ends it."""
    block, (results,) = state.claim(2, 1, LEASE), report.results
    state.succeed_all(block, 0, results.payloads, [], 1)  # type: ignore[arg-type,union-attr]
    return state.take_commit(), progress_of(state, None)


def deciding(plan: Plan, payloads: list[bytes], report: Report) -> float:
    """The core."""
    state = spread_out(plan, payloads)
    state.take_commit()
    return timed(lambda: finish(state, report))


def writing(store: SQLiteStore, plan: Plan, payloads: list[bytes], report: Report) -> float:
    """The store, of what the core decided: that the items are over, and the outputs."""
    state, run_id = spread_out(plan, payloads), f"run{time.monotonic_ns()}"
    record = RunRecord(run_id, "FanOut", b"key", b"", b"", b"", 0, 0.0, None, False, {}, (), ())
    store.create(record, state.take_commit(), progress_of(state, None))
    commit, progress = finish(state, report)
    return timed(lambda: store.write([store.prepare(run_id, commit, progress)]))


# -- limits -------------------------------------------------------------------------------------------------------


def echo(connection: Connection) -> NoReturn:
    while True:
        if (message := connection.recv_bytes()) != b"-":
            connection.send_bytes(message)


def limits(folder: Path, rounds: int) -> dict[str, tuple[str, Spread]]:
    """Of the machine: what it is -> (unit, how much)."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=echo, args=(theirs,), daemon=True)
    process.start()
    big = bytes(8 << 20)
    target = mmap.mmap(-1, len(big))

    def there_and_back() -> float:
        def ping() -> None:
            for _ in range(500):
                ours.send_bytes(b"x")
                ours.recv_bytes()

        return timed(ping) / 500 * 1e6

    def one_way() -> float:
        def stream() -> None:
            for _ in range(5000):
                ours.send_bytes(b"-")
            ours.send_bytes(b"x")
            ours.recv_bytes()

        return timed(stream) / 5000 * 1e6

    def copied() -> float:
        def copy() -> None:
            target[:] = big

        return len(big) / timed(copy) / 1e9

    with (folder / "written").open("wb", buffering=0) as file:

        def synced() -> None:
            file.write(big[:4096])
            os.fdatasync(file)

        found = {
            "a message to another process and back": ("us", there_and_back),
            "a message one way, in a stream": ("us", one_way),
            "copying memory, 8 MiB": ("GB/s", copied),
            "write of 4 KiB to a file": ("us", lambda: timed(lambda: file.write(big[:4096])) * 1e6),
            "... and fdatasync": ("us", lambda: timed(synced) * 1e6),
            "a look at the clock": ("us", lambda: timed(lambda: [time.monotonic_ns() for _ in range(1000)]) * 1e3),
        }
        for _, measure in found.values():
            measure()
        samples = interleaved({name: measure for name, (_, measure) in found.items()}, rounds)
    process.kill()
    process.join()
    for end in (ours, theirs):
        end.close()
    target.close()
    return {name: (unit, spread(samples[name])) for name, (unit, _) in found.items()}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.profile", description="where a step's time goes")
    parser.add_argument("--wide", type=int, default=200_000, help="steps of a fan-out")
    parser.add_argument("--long", type=int, default=5_000, help="steps of a loop")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of tables")
    options = parser.parse_args(arguments)
    paper = Paper("profile", options.json)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for store in (None, folder / "runs.db"):
            whole(paper, store, options.wide, options.long, options.rounds)
        alone, line = SQLiteStore(folder / "alone.db"), multiprocessing.Pipe()
        pieces = parts(alone, line)
        for measure in pieces.values():
            measure()
        samples = interleaved(pieces, options.rounds * 7)
        for opened in (alone, *line):
            opened.close()
        paper.say(f"\nus a step, alone, of a lease of {LEASE:,} items")
        found = {piece: spread([seconds / LEASE * 1e6 for seconds in taken]) for piece, taken in samples.items()}
        for piece, one in found.items():
            paper.record("part", what=piece, us=round(one.median, 3))
        paper.table(("", ""), [(piece, one.text(3)) for piece, one in found.items()])
        paper.say("\nthe machine's limits")
        there = limits(folder, options.rounds)
        for what, (unit, one) in there.items():
            paper.record("limit", what=what, unit=unit, value=round(one.median, 3))
        paper.table(("", ""), [(what, f"{one.text(2)} {unit}") for what, (unit, one) in there.items()])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
