"""Runs that are killed for real, over and over: ``python tests/faults/soak_kills.py 1000 [SEED]``. The suite does a
few.

Each run is of a workflow of its own (``flows_killed``), made by programs (``killed``) of which up to three have a
worker, themselves, or all of their processes ended by ``kill -9`` at a random moment; the last one is undisturbed.
Then its history is checked (``kill_history``), and what it came to against the same run made inline. To have one run
again: ``python tests/faults/soak_kills.py 1 SEED``.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from floxide_mp import Coordinator, Fixed, Run, RunFailedError, SQLiteStore  # noqa: E402
from floxide_mp.core.records import one_by_one, place  # noqa: E402
from floxide_mp.testing.leftovers import descriptors  # noqa: E402
from floxide_mp.wire import codec  # noqa: E402
from tests.conftest import in_use_elsewhere  # noqa: E402
from tests.faults.flows_killed import PATIENT, RUN, Ctx, Shape, Token, workflow  # noqa: E402
from tests.faults.kill_history import Facts, check_facts, check_history, executed, parse  # noqa: E402
from tests.faults.killing import LIMIT, WHOM, Killing, Program  # noqa: E402
from tests.soak_parallel import machine_wide  # noqa: E402

SIDE_BY_SIDE: Final = 2 * (os.cpu_count() or 1)
BEGINNINGS: Final = ("born", "opened", "started")
ENDS: Final = ("done", "closed")


class Killed:
    """One run, from its first program to the check."""

    def __init__(self, home: Path, seed: int) -> None:
        self.home, self.seed, self.shape = home, seed, Shape.of(seed)
        self.chance = random.Random(f"soak {seed}")
        self.killing = Killing(home, self.chance)

    def run(self) -> Counter[str]:
        """Have it killed and resumed, and look at what came of it.

        Raises:
            AssertionError: naming what is wrong.
        """
        expected, keys = self._undisturbed()
        for number in range(self.chance.randint(1, 3)):
            with self.killing.program("tests.faults.killed", self.seed, number) as program:
                for _ in range(self.chance.choice((1, 1, 1, 2))):
                    self._disturb(program, len(keys))
                if program.poll() is None and self.chance.random() < 0.8:
                    self.killing.kill(program, "program")  # it lost a worker and would come to its end
        with self.killing.program("tests.faults.killed", self.seed, "last"):
            pass  # undisturbed
        self.killing.check_files({"mended", "runs.db", "runs.db.key", "runs.db.lock"})
        got = self._facts()
        counts = check_history(parse(self.killing.history()), keys, got.outputs)
        check_facts(got, expected)
        return counts + self.killing.counts + Counter({"runs": 1})

    def _disturb(self, program: Program, steps: int) -> None:
        """Somebody is killed at a random moment of the program's life, unless it is over before."""
        when = self.chance.random()
        delay = self.chance.random()
        if when < 0.1:
            self.killing.pause(0.4 * delay, program)  # Python itself starts, and imports
        elif when < 0.3:
            self.killing.until(self.chance.choice(BEGINNINGS), 1, 0.03 * delay, program)
        elif when < 0.85:
            left = steps - self.killing.history().count(b'["did"')
            self.killing.until("did", self.chance.randint(1, max(1, left)), 0.005 * delay, program)
        else:
            self.killing.until(self.chance.choice(ENDS), 1, 0.02 * delay, program)
        self.killing.kill(program, self.chance.choice(WHOM))

    def _undisturbed(self) -> tuple[Facts, set[str]]:
        """The same run, inline: what it comes to, and the keys of its steps."""
        with tempfile.TemporaryDirectory(dir=self.home) as place, Coordinator(0, retry=PATIENT) as coordinator:
            run = coordinator.start(workflow(self.shape), Token(0), Ctx(Fixed(place)), RUN, seed=self.seed)
            try:
                run.wait(LIMIT)
            except RunFailedError:
                assert self.shape.gate
                Path(place, "mended").touch()
                run.resume()
                run.wait(LIMIT)
            return facts_of(run), executed(parse(Path(place, "history").read_bytes()))

    def _facts(self) -> Facts:
        """What the store has, as read by its reader and by a coordinator; they are to agree."""
        path = self.home / "runs.db"
        reader = SQLiteStore.open_reader(path)
        try:
            reader.check()
            events = sorted(reader.events(RUN), key=place)
            assert len({place(event) for event in events}) == len(events), "an event is there twice"
            outputs = list(one_by_one(reader.outputs(RUN)))
            assert len({place(output) for output in outputs}) == len(outputs), "an output is there twice"
            writes = [(event.field, codec.decode(event.payload)) for event in events]
        finally:
            reader.close()
        with Coordinator(0, store=path) as coordinator:
            run = coordinator.run(RUN)
            found, checkpoint = facts_of(run), run.checkpoint()
            errors, metrics = run.errors(), run.metrics()
            context = run.context()
        assert checkpoint.context == context and checkpoint.queue == ()
        assert list(checkpoint.outputs) == found.outputs
        assert found.events == [value for number, value in writes if number == 1], "the context is the fold of events"
        assert found.sum == sum(value.count for number, value in writes if number == 2)
        assert found.last == ["", *(value for number, value in writes if number == 3)][-1]
        assert [error.number for error in errors] == list(range(1, len(errors) + 1))
        if not self.shape.gate:  # there, a failed attempt may have been given back by the resume
            assert len(errors) == metrics.retries + metrics.failed, "each failed attempt has its row, and no other has"
        return found


