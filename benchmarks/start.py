"""How long a program takes that has next to nothing to do: ``python -m benchmarks.start [--json]``.

- ``import``: seconds that ``import floxide_mp`` takes in a fresh interpreter, as told by that.
- ``script``: a fresh script, two steps one after the other on two workers, from the start of its interpreter to its
  end; the same with ``ProcessPoolExecutor`` (spawn), and the interpreter alone. They take turns in rotating order.

What they do for it is not the same: the executor starts a process when there is something to do and none is idle, so it
starts one here, and it does not look whether that is alive before its result is due. Ours starts both workers.

All modules are compiled before, as they are where a package was installed: with ``PYTHONDONTWRITEBYTECODE`` set, as
some machines have it, each process of a checkout would compile every module anew, which takes it 40 ms.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.measuring import Paper, interleaved, ratio, spread, timed

ROOT = Path(__file__).parent.parent
OURS, EXECUTOR, NOTHING = "floxide_mp", "ProcessPoolExecutor, spawn", "the interpreter alone"

SCRIPTS = {
    OURS: """
from floxide_mp import Workflow, node

@node
def double(value: int) -> int:
    return 2 * value

@node
def increment(value: int) -> int:
    return value + 1

class Two(Workflow):
    double = double
    increment = increment
    start = double
    edges = {double: [increment]}

print(Two().run(20, workers=2).output)
""",
    EXECUTOR: """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

def double(value: int) -> int:
    return 2 * value

def increment(value: int) -> int:
    return value + 1

if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        doubled = pool.submit(double, 20).result()
        print(pool.submit(increment, doubled).result())
""",
    NOTHING: "print(41)\n",
}
IMPORT = """
import time
before = time.perf_counter()
import floxide_mp
print(time.perf_counter() - before)
"""


def output(place: str, *arguments: str) -> str:
    """What a fresh interpreter prints, which has its compiled modules in that directory."""
    command = [sys.executable, *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": place, "PYTHONDONTWRITEBYTECODE": ""}
    return subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True).stdout.strip()


def running(script: Path) -> Callable[[], float]:
    """Times a script."""

    def once() -> float:
        def whole() -> None:
            assert output(str(script.parent), str(script)) == "41"

        return timed(whole)

    return once


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.start", description="what it takes to begin")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    options = parser.parse_args(arguments)
    paper = Paper("start", options.json)
    with tempfile.TemporaryDirectory() as place:
        imports = [float(output(place, "-c", IMPORT)) for _ in range(options.rounds + 1)][1:]  # the first one compiles
        paper.record("import", seconds=[round(s, 5) for s in imports])
        paper.say(f"\nimport floxide_mp: {spread(imports).text(1, 1e3)} ms")
        contenders = {}
        for number, (name, text) in enumerate(SCRIPTS.items()):
            script = Path(place, f"script{number}.py")
            script.write_text(text)
            contenders[name] = running(script)
            contenders[name]()  # once, for what is compiled and read from disk
        samples = interleaved(contenders, options.rounds)
    rows = []
    for name, seconds in samples.items():
        times = ratio(seconds, samples[EXECUTOR])
        rows.append((name, spread(seconds).text(0, 1e3), times.text(2)))
        paper.record("samples", contender=name, seconds=[round(s, 5) for s in seconds], times=round(times.median, 3))
    paper.say(f"\na fresh script, two steps on two workers, median (quartiles) of {options.rounds} rounds")
    paper.table(("", "ms", "time, in the executor's"), rows)
    met = [
        paper.target("import, ms", spread(imports).median * 1e3, 60, most=True),
        paper.target("script, times ProcessPoolExecutor", ratio(samples[OURS], samples[EXECUTOR]).median, 1.3, True),
    ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    raise SystemExit(main())
