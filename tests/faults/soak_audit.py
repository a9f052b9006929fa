"""``examples.audit`` of the whole Python installation, killed ten times: ``python tests/faults/soak_audit.py
[DIRECTORY]``.

Each time a program goes on with the audit, and all of its processes are ended by ``kill -9`` at a random moment; an
eleventh comes to the end. The report must be that of an audit which nobody disturbed, and only what was being worked
on may be done again. The suite does the same with a few hundred small files.
"""

from __future__ import annotations

import random
import shutil
import sys
import sysconfig
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from examples.audit import Audit, Request
from floxide_mp import Coordinator, SQLiteStore
from tests.faults.kill_history import Line, parse
from tests.faults.killed_audit import RUN, WORKERS
from tests.faults.killing import Killing

KILLS: Final = 10
LIMIT: Final = 600.0  # seconds that a program may take


def audit(home: Path, directory: str, seed: int) -> tuple[list[str], Counter[str]]:
    """The report of an audit that is killed; and how many executions there were, and of what kind.

    Raises:
        AssertionError: naming what is wrong.
    """
    chance = random.Random(seed)
    undisturbed: list[str] = Audit().run(Request(directory), workers=WORKERS).output
    total = int(next(line.split()[1] for line in undisturbed if line.startswith("all ")).replace(",", ""))
    killing = Killing(home, chance, LIMIT)
    for kills_left in range(KILLS, 0, -1):
        with killing.program("tests.faults.killed_audit", directory) as program:
            left = total - len({line[1] for line in parse(killing.history()) if line[0] == "did"})
            if chance.random() < 0.2:
                killing.pause(chance.uniform(0.0, 0.3), program)  # it begins, or is about to
            else:
                most = int(1.5 * left / (kills_left + 1))
                killing.until("did", chance.randint(1, max(1, most)), chance.uniform(0.0, 0.003), program)
            killing.kill(program, chance.choice(("program", "tree")))
    with killing.program("tests.faults.killed_audit", directory):
        pass
    assert killing.counts["killed: program"] + killing.counts["killed: tree"] == KILLS, killing.counts
    killing.check_files({"report", "runs.db", "runs.db.key", "runs.db.lock"})
    report = (home / "report").read_text().split("\n")
    assert report == undisturbed, "the report is another one"
    with Coordinator(0, store=home / "runs.db") as coordinator:
        assert coordinator.run(RUN).wait(0).output == undisturbed
    reader = SQLiteStore.open_reader(home / "runs.db")
    reader.check()
    reader.close()
    return report, killing.counts + count(parse(killing.history()), total)


def count(lines: Sequence[Line], files: int) -> Counter[str]:
    """Look at what was executed again: of each worker that was killed, the last ones and no others.

    Those that had not come to their end were running, one of each worker at the most; the others were done, and not
    yet on disk.

    Raises:
        AssertionError: something else was done again.
    """
    begun: dict[int, list[str]] = defaultdict(list)  # by worker
    ended = {(line[2], line[1]) for line in lines if line[0] == "end"}
    last: dict[str, int] = {}  # file -> who measured it last
    for line in lines:
        if line[0] == "did":
            begun[line[3]].append(line[1])
            last[line[1]] = line[3]
    found = Counter({"files": files, "executions": sum(map(len, begun.values())), "executed again, running": 0})
    for worker, names in begun.items():
        again = [last[name] != worker for name in names]
        assert again == sorted(again), f"worker {worker} did {names}, and of these again: {again}"
        running = [name for name in names if (worker, name) not in ended]
        assert running in ([], names[-1:]), f"worker {worker} was at {running}"
        found["executed again, running"] += len(running)
        found["executed again, done and not on disk"] += sum(again) - len(running)
        found["most of one worker"] = max(found["most of one worker"], sum(again))
    assert len(last) >= files
    return found


def main() -> None:
    directory = sys.argv[1] if len(sys.argv) > 1 else sysconfig.get_path("stdlib")
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10**9)
    print(f"audit of {directory}, killed {KILLS} times, seed {seed}")
    home = Path(tempfile.mkdtemp(prefix="soak-audit-"))
    begun = time.monotonic()
    report, counts = audit(home / "run", directory, seed)
    print("\n".join(report[-3:]))
    for what, number in sorted(counts.items()):
        print(f"{number:>9,} {what}")
    print(f"{time.monotonic() - begun:.0f} s; the report is that of an undisturbed audit")
    shutil.rmtree(home)


if __name__ == "__main__":
    main()
