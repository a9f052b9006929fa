"""A thousand random jobs: ``python -m tests.random_jobs.soak 1000 [SEED]``. The suite does a few.

Each job runs inline, on 2 and on 4 workers, on 2 workers that are killed, and in programs with a store that are killed
whole, up to three times, and gone on with on another number of workers. All answers are to be equal, and equal to what
a plain interpreter of the same tree says. ``... 1 SEED`` does one job again.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Final

from .shapes import Expected, Fragment, TooLargeError, draw, expected
from .source import Writer

ROOT: Final = Path(__file__).parents[2]
LIMIT: Final = 300.0  # seconds for one program
SIDE_BY_SIDE: Final = 2 * (os.cpu_count() or 1)


def job_of(seed: int) -> tuple[str, Expected | None]:
    """A script, and what it comes to: the first of the seed that is not too large."""
    for number in range(1000):
        tree = draw(seed + number * 1_000_000_007)
        try:
            text = Writer(seed, tree).text()
            return text, _plain(tree, text)
        except TooLargeError:
            continue
    raise AssertionError(f"no job of seed {seed} is small")


def _plain(tree: Fragment, text: str) -> Expected | None:
    space: dict[str, Any] = {"__name__": f"random_job_{id(tree)}"}
    module = type(sys)(space["__name__"])
    sys.modules[module.__name__] = module  # where its classes are looked up
    try:
        exec(compile(text, "job.py", "exec"), vars(module))
        functions = {name[2:]: made for name, made in vars(module).items() if name.startswith("f_")}
        return expected(tree, functions, vars(module)["Token"](1))
    finally:
        del sys.modules[module.__name__]


def check(folder: Path, seed: int) -> None:
    """One job, in every way.

    Raises:
        AssertionError: two ways give different answers, or one fails.
    """
    text, plain = job_of(seed)
    folder.mkdir(parents=True)
    script = folder / "job.py"
    script.write_text(text)
    answers = [*_here(script), _killed(script, seed)]
    first = answers[0]
    for other in answers[1:]:
        assert {**other, "way": ""} == {**first, "way": ""}, f"{first}\n\n{other}"
    if plain is not None:
        outputs = None if first["outputs"] is None else sorted(first["outputs"])
        right = plain.outputs
        assert outputs == (None if right is None else [[t.n, t.turn, len(t.body), t.body[:1].hex()] for t in right])
        assert first["outputs"] is None or sorted(map(tuple, first["log"])) == plain.log


def _here(script: Path) -> list[dict[str, Any]]:
    with _program(script, "here") as program:
        printed, errors = program.communicate(timeout=LIMIT)
    assert program.returncode == 0, errors
    return [json.loads(line) for line in printed.splitlines()]


def _killed(script: Path, seed: int) -> dict[str, Any]:
    """The answer of a job with a store, all of whose processes are killed at random moments."""
    chance = random.Random(f"kills {seed}")
    store = script.parent / "runs.db"
    for _ in range(chance.randint(1, 3)):
        with _program(script, "store", str(store), str(chance.choice((0, 1, 2, 3)))) as program:
            assert program.stdout is not None
            if program.stdout.readline():  # it has opened its store
                try:
                    program.wait(chance.random() ** 2 * 0.4)
                except subprocess.TimeoutExpired:
                    os.killpg(program.pid, signal.SIGKILL)
            errors = program.communicate(timeout=LIMIT)[1]
        assert program.returncode in (0, -signal.SIGKILL), errors
    with _program(script, "store", str(store), str(chance.choice((0, 1, 2, 4)))) as program:
        printed, errors = program.communicate(timeout=LIMIT)
    assert program.returncode == 0, errors
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def _program(script: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", script.name, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=script.parent, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )


def once(home: Path, seed: int) -> None:
    """One job in a folder of that name, which is deleted if all was well."""
    try:
        check(home / str(seed), seed)
    except BaseException as error:
        error.add_note(f"seed {seed}; its script is {home / str(seed) / 'job.py'}")
        raise
    shutil.rmtree(home / str(seed))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    first = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10**9)
    print(f"{count} jobs, seeds from {first} on")
    home = Path(tempfile.mkdtemp(prefix="random-jobs-"))
    wrong = 0
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        for number, future in enumerate(as_completed([pool.submit(once, home, first + n) for n in range(count)]), 1):
            if (error := future.exception()) is not None:
                wrong += 1
                traceback.print_exception(error)
            print(f"\r{number}/{count}, {wrong} wrong", end="", flush=True)
    print()
    if wrong:
        sys.exit(f"{wrong} of {count} jobs were wrong; their scripts are in {home}")
    home.rmdir()
    print("all equal")


if __name__ == "__main__":
    main()
