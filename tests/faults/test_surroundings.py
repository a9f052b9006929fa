"""FAULTS rows 28, 66-68, 74, 75: the surroundings: locks, every kind of ``__main__``, descriptors, output, pools."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from floxide_mp import Coordinator, FloxideError
from floxide_mp.engines.processes.process import spawn
from floxide_mp.engines.processes.rpc_server import SchedulerServer

from .. import flows_faults as flows
from ..scripts import ROOT, run_python


def test_row_66_threads_that_hold_locks(tmp_path: Path) -> None:
    """Were workers forked, the lock would be held in them, by nobody."""
    release = threading.Event()
    taken = threading.Event()

    def hold() -> None:
        with flows.LOCK:
            taken.set()
            release.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait(60)
    try:
        with Coordinator(2) as c:
            result = c.start(flows.HarmAll, flows.Plan(str(tmp_path), "takes_the_lock", count=2)).wait(30)
            assert len(result.outputs) == 2
    finally:
        release.set()
        holder.join()


# -- row 67 --------------------------------------------------------------------------------------------------------

# Everything that a workflow can be made of, and all of it in __main__; blank lines only where a REPL wants them.
SCRIPT = """\
import dataclasses, enum, sys
from floxide_mp import Context, Coordinator, EventLog, NextAll, Node, Workflow, node, when

FACTOR = 10

@dataclasses.dataclass(frozen=True)
class Order:
    number: int

@dataclasses.dataclass
class Receipt:
    order: Order
    price: int

class Speed(enum.Enum):
    FAST = 1
    SLOW = 2

@dataclasses.dataclass
class Paid:
    order: Order

@dataclasses.dataclass
class Ctx(Context):
    seen: EventLog[Order]

@node
def split(ctx: Ctx, first: Order):
    ctx.seen.append(first)
    return NextAll(Order(first.number + n) for n in range(4))

@node
def sort(order: Order):
    return order

@node
def pace(order: Order):
    return Speed.FAST if order.number == 2 else Speed.SLOW

class Price(Node):
    def __init__(self, rule):
        self.rule = rule
    def process(self, ctx: Ctx, order):
        ctx.seen.append(order)
        return Receipt(order, self.rule(order))

class Shop(Workflow):
    context = Ctx
    split = split
    sort = sort
    pace = pace
    odd = Price(lambda order: order.number * FACTOR)
    fast = Price(lambda speed: speed.value * FACTOR + 1)
    start = split
    edges = {
        split: [sort],
        sort: {when(Order, lambda order: order.number % 2 == 1): [odd], Order: [pace]},
        pace: {Speed.FAST: [fast], Speed.SLOW: []},
        odd: [],
        fast: [],
    }

def main(workers):
    with Coordinator(workers) as c:
        result = c.start(Shop, Order(1)).wait(40)
    receipts = [output for output in result.outputs if type(output) is Receipt]
    slow = [output for output in result.outputs if output is Speed.SLOW]
    assert len(receipts) + len(slow) == len(result.outputs) == 4, "other classes of that name"
    return [r.price for r in receipts], result.context.seen

two, none = main(2), main(0)
sys.stdout.write(f"answer {two[0]} {none[0]} {[str(x) for x in two[1]] == [str(x) for x in none[1]]} {len(two[1])}\\n")
"""
ANSWER = "answer [10, 30, 11] [10, 30, 11] True 4"

CELLS = """\
import sys
namespace = vars(sys.modules["__main__"])
for number, cell in enumerate(open("cells.txt").read().split("\\n\\n")):
    exec(compile(cell, f"<cell {number}>", "exec"), namespace)
"""

CONSOLE = """\
import code, sys
interpreter = code.InteractiveInterpreter(vars(sys.modules["__main__"]))
for cell in open("cells.txt").read().split("\\n\\n"):
    assert not interpreter.runsource(cell + "\\n", symbol="exec")
"""


@pytest.mark.parametrize("how", ["file", "stdin", "command", "repl", "notebook", "console"])
def test_row_67_without_a_main_guard(how: str, tmp_path: Path) -> None:
    (tmp_path / "cells.txt").write_text(SCRIPT)
    (tmp_path / "script.py").write_text({"notebook": CELLS, "console": CONSOLE}.get(how, SCRIPT))
    arguments, text = {
        "stdin": (["-"], SCRIPT),
        "command": (["-c", SCRIPT], None),
        "repl": (["-i", "-q"], SCRIPT),
    }.get(how, (["script.py"], None))
    done = run_python(arguments, text, tmp_path)
    assert ANSWER in done.stdout, done.stdout + done.stderr
    assert "Error" not in done.stderr
    assert done.returncode == 0


GOING_ON = """\
import pathlib
from floxide_mp import MemoryStore, RunFailedError, Workflow, node

