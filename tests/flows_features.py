"""Workflows for the tests of sources, pauses, time-outs, retries and resuming."""

from __future__ import annotations

import os
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
