"""Two ways to go on, chosen by what a node returns. Each way hands on another kind of value.

    python -m floxide_mp examples.branching                      # a large amount: somebody has to look at it
    python -m floxide_mp examples.branching --input 40

``check`` says that it returns ``Paid | Doubtful``, so a graph that forgets one of the two is an error when the class
is made, not when the first doubtful claim comes in.
"""

from __future__ import annotations

from dataclasses import dataclass

from floxide_mp import Node, Workflow, node, when


@dataclass(frozen=True)
class Paid:
    cents: int


@dataclass(frozen=True)
class Doubtful:
    reason: str


class Check(Node):
    """Claims of up to ``limit`` are paid without questions."""

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def process(self, amount: float) -> Paid | Doubtful:
        if amount <= self.limit:
            return Paid(round(amount * 100))
        return Doubtful(f"{amount:.2f} is more than {self.limit:.2f}")


@node
def pay(claim: Paid) -> str:
    return f"{claim.cents} cents are on their way"


@node
def ask(reason: str) -> str:
    return f"please look at this claim: {reason}"


class Claims(Workflow):
    check = Check(limit=100.0)
    pay = pay
    ask = ask

    start = check
    edges = {
        check: {
            Paid: [pay],  # gets the Paid
            when(Doubtful, take=lambda doubt: doubt.reason): [ask],  # gets the reason alone
        },
    }

    cli_defaults = {"input": 250}
