"""Workflows for the tests of sources, pauses, time-outs, retries and resuming."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floxide_mp import Context, EventLog, Join, Node, Workflow, node
from tests.flows_faults import note
from tests.flows_run import echo, wait_at


@dataclass
class Log(Context):
    log: EventLog[Any]


@node
def logged(ctx: Log, value: Any) -> Any:
    """A number below 0 fails."""
    ctx.log.append(value)
    if value < 0:
        raise ValueError(f"no {-value}")
    return value


class Summed(Workflow):
    """What a source sends, and the sum of it."""

    context = Log
    logged, total = logged, Join(sum)
    start = logged
    edges = {logged: [total]}


class Flow(Workflow):
    context = Log
    logged, after = logged, echo
    start = logged
    edges = {logged: [after]}


class Gates(Workflow):
    """Each value is a gate, or /dev/null."""

    gate, all = wait_at, Join()
    start = gate
    edges = {gate: [all]}


class SerialGate(Node):
    serial = True

    def process(self, gate: str) -> Any:
        return wait_at(gate)


class SerialGates(Workflow):
    gate = SerialGate()
    start = gate


# -- steps that say that they ran, and come to grief ------------------------------------------------------------------


class Step(Node):
    """Writes its name to the file ``ran`` and to the log; fails, hangs or is interrupted as files in the folder say."""

    def __init__(self, name: str) -> None:
        self.name = name

    def process(self, ctx: Log, folder: str) -> str:
        note(folder, "ran", self.name)
        ctx.log.append(self.name)
        trouble = Path(folder, self.name)
        what = trouble.read_text() if trouble.exists() else "nothing"
        if what == "fails":
            raise ValueError(f"{self.name} fails")
        if what == "interrupts":  # as if Ctrl-C were pressed; only inline
            trouble.unlink()
            raise KeyboardInterrupt
        if what == "hangs":
            trouble.rename(f"{trouble}-hangs")
            time.sleep(3600)
        return folder


def chain(*names: str) -> type[Workflow]:
    after = {name: [then] for name, then in itertools.pairwise(names)}
    return Workflow.build("Chain", {name: Step(name) for name in names}, names[0], after, context=Log)


Chain = chain("first", "second", "last")
Single = chain("only")