class Job:  # the nodes do not know its name
    def __init__(self, number):
        self.number = number

@node
def halve(job):
    return 10 / job.number if pathlib.Path("mended").exists() else 1 / 0

class Halves(Workflow):
    halve = halve
    start = halve

store = MemoryStore()
try:
    Halves().run_with_checkpoint(Job(4), store=store, run_id="halves", workers=1)
except RunFailedError as error:
    print(type(error.__cause__).__name__)
pathlib.Path("mended").touch()
print("answer", Halves().resume(store=store, run_id="halves", workers=1).output)
"""


def test_row_67_a_run_that_is_resumed_has_the_classes_of_main_that_its_input_needs(tmp_path: Path) -> None:
    done = run_python(["-c", GOING_ON], None, tmp_path)
    assert done.stdout.split() == ["ZeroDivisionError", "answer", "2.5"], done.stdout + done.stderr


# -- the others ----------------------------------------------------------------------------------------------------

FEW_DESCRIPTORS = """\
import logging, resource
logging.basicConfig()
from floxide_mp import Coordinator, FloxideError
from tests import flows_faults as flows
import os, signal
resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))
try:
    with Coordinator(30) as c:
        workers = c.workers()
        print("workers", 0 < len(workers) < 30)
        for _ in range(3):
            os.kill(c.workers()[0].pid, signal.SIGKILL)
            print(c.start(flows.HarmAll, flows.Plan(os.environ["FOLDER"], "killed_once", count=4)).wait(30).outputs)
except FloxideError as error:
    print("named", error)
"""


def test_row_68_few_descriptors(tmp_path: Path) -> None:
    done = run_python(["-"], FEW_DESCRIPTORS.format(limit=64), tmp_path)
    assert done.stdout.splitlines() == ["workers True", *["[0, 1, 2, 3]"] * 3], done.stderr
    assert "of 30 workers can be started: [Errno 24] Too many open files" in done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize("limit", [7, 12])
def test_row_68_no_descriptors(limit: int, tmp_path: Path) -> None:
    done = run_python(["-"], FEW_DESCRIPTORS.format(limit=limit), tmp_path)
    assert "no worker process can be started" in done.stdout, done.stderr
    assert "Too many open files" in done.stdout
    assert done.stderr == ""
    assert done.returncode == 0


def test_row_68_a_start_that_fails_half_way_leaves_nothing() -> None:
    """At each descriptor that it may fail to get; the fixture looks after what may be left."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    failures = []
    try:
        for limit in range(3, 1000):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
            try:
                process = spawn(0, 1)
            except OSError as error:
                failures.append(error.errno)
            else:
                break
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    process.kill()
    process.reap()
    process.close()
    assert len(failures) > 10
    assert set(failures) == {errno.EMFILE}


def test_row_74_prints_10_megabytes(tmp_path: Path) -> None:
    text = "from tests.flows_faults import Prints\nprint('printed', Prints().run(10, workers=1).output)\n"
    done = run_python(["-"], text, tmp_path)
    assert done.stdout.count("x") == 10 * ((1 << 20) - 1)
    assert done.stdout.endswith("printed 10\n")
    assert done.stderr == ""


def test_row_28_standard_streams_that_are_closed(tmp_path: Path) -> None:
    """A worker's descriptors must not take their places."""
    (tmp_path / "script.py").write_text(
        "import os\nfrom tests.flows_faults import HarmAll, Plan\n"
        "outputs = HarmAll().run(Plan(os.environ['FOLDER'], 'killed_once'), workers=2).outputs\n"
        "open('answer', 'w').write(repr(outputs))\n"
    )
    closing = f'exec "{sys.executable}" script.py <&- >&- 2>&-'
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FOLDER": str(tmp_path)}
    assert subprocess.run(["sh", "-c", closing], cwd=tmp_path, env=environment, timeout=50).returncode == 0
    assert (tmp_path / "answer").read_text() == "[0, 1, 2, 3, 4, 5]"


def test_row_75_a_node_with_pools_of_its_own() -> None:
    with Coordinator(2) as c:
        runs = [c.start(flows.OwnPools, [1, 2, 3]) for _ in range(2)]
        assert [run.wait(50).output for run in runs] == [[1, 4, 9, 1, 4, 9]] * 2


def test_row_68_no_thread_to_serve_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended, not waited for."""

    def serve(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(SchedulerServer, "serve", serve)
    with pytest.raises(FloxideError, match="no worker process can be started: can't start new thread"):
        Coordinator(1)
