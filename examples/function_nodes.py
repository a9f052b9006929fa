"""Nodes that are functions: ``@node`` makes one, with or without options, with or without the context.

    python -m floxide_mp examples.function_nodes                          # "25.5 °C (warm)"
    python -m floxide_mp examples.function_nodes --input '" 14 F"'

A node that has something to keep is better off as a class, as ``Convert`` is here; both kinds mix freely, and a
function that you did not write becomes a node by ``node(function)``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from floxide_mp import Context, EventLog, Node, RunResult, Workflow, node


@dataclass
class Steps(Context):
    log: EventLog[str] = field(default_factory=EventLog)


@node
def parse(text: str) -> float:
    """The value alone: a function need not take the context."""
    return float(text.strip().rstrip("F°"))


class Convert(Node):
    """A node with fields of its own."""

    def __init__(self, zero: float, scale: float) -> None:
        self.zero = zero
        self.scale = scale

    def process(self, ctx: Steps, degrees: float) -> float:
        ctx.log.append(f"{ctx.item.node} took away {self.zero:g} and multiplied by {self.scale:.3f}")
        return (degrees - self.zero) * self.scale


@node(timeout=10.0)
def describe(ctx: Steps, celsius: float) -> str:
    """Context and value, and an option."""
    ctx.log.append(f"{ctx.item.node} had {celsius:.1f} to describe")
    return f"{celsius:.1f} °C ({'warm' if celsius > 15 else 'cold'})"


class Thermometer(Workflow):
    context = Steps

    shorten = node(str.lstrip)
    parse = parse
    convert = Convert(zero=32.0, scale=5 / 9)
    describe = describe

    start = shorten
    edges = {shorten: [parse], parse: [convert], convert: [describe]}

    cli_defaults = {"input": "77.9 °F"}

    @staticmethod
    def cli_report(result: RunResult) -> list[str]:
        return [result.output, *result.context.log]
