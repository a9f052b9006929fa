"""A random job as the text of a script, in the ways people write one: functions and classes, with and without ``ctx``,
annotated or not, class body or ``Workflow.build``.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from .shapes import Fragment

HEAD = '''\
"""Job {seed}."""
{future}
import hashlib
from dataclasses import dataclass, field
from typing import NamedTuple

from floxide_mp import (
    Abort, BatchNode, CompositeNode, Context, EventLog, Hold, Join, Merge, NextAll, Node, RetryPolicy, SharedState,
    Workflow, node, when, with_retry,
)

PATIENT = RetryPolicy(max_attempts=60, initial_backoff=0.001)


class Token(NamedTuple):
    n: int
    turn: int = 0
    body: bytes = b""


class Total(Merge):
    def __init__(self, count=0):
        self.count = count

    def merge(self, other):
        self.count += other.count


@dataclass
class Ctx(Context):
    log: EventLog[tuple] = field(default_factory=EventLog)
    total: Total = field(default_factory=Total)
    last: SharedState[str] = field(default_factory=lambda: SharedState(""))


def mix(name, *values):
    text = repr((SEED, name, values))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big")


def turned(name, token):
    n = mix(name, token.n, token.turn, len(token.body), token.body[:1])
    body = bytes([n % 251]) * 150_000 if n % 23 == 0 else b""
    return Token(n % 10_000, token.turn, body)


def write(ctx, name, value):
    n = value.n if isinstance(value, Token) else len(value)
    ctx.log.append((name, n))
    ctx.total.merge(Total(n))
    ctx.last.set(f"{{name}} {{n}}")


SEED = {seed}

'''

FUNCTIONS = {
    "step": "return turned({name!r}, token)",
    "start": "return turned({name!r}, token)",
    "flaky": "return turned({name!r}, token)",
    "fork": "return turned({name!r}, token)",
    "route": "return turned({name!r}, token)",
    "rescue": "return turned({name!r}, token)",
    "gap": "return None if mix({name!r}, token.n) % 4 == 0 else turned({name!r}, token)",
    "enter": "return turned({name!r}, token)._replace(turn={number})",
    "again": "return turned({name!r}, token)._replace(turn=token.turn - 1)",
    "split": "return [turned(({name!r}, k), token) for k in range({number})]",
    "many": "return [turned(({name!r}, k), token) for k in range({number})]",
    "fan": "return [turned(({name!r}, k), token) for k in range({number})]",
    "spread": "return [turned(({name!r}, k), token) for k in range(mix({name!r}, token.n) % 7)]",
    "each": "return [turned(({name!r}, k), token) for k in range(1 + mix({name!r}, token.n) % 2)]",
    "reduce": "return Token(mix({name!r}, sorted((t.n, t.turn) for t in tokens)) % 10_000)",
    "meet": "return Token(mix({name!r}, sorted((t.n, t.turn) for t in tokens)) % 10_000)",
    "report": "return Token(mix({name!r}, sorted((t.n, t.turn) for t in tokens)) % 10_000)",
    "gather": "return Token(mix({name!r}, sorted((t.n, t.turn) for t in tokens)) % 10_000)",
}
RISKY = """\
def f_{name}(token):
    if mix({name!r}, token.n) % 3 == 0:
        raise ValueError(f"{name} cannot do {{token.n}}")
    return turned({name!r}, token)
