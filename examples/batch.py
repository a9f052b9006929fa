"""A batch: ``BatchNode`` sends every value of a list through a node, a few at a time, and gives the list of results.

    python -m floxide_mp examples.batch
    python -m floxide_mp examples.batch --input '[1000036000099, 1000000016000000063]'

Keys are checked for small factors, at most two at once. Each check is a step of its own, remembered and counted by
itself, yet ``decide`` gets all results together and in the order of the keys.
"""

from __future__ import annotations

from dataclasses import dataclass

from floxide_mp import BatchNode, Node, Workflow, node


@dataclass(frozen=True)
class Checked:
    key: int
    factor: int | None  # the smallest, if it is a small one


class SmallFactor(Node):
    """Trial division: slow enough to be worth a process."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def process(self, key: int) -> Checked:
        return Checked(key, next((n for n in range(2, self.limit) if n < key and key % n == 0), None))


def weak(keys: list[Checked]) -> bool:
    return any(one.factor for one in keys)


@node
def reject(keys: list[Checked]) -> list[str]:
    return [f"{one.key} is divisible by {one.factor}" for one in keys if one.factor]


@node
def accept(keys: list[Checked]) -> list[str]:
    return [f"{one.key} has no small factor" for one in keys]


class Keys(Workflow):
    check = BatchNode(SmallFactor(limit=200_000), batch_size=2)
    reject, accept = reject, accept

    start = check
    edges = {check: {weak: [reject], list: [accept]}}  # the first that matches

    cli_defaults = {"input": [1000036000099, 10403, 1000000016000000063, 2999999, 1299709 * 15485863]}
