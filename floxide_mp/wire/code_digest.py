"""Numbers for the code that nodes reach in the user's own modules, as it is imported here: whether a worker has
imported what the caller has. In the caller's process and in every worker's.

They are of the byte code of functions, with the defaults of their parameters and the plain values in their closures.
Comments and line numbers do not count. It is for a warning, so it may miss something (what a function imports when it
runs, libraries), and must be cheap: each function has its number once, and which there are is ``reached``'s.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary
from zlib import crc32

from ..api.node import Node
from . import main_module
from .reached import Keys, Place, Reached, held_by, reached

OTHER_CODE: Final = (
    "run {}: a worker has imported other code than the run goes on with, of its nodes {}: a module was changed or "
    "reloaded meanwhile. What they give may be of two versions; to go on with one, close the coordinator, and resume "
    "the run in a new process"
)
_UNKNOWN: Final = 0  # of what is not run as it was written: pytest rewrites the asserts of a test's module
_NAMED: Final = 5  # functions that a warning has by name, for a node
_PLAIN: Final = frozenset({int, float, complex, bool, str, bytes, type(None), type(...)})
_known: Final[WeakKeyDictionary[types.FunctionType, tuple[types.CodeType, int]]] = WeakKeyDictionary()


def codes_of(found: Reached) -> dict[Place, int]:
    """The number of each function that nodes reach, by where it is.

    What of ``__main__`` goes by value is not imported in workers, so cannot be another there.
    """
    left_out = main_module.NAMES if main_module.script_here() is None else ()
    codes = {}
    for place, functions in found.functions.items():
        if place[0] not in left_out:
            numbers = [_number_of(function) for function in functions]
            if _UNKNOWN not in numbers:
                codes[place] = sum(numbers)
    return codes


def changed(
    names: Sequence[str], nodes: Sequence[Node], keys: Sequence[Keys], before: Mapping[Place, int]
) -> tuple[str, ...]:
    """Those nodes that reach other code here, with the functions that are others: "price (taxes.vat)".

    Args:
        names, nodes, keys: of a workflow.
        before: the numbers in the process that this one is compared with. What only one of both reaches does not count.
    """
    now = codes_of(reached(nodes, keys)) if before else {}
    other = {place for place, code in now.items() if before.get(place, code) != code}
    if not other:
        return ()
    found = []
    for name, node, arms in zip(names, nodes, keys, strict=True):
        functions = sorted(".".join(place) for place in reached([node], [arms]).functions if place in other)
        if functions:
            more = f" and {len(functions) - _NAMED} more" if len(functions) > _NAMED else ""
            found.append(f"{name} ({', '.join(functions[:_NAMED])}{more})")
    return tuple(found)


def _number_of(function: types.FunctionType) -> int:
    code, number = _known.get(function, (None, _UNKNOWN))
    if code is not function.__code__:  # never seen, or replaced within it, as IPython's autoreload does
        number = _digest(function)
        _known[function] = function.__code__, number
    return number


def _digest(function: types.FunctionType) -> int:
    found = 1
    for part in _parts(function.__code__, function.__doc__):
        if part.startswith(b"'@py"):
            return _UNKNOWN
        found = crc32(part, found)
    counted = frozenset(function.__code__.co_freevars) if _rebinds(function.__code__) else frozenset[str]()
    for name, value in held_by(function):
        if name not in counted and (text := _constant(value)) is not None:
            found = crc32(f"{name} {text}".encode("utf-8", "surrogatepass"), found)
    return found or 1


def _rebinds(code: types.CodeType) -> bool:
    """Whether it binds names of the functions around it: what is there is then another in each process."""
    if not code.co_freevars:
        return False
    from opcode import opmap  # rarely

    inner = any(_rebinds(const) for const in code.co_consts if isinstance(const, types.CodeType))
    return inner or opmap["STORE_DEREF"] in code.co_code[::2]


def _parts(code: types.CodeType, doc: object = None) -> Iterator[bytes]:
    yield code.co_code
    for name in code.co_names:
        yield repr(name).encode()
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _parts(const)
        elif const is not doc or doc is None:
            yield (_constant(const) or "").encode("utf-8", "surrogatepass")


def _constant(value: Any) -> str | None:
    """A text that says all of a value that nobody can change; None: it is of another kind."""
    kind = type(value)
    if kind in _PLAIN:
        return repr(value)
    if kind is not tuple and kind is not frozenset:
        return None
    parts: Iterable[str | None] = [_constant(part) for part in value]
    return None if None in parts else kind.__name__ + repr(sorted(parts, key=str) if kind is frozenset else parts)
