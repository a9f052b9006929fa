"""A workflow inside another: ``CompositeNode`` puts all its nodes in the place of one.

    python -m floxide_mp examples.nested
    python -m floxide_mp examples.nested --input '"Ann <ann@example.org>; bob"'

The inner steps are steps of the outer run: remembered, retried and counted one by one, as the last line shows. What
fails inside, at whichever node, goes to the outer ``on_failure``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from floxide_mp import Arrivals, CompositeNode, Context, Join, RunResult, SplitNode, Workflow, node

LIST = "Ann <ann@Example.org>; bob@example.org ;carol at example.org; Ann <ANN@example.org>"


@node
def extract(entry: str) -> str:
    """The address in an entry of an address book, which may have a name before it."""
    found = re.search(r"[^\s<>]+@[^\s<>]+", entry)
    if found is None:
        raise ValueError("no address")
    return found[0]


@node
def normalize(address: str) -> str:
    return address.lower()


class Clean(Workflow):
    """One entry becomes an address. It is a workflow like any other, and may be run by itself."""

    extract, normalize = extract, normalize

    start = extract
    edges = {extract: [normalize]}


@node
def reject(ctx: Context, entry: str) -> str:
    return f"{entry.strip()}: {ctx.item.error}"


@Join
def report(found: Arrivals) -> dict[str, list[str]]:
    by = found.by_node
    return {"addresses": sorted(set(by["clean/normalize"])), "rejected": by["reject"]}


class AddressBook(Workflow):
    split = SplitNode(lambda text: text.split(";"))
    clean = CompositeNode(Clean)
    reject, report = reject, report

    start = split
    edges = {split: [clean], clean: [report], reject: [report]}
    on_failure = {clean: [reject]}

    cli_defaults = {"input": LIST}

    @staticmethod
    def cli_report(result: RunResult) -> Iterator[str]:
        yield json.dumps(result.output)
        yield f"{result.metrics.completed} steps, {result.metrics.failed} failed"