def facts_of(run: Run) -> Facts:
    """Of a run that is over."""
    result = run.wait(LIMIT)
    context, m = result.context, result.metrics
    counts = (m.total_work_items, m.completed, m.failed)
    return Facts(result.outputs, list(context.log), context.sum.count, context.last.get(), counts)


def once(home: Path, seed: int) -> Counter[str]:
    """One run in a folder of that name, which is deleted if all was well.

    Raises:
        AssertionError: with the seed, and where the folder is.
    """
    folder = home / str(seed)
    try:
        counts = Killed(folder, seed).run()
    except BaseException as error:
        error.add_note(f"seed {seed} ({Shape.of(seed)}); what is left of it is in {folder}")
        raise
    shutil.rmtree(folder)
    return counts


def soak(home: Path, seeds: Sequence[int]) -> tuple[Counter[str], list[BaseException]]:
    """Some at a time; what there was of what, and what was wrong."""
    counts: Counter[str] = Counter()
    wrong: list[BaseException] = []
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        for future in as_completed([pool.submit(once, home, seed) for seed in seeds]):
            error = future.exception()
            if error is None:
                counts += future.result()
            else:
                wrong.append(error)
                traceback.print_exception(error)
            print(f"\r{counts['runs']}/{len(seeds)}", end="", flush=True)
    print()
    return counts, wrong


def main() -> None:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    first = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10**9)
    print(f"{times} runs, seeds from {first} on")
    begun, machine, mine = time.monotonic(), machine_wide(), descriptors()
    home = Path(tempfile.mkdtemp(prefix="soak-kills-"))
    counts, wrong = soak(home, range(first, first + times))
    for what, count in sorted(counts.items()):
        print(f"{count:>9,} {what}")
    print(f"{time.monotonic() - begun:.0f} s, {SIDE_BY_SIDE} runs at a time")
    if wrong:
        sys.exit(f"{len(wrong)} of {times} were not as they should be; what is left of them is in {home}")
    home.rmdir()
    assert descriptors() == mine
    end = time.monotonic() + LIMIT
    while left := machine_wide() - machine - in_use_elsewhere():  # of others, too: theirs should go away
        assert time.monotonic() < end, f"shared memory or sockets: {left}"
        time.sleep(0.5)
    print("all as they should be, and nothing is left")


if __name__ == "__main__":
    main()
