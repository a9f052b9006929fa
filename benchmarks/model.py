"""One large object that all items read: ``python -m benchmarks.model [--json]``.

2,000 items on two workers, each of which looks at a few bytes of 500 MB. ``once per machine``: it is
a ``Fixed`` of the context. ``once per worker``: each loads it from a file when the first item asks. Beside them
``ProcessPoolExecutor`` with an initializer that loads it, and the same with the object as an argument of each call, for
a few items only. Each contender has processes of its own.

Seconds are of the whole: processes, loading, items. Memory is the most that all processes together had above what was
there before (as in ``benchmarks.payloads``), in models; the program has one to begin with, which does not count.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from pickle import PickleBuffer
from typing import Any, Final

from benchmarks.measuring import Paper, interleaved, spread, timed
from benchmarks.payloads import peak
from floxide_mp import Context, Fixed, NextAll, Workflow, node

WORKERS: Final = 2
MACHINE, WORKER = "floxide_mp, once per machine", "floxide_mp, once per worker"
INITIALIZER, ARGUMENT = "ProcessPoolExecutor, initializer", "ProcessPoolExecutor, an argument"
MOST: Final = {MACHINE: 1.2, WORKER: WORKERS + 0.2}  # models


class Model:
    """Stands for what NumPy, PyTorch or Arrow have: few objects, and a buffer that pickle may leave out."""

    def __init__(self, data: Any) -> None:
        self.data = memoryview(data)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return Model, (PickleBuffer(self.data) if protocol >= 5 else bytes(self.data),)

    def look(self, item: int) -> int:
        return int(self.data[item * 4099 % len(self.data)]) + int(self.data[-1 - item])


@cache
def loaded(path: str) -> Model:
    return Model(Path(path).read_bytes())


@dataclass
class Models(Context):
    model: Fixed[Model | None]


@node
def items(task: tuple[int, Any]) -> NextAll[tuple[int, Any]]:
    count, path = task
    return NextAll([(item, path) for item in range(count)])


@node
def score(ctx: Models, task: tuple[int, Any]) -> int:
    item, path = task
    model = ctx.model.get() if path is None else loaded(path)
    assert model is not None
    return model.look(item)


class Scores(Workflow):
    context = Models
    items, score = items, score
    start = items
    edges = {items: [score]}


def ours(count: int, model: Model | None, path: str | None) -> list[int]:
    given = Models(Fixed(model))
    return list(Scores().run((count, path), ctx=given, workers=WORKERS).outputs)


def from_file(count: int, path: str) -> list[int]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, context, initializer=loaded, initargs=(path,)) as executor:
        return list(executor.map(partial(_look_at_loaded, path), range(count), chunksize=max(1, count // 8)))


def _look_at_loaded(path: str, item: int) -> int:
    return loaded(path).look(item)


def by_argument(count: int, model: Model) -> list[int]:
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as executor:
        return list(executor.map(model.look, range(count)))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.model", description="one large object that all items read")
    parser.add_argument("--size", type=int, default=500_000_000, help="bytes of it")
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--few", type=int, default=4, help="items for who is given it with each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    options = parser.parse_args(arguments)
    paper = Paper("model", options.json)
    model = Model(bytearray(range(256)) * (options.size // 256))
    with tempfile.TemporaryDirectory() as place:
        path = str(Path(place, "model"))
        Path(path).write_bytes(model.data)
        runs: dict[str, tuple[int, Callable[[int], list[int]]]] = {
            MACHINE: (options.items, lambda count: ours(count, model, None)),
            WORKER: (options.items, lambda count: ours(count, None, path)),
            INITIALIZER: (options.items, lambda count: from_file(count, path)),
            ARGUMENT: (options.few, lambda count: by_argument(count, model)),
        }

        def checked(name: str) -> None:
            count, run = runs[name]
            assert sorted(run(count)) == sorted(map(model.look, range(count)))

        memory = {name: peak(partial(checked, name)) / options.size for name in runs}
        samples = interleaved({name: partial(timed, partial(checked, name)) for name in runs}, options.rounds)
    rows = []
    for name, seconds in samples.items():
        count = runs[name][0]
        rows.append((name, f"{count:,}", spread(seconds).text(2), f"{memory[name]:.2f}"))
        paper.record(
            "samples",
            contender=name,
            items=count,
            seconds=[round(s, 4) for s in seconds],
            models=round(memory[name], 3),
        )
    paper.say(f"\na model of {options.size / 1e6:,.0f} MB on {WORKERS} workers, median (quartiles) of {options.rounds}")
    paper.table(("", "items", "seconds", "memory, in models"), rows)
    met = [paper.target(f"{name}, models in memory", memory[name], most, most=True) for name, most in MOST.items()]
    return 0 if all(met) else 1


if __name__ == "__main__":
    raise SystemExit(main())
