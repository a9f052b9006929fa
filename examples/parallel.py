"""Two branches side by side, writing to one context: the first example of floxide.

python -m floxide_mp examples.parallel
python -m floxide_mp examples.parallel --input '{"fail": true}'     # branch_b aborts, and the run fails
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from floxide_mp import Abort, Context, EventLog, Merge, Next, Node, RunResult, Workflow


@dataclass
class Counter(Merge):
    """A sum that many steps add to at once."""

    value: int = 0

    def merge(self, other: Counter) -> None:
        self.value += other.value


@dataclass
class Ctx(Context):
    """What the steps of a run share."""

    local_counter: Counter = field(default_factory=Counter)
    logs: EventLog[str] = field(default_factory=EventLog)


@dataclass(frozen=True)
class Job:
    """The input. ``fail`` tells branch_b to abort."""

    fail: bool = False


class InitialNode(Node):
    def process(self, ctx: Ctx, job: Job) -> Job:
        ctx.local_counter.merge(Counter(1))
        ctx.logs.append("InitialNode: starting workflow")
        return job


class SplitNode(Node):
    def process(self, ctx: Ctx, job: Job) -> Job:
        ctx.local_counter.merge(Counter(1))
        ctx.logs.append("SplitNode: spawning two branches")
        return job  # both successors get it


class BranchA(Node):
    def process(self, ctx: Ctx, job: Job) -> Next[str]:
        ctx.local_counter.merge(Counter(10))
        ctx.logs.append("BranchA executed")
        return Next("branch_a_success")


class BranchB(Node):
    def process(self, ctx: Ctx, job: Job) -> Next[str] | Abort:
        if job.fail:
            return Abort("branch_b was told to fail")
        ctx.local_counter.merge(Counter(15))
        ctx.logs.append("BranchB executed")
        return Next("branch_b_success")


class Parallel(Workflow):
    context = Ctx

    initial = InitialNode()
    split = SplitNode()
    branch_a = BranchA()
    branch_b = BranchB()

    start = initial
    edges = {initial: [split], split: [branch_a, branch_b]}

    cli_defaults = {"workers": 2, "run_id": "run1"}

    @staticmethod
    def cli_input(value: Any) -> Job:
        return Job(**(value or {}))

    @staticmethod
    def cli_report(result: RunResult) -> Iterator[str]:
        for worker, output in zip(result.workers, result.outputs, strict=True):
            yield f"Worker {worker} processed branch of run {result.run_id} with result: {json.dumps(output)}"
        ctx = result.context
        shown = f"Ctx {{ local_counter: {ctx.local_counter.value}, logs: {json.dumps(list(ctx.logs))} }}"
        yield f"Run {result.run_id} completed; final context: {shown}"
