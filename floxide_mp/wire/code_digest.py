"""A number for the code of a node, as it is imported here: whether a worker has imported what the caller has. In the
caller's process and in every worker's.

It is of the byte code: of the node's class or function, and of what these call in their own module. Comments and line
numbers do not count. It is for a warning, so it may miss something (data, other modules), and must be cheap.
"""

from __future__ import annotations

import types
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, Final
from zlib import crc32

from ..api.node import Node

UNKNOWN: Final = (
    0  # of what has no code, or is not run as it was written: pytest rewrites the asserts of a test's module
)
OTHER_CODE: Final = (
    "run {}: a worker has imported other code than the run goes on with, of its nodes {}: their module was changed or "
    "reloaded meanwhile. What they give may be of two versions; to go on with one, close the coordinator, and resume "
    "the run in a new process"
)
_OURS: Final = "floxide_mp."
_known: Final[weakref.WeakKeyDictionary[Any, int]] = weakref.WeakKeyDictionary()  # by function


def codes_of(nodes: Sequence[Node]) -> tuple[int, ...]:
    """Of each node."""
    return tuple(map(_code_of, nodes))


def changed(names: Sequence[str], before: Sequence[int], now: Sequence[int]) -> tuple[str, ...]:
    """The names of those nodes that have other code."""
    pairs = zip(names, before, now, strict=True)
    return tuple(name for name, one, other in pairs if one != other and UNKNOWN not in (one, other))


def _code_of(node: Node) -> int:
    roots = roots_of(node)
    if not roots:
        return UNKNOWN
    known = _known.get(roots[0]) if len(roots) == 1 else None
    if known is None:
        known = _digest(roots)
        if len(roots) == 1:
            _known[roots[0]] = known
    return known


def roots_of(node: Node) -> list[types.FunctionType]:
    """The functions that a node is made of: those that it holds, and those of its class."""
    kind = type(node)
    roots = [part for part in vars(node).values() if isinstance(part, types.FunctionType)]
    return roots if kind.__module__.startswith(_OURS) else roots + _functions(kind)


def _functions(kind: type) -> list[types.FunctionType]:
    return [
        part
        for base in kind.__mro__
        if base is not object and not base.__module__.startswith(_OURS)
        for _, part in sorted(vars(base).items())
        if isinstance(part, types.FunctionType)
    ]


def _digest(roots: Sequence[types.FunctionType]) -> int:
    found, left, seen = 1, list(roots), set[int]()
    while left:
        function = left.pop()
        if id(function) in seen:
            continue
        seen.add(id(function))
        for part in _parts(function.__code__, function.__doc__):
            if part.startswith(b"'@py"):
                return UNKNOWN
            found = crc32(part, found)
        left += _called(function)
    return found or 1


def _called(function: types.FunctionType) -> Iterator[types.FunctionType]:
    """What it may call in its own module, and what it wraps."""
    wrapped = getattr(function, "__wrapped__", None)
    others = [function.__globals__.get(name) for name in names_in(function.__code__)]
    for part in (wrapped, *others):
        if getattr(part, "__module__", None) != function.__module__:
            continue
        if isinstance(part, types.FunctionType):
            yield part
        elif isinstance(part, type):
            yield from _functions(part)


def names_in(code: types.CodeType) -> Iterator[str]:
    """The names of globals and attributes in some code, and in functions inside it."""
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from names_in(const)


def _parts(code: types.CodeType, doc: object = None) -> Iterator[bytes]:
    yield code.co_code
    for name in code.co_names:
        yield repr(name).encode()
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _parts(const)
        elif isinstance(const, frozenset):
            yield repr(sorted(map(repr, const))).encode()
        elif const is not doc or doc is None:
            yield repr(const).encode("utf-8", "surrogatepass")
