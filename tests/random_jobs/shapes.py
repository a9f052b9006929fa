"""What a random job does, as a tree. Pure: drawn from a seed, and interpreted by ``expected`` without this package."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

MOST_STEPS = 400  # of a job: one that is larger is drawn again
DEEPEST = 3  # how far fragments are nested

Token = Any  # the class ``Token`` of a script
Functions = dict[str, Callable[[Token], Any]]  # what a node of that name makes of a token, or of a join's list


@dataclass(frozen=True, slots=True)
class Fragment:
    """A part of a job with one way in and one way out.

    ``kind`` says how ``names`` (its nodes) and ``parts`` (fragments inside) hang together; ``number`` is what else a
    kind needs: values of a fan-out, rounds of a loop, the size of a batch.
    """

    kind: str
    names: tuple[str, ...] = ()
    parts: tuple[Fragment, ...] = ()
    number: int = 0


@dataclass(slots=True)
class Drawing:
    """Draws fragments; ``count`` numbers their nodes."""

    chance: random.Random
    count: int = 0

    def names(self, *words: str) -> tuple[str, ...]:
        self.count += 1
        return tuple(f"{word}{self.count}" for word in words)

    def fragment(self, depth: int, inside: bool = False) -> Fragment:
        """One fragment; ``inside``: of a composite, which holds no other."""
        simple = ("step", "step", "flaky", "gap", "fail", "split", "many")
        nested = ("sequence", "map", "map", "fork", "loop", "route", "batch") + (() if inside else ("composite",))
        kind = self.chance.choice(simple if depth >= DEEPEST or self.chance.random() < 0.35 else nested)
        below = depth + 1
        match kind:
            case "step" | "flaky" | "gap":
                return Fragment(kind, self.names(kind))
            case "fail":
                return Fragment(kind, self.names("risky", "rescue"))
            case "split":
                return Fragment(kind, self.names("split"), number=self.chance.randint(0, 3))
            case "many":
                return Fragment(kind, self.names("many"), number=self.chance.choice((0, 1, 5, 40)))
            case "batch":
                return Fragment(kind, self.names("spread", "each", "gather"), number=self.chance.randint(1, 4))
            case "map":
                width = self.chance.choice((0, 1, 2, 3, 5, 30))
                return Fragment(kind, self.names("fan", "reduce"), (self.fragment(below, inside),), width)
            case "fork":
                branches = tuple(self.fragment(below, inside) for _ in range(self.chance.randint(2, 3)))
                return Fragment(kind, self.names("fork", "meet"), branches)
            case "route":
                arms = tuple(self.fragment(below, inside) for _ in range(self.chance.randint(2, 3)))
                return Fragment(kind, self.names("route"), arms)
            case "loop":
                rounds = self.chance.randint(1, 3)
                return Fragment(kind, self.names("enter", "again"), (self.fragment(below, inside),), rounds)
            case "composite":
                return Fragment(kind, self.names("part"), (self.fragment(below, True),))
        parts = tuple(self.fragment(below, inside) for _ in range(self.chance.randint(2, 3)))
        return Fragment("sequence", (), parts)


def draw(seed: int) -> Fragment:
    """A whole job: some fragments in a row, and in half of the cases a join of the whole run behind them."""
    chance = random.Random(f"job {seed}")
    drawing = Drawing(chance)
    parts = [drawing.fragment(0) for _ in range(chance.randint(2, 5))]
    parts.insert(0, Fragment("step", drawing.names("start")))
    if chance.random() < 0.5:
        parts.append(Fragment("report", drawing.names("report")))
    return Fragment("sequence", (), tuple(parts))


class TooLargeError(Exception):
    """The job has more than ``MOST_STEPS``."""


@dataclass(slots=True)
class Plain:
    """A plain interpreter of a tree: what the job comes to, in no order."""

    functions: Functions
    log: list[tuple[str, int]] = field(default_factory=list)
    passed: Counter[str] = field(default_factory=Counter)  # by node: steps that gave something
    held: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    doubtful: bool = False  # an item was held in front of a join: whether it is released hangs on what comes later

    def call(self, name: str, value: Any) -> list[Token]:
        """One step; a node whose function gives None holds its item."""
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise TooLargeError
        given = self.functions[name](value)
        if given is None:
            self.held[name] += 1
            return []
        self.log.append((name, len(value) if isinstance(value, list) else value.n))
        found = given if isinstance(given, list) else [given]
        self.passed[name] += 1
        return found

    def join(self, name: str, values: list[Token]) -> list[Token]:
        """The step of a join. It does not mind in which order the values arrive."""
        self.doubtful |= self.stuck
        return self.call(name, sorted(values))

    def run(self, part: Fragment, token: Token) -> list[Token]:
        """What leaves the fragment of one token that comes in."""
        first = part.names[0] if part.names else ""
        match part.kind:
            case "sequence":
                tokens = [token]
                for inner in part.parts:
                    if inner.kind == "report":
                        return self.join(inner.names[0], tokens)
                    tokens = [found for given in tokens for found in self.run(inner, given)]
                return tokens
            case "map":
                found = [out for value in self.call(first, token) for out in self.run(part.parts[0], value)]
                return self.join(part.names[1], found)
            case "fork":
                (value,) = self.call(first, token)
                found = [out for branch in part.parts for out in self.run(branch, value)]
                return self.join(part.names[1], found)
            case "route":
                (value,) = self.call(first, token)
                return self.run(part.parts[value.n % len(part.parts)], value)
            case "loop":
                return self._loop(part, token)
            case "fail":
                try:
                    return self.call(first, token)
                except ValueError:
                    return self.call(part.names[1], token)
            case "batch":
                made = [out for value in self.call(first, token) for out in self.call(part.names[1], value)]
                return self.join(part.names[2], made)
            case "composite":
                return self.run(part.parts[0], token)
        return self.call(first, token)

    def _loop(self, part: Fragment, token: Token) -> list[Token]:
        left: list[Token] = []
        inside = self.call(part.names[0], token)
        while inside:
            found = [out for value in inside for out in self.run(part.parts[0], value)]
            turned = [out for value in found for out in self.call(part.names[1], value)]
            inside = [value for value in turned if value.turn > 0]
            left += [value for value in turned if value.turn <= 0]
        return left

    @property
    def stuck(self) -> bool:
        """Whether all that some node was given is held: then the run fails."""
        return any(not self.passed[name] for name in self.held)


class Expected(NamedTuple):
    """What a job comes to, each sorted. ``outputs`` is None where the run fails, since all items of a node are held."""

    outputs: list[Token] | None
    log: list[tuple[str, int]]


def expected(tree: Fragment, functions: Functions, token: Token) -> Expected | None:
    """What a job comes to; None where that cannot be told without knowing who goes first.

    Raises:
        TooLargeError: it is larger than is worth while.
    """
    plain = Plain(functions)
    outputs = plain.run(tree, token)
    if plain.doubtful or (plain.stuck and tree.parts[-1].kind == "report"):
        return None
    return Expected(None if plain.stuck else sorted(outputs), sorted(plain.log))
