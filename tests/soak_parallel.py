"""``examples.parallel`` many times in a row: ``python tests/soak_parallel.py 200``. The suite does a few of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
LIMIT = 60  # seconds; one takes a fraction of one
EXPECTED = re.compile(
    r'Worker [01] processed branch of run run1 with result: "branch_a_success"\n'
    r'Worker [01] processed branch of run run1 with result: "branch_b_success"\n'
    r"Run run1 completed; final context: Ctx \{ local_counter: 27, logs: \["
    r'"InitialNode: starting workflow", "SplitNode: spawning two branches", '
    r'"BranchA executed", "BranchB executed"\] \}\n'
)


def once(home: Path) -> None:
    """Run it once, with ``home`` as the place for temporary files, and see that nothing is left of it.

    Raises:
        AssertionError: naming what is wrong.
    """
    mark = f"SOAK={os.getpid()}-{os.urandom(8).hex()}"  # whoever descends from this run has it in its environment
    name, value = mark.split("=")
    done = subprocess.run(
        [sys.executable, "-m", "floxide_mp", "examples.parallel"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(home), name: value},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done
    assert done.stderr == "", done.stderr
    assert EXPECTED.fullmatch(done.stdout), done.stdout
    assert not os.listdir(home), f"temporary files: {os.listdir(home)}"
    assert not (alive := with_mark(mark)), f"processes: {alive}"


def with_mark(mark: str) -> list[str]:
    """The processes that have ``mark`` in their environment, zombies aside."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(f"{process.name}: {(process / 'cmdline').read_text()}")
        except OSError:
            continue  # ended while we looked, or another user's
    return found


def machine_wide() -> set[str]:
    """What has a name that any process can see: shared memory, and sockets."""
    sockets = [line.split()[7:] for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return {*os.listdir("/dev/shm"), *(name[0] for name in sockets if name)}


def main() -> None:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    before = machine_wide()
    with tempfile.TemporaryDirectory() as home:
        for number in range(times):
            once(Path(home))
            print(f"\r{number + 1}/{times}", end="", flush=True)
    end = time.monotonic() + LIMIT
    while left := machine_wide() - before:  # of other programs, too: theirs should go away
        assert time.monotonic() < end, f"shared memory or sockets: {left}"
        time.sleep(0.5)
    print(f"\nall {times} as they should be, and nothing is left")


if __name__ == "__main__":
    main()