"""
JOINS = ("reduce", "meet", "report")
LISTS = (*JOINS, "gather")
SEVERAL = ("split", "many", "fan", "each")


@dataclass
class Graph:
    """Edges of one workflow, by name: successors, or ``{condition: successors}``."""

    start: str = ""
    nodes: list[str] = field(default_factory=list)
    edges: dict[str, list[str] | dict[str, list[str]]] = field(default_factory=dict)
    failures: dict[str, list[str]] = field(default_factory=dict)


class Writer:
    """Writes the script of one job."""

    def __init__(self, seed: int, tree: Fragment) -> None:
        self.seed, self.tree = seed, tree
        self.chance = random.Random(f"source {seed}")
        self.functions: list[str] = []
        self.made: list[str] = []  # the statements that make nodes
        self.classes: list[str] = []

    def text(self) -> str:
        graph = Graph()
        graph.start = self._fragment(graph, self.tree, [])
        self._workflow("Job", graph)
        future = self.chance.choice(("", "from __future__ import annotations\n"))
        head = HEAD.format(seed=self.seed, future=future)
        tail = 'if __name__ == "__main__":\n    from tests.random_jobs.program import main\n\n    main(Job, Token(1))\n'
        return "\n\n".join([head, *self.functions, *self.made, *self.classes, tail])

    # -- fragments, from the last one to the first: each knows what comes behind it ----------------------------------

    def _fragment(self, graph: Graph, part: Fragment, behind: list[str]) -> str:
        """Write a fragment with all nodes of it; the name of its first node."""
        first = part.names[0] if part.names else ""
        match part.kind:
            case "sequence":
                for inner in reversed(part.parts):
                    behind = [self._fragment(graph, inner, behind)]
                return behind[0]
            case "map":
                inner = self._fragment(graph, part.parts[0], [part.names[1]])
                self._node(graph, first, [inner], part.number)
                self._join(graph, part.names[1], first, behind)
            case "fork":
                inners = [self._fragment(graph, branch, [part.names[1]]) for branch in part.parts]
                self._node(graph, first, inners)
                self._join(graph, part.names[1], first, behind)
            case "route":
                arms = [self._fragment(graph, arm, behind) for arm in part.parts]
                conditions = [f"lambda t: t.n % {len(arms)} == {k}" for k in range(len(arms))]
                if self.chance.random() < 0.5:
                    conditions = [f"when(Token, {condition})" for condition in conditions]
                self._node(graph, first, dict(zip(conditions, [[arm] for arm in arms], strict=True)))
            case "loop":
                inner = self._fragment(graph, part.parts[0], [part.names[1]])
                self._node(graph, first, [inner], part.number)
                arms_of_loop = {"lambda t: t.turn > 0": [inner], "lambda t: t.turn <= 0": behind}
                self._node(graph, part.names[1], arms_of_loop)
            case "fail":
                self._node(graph, first, behind)
                self._node(graph, part.names[1], behind)
                graph.failures[first] = [part.names[1]]
            case "batch":
                each = part.names[1]
                self._node(graph, first, [each])
                self._node(graph, each, [part.names[2]], part.number)
                self._node(graph, part.names[2], behind)
            case "composite":
                inner_graph = Graph()
                inner_graph.start = self._fragment(inner_graph, part.parts[0], [])
                self._workflow(f"Inner_{first}", inner_graph)
                self.classes.append(f"{first} = CompositeNode(Inner_{first})")
                graph.nodes.append(first)
                graph.edges[first] = behind
            case "report":
                self._join(graph, first, None, behind)
            case _:
                self._node(graph, first, behind, part.number)
        return first

    def _join(self, graph: Graph, name: str, of: str | None, behind: list[str]) -> None:
        self._function(name, 0)
        form = self.chance.choice(("function", "ctx"))
        scope = "" if of is None else f", of={of}"
        if form == "ctx" or of is None:
            self.made.append(f"def j_{name}(ctx: Ctx, tokens):\n    write(ctx, {name!r}, tokens)\n"
                             f"    return f_{name}(tokens)")  # fmt: skip
        else:
            self.made.append(f"def j_{name}(ctx, tokens: list[Token]) -> Token:\n    write(ctx, {name!r}, tokens)\n"
                             f"    return f_{name}(tokens)")  # fmt: skip
        self.made.append(f"{name} = Join(j_{name}{scope})")
        graph.nodes.append(name)
        graph.edges[name] = behind

    def _node(self, graph: Graph, name: str, behind: list[str] | dict[str, list[str]], number: int = 0) -> None:
        """A node in one of the ways that people write."""
        word = name.rstrip("0123456789")
        self._function(name, number)
        body = self._body(word, name)
        options = self._options(word)
        if self.chance.random() < 0.5:
            lines = "\n".join(f"    {line}" for line in body)
            annotated = ", token: Token" if word not in LISTS and self.chance.random() < 0.5 else ", token"
            decorator = f"@node({options})" if options else "@node"
            self.made.append(f"{decorator}\ndef {name}(ctx: Ctx{annotated}):\n{lines}")
        else:
            lines = "\n".join(f"        {line}" for line in body)
            settings = "".join(f"    {option}\n" for option in options.split(", ") if option)
            settings = settings.replace("=", " = ", 1)
            klass = f"C_{name}"
            self.made.append(f"class {klass}(Node):\n{settings}    def process(self, ctx: Ctx, token):\n{lines}")
            if word == "flaky" and self.chance.random() < 0.5:
                self.made[-1] = self.made[-1].replace(settings, "")
                self.made.append(f"{name} = with_retry({klass}(), PATIENT)")
            else:
                self.made.append(f"{name} = {klass}()")
        if word == "each":
            self.made.append(f"one_{name} = {name}\n{name} = BatchNode(one_{name}, {number})")
        graph.nodes.append(name)
        graph.edges[name] = behind

    def _options(self, word: str) -> str:
        if word == "flaky":
            return "retry=PATIENT"
        if word in ("step", "rescue") and self.chance.random() < 0.1:
            return "serial=True"
        if word == "step" and self.chance.random() < 0.1:
            return "timeout=60.0"
        return ""

    def _body(self, word: str, name: str) -> list[str]:
        """The lines of a step: what it writes, and what it returns."""
        written = f"write(ctx, {name!r}, token)"
        match word:
            case "risky":
                return ["try:", f"    made = f_{name}(token)", "except ValueError as error:",
                        "    return Abort(error)", written, "return made"]  # fmt: skip
            case "flaky":
                return [written, f"if ctx.item.attempt == 1 and mix('flaky', {name!r}, token.n) % 2:",
                        "    raise OSError('not the first time')", f"return f_{name}(token)"]  # fmt: skip
            case "gap":
                return [f"made = f_{name}(token)", "if made is None:", "    return Hold()", written, "return made"]
            case "spread":
                return [written, f"return f_{name}(token)"]
        if word in SEVERAL:
            if self.chance.random() < 0.5 and word != "each":
                return [written, f"return NextAll(made for made in f_{name}(token))"]
            return [written, f"return NextAll(f_{name}(token))"]
        return [written, f"return f_{name}(token)"]

    def _function(self, name: str, number: int) -> None:
        """What a node makes of a token: plain Python, which the interpreter of the tree calls as well."""
        word = name.rstrip("0123456789")
        if word == "risky":
            self.functions.append(RISKY.format(name=name))
            return
        given = "tokens" if word in LISTS else "token"
        self.functions.append(f"def f_{name}({given}):\n    " + FUNCTIONS[word].format(name=name, number=number))

    def _workflow(self, name: str, graph: Graph) -> None:
        names = list(dict.fromkeys(graph.nodes))
        built = self.chance.random() < 0.3
        edges = ", ".join(f"{_key(at, built)}: {_arms(to, built)}" for at, to in graph.edges.items())
        failures = ", ".join(f"{_key(at, built)}: {_arms(to, built)}" for at, to in graph.failures.items())
        if built:
            nodes = ", ".join(f"{node!r}: {node}" for node in names)
            self.classes.append(
                f"{name} = Workflow.build({name!r}, {{{nodes}}}, {graph.start!r}, {{{edges}}}, {{{failures}}}, Ctx)"
            )
            return
        nodes = "\n".join(f"    {node} = {node}" for node in names)
        self.classes.append(
            f"class {name}(Workflow):\n    context = Ctx\n{nodes}\n    start = {graph.start}\n"
            f"    edges = {{{edges}}}\n    on_failure = {{{failures}}}"
        )


def _key(name: str, quoted: bool) -> str:
    return repr(name) if quoted else name


def _arms(to: list[str] | dict[str, list[str]], quoted: bool) -> str:
    if isinstance(to, dict):
        return "{" + ", ".join(f"{arm}: {_arms(targets, quoted)}" for arm, targets in to.items()) + "}"
    return "[" + ", ".join(_key(name, quoted) for name in to) + "]"
