"""The syntax tree of a script: whether it has a ``__main__`` guard, what is bound under it, and its code without that.

In the program's process and in workers. ``ast`` is not imported, which would take each of them some milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import CodeType
from typing import Any, Final

_AST_ONLY: Final = 0x400  # ast.PyCF_ONLY_AST
_FUNCTIONS: Final = ("FunctionDef", "AsyncFunctionDef", "Lambda")


def looked_at(source: bytes, path: str) -> tuple[bool, frozenset[str]]:
    """Whether a script has a guard, and the names that are bound under it.

    Raises:
        SyntaxError, ValueError: it cannot be parsed.
    """
    tree: Any = compile(source, path, "exec", _AST_ONLY, dont_inherit=True)
    guards = [statement for statement in _statements(tree.body) if _is_guard(statement)]
    return bool(guards), frozenset(name for one in guards for statement in one.body for name in _bound(statement))


def rebound(source: bytes) -> Iterator[str]:
    """The names in statements ``global``, and maybe some more that stand in texts."""
    if b"global" not in source:
        return
    import re

    for names in re.findall(rb"^[ \t]+global[ \t]+([\w, \t]+)", source, re.MULTILINE):
        yield from (name.strip().decode() for name in names.split(b","))


def without(source: bytes, path: str) -> CodeType:
    """Its code, for which ``__name__`` is ``__mp_main__`` wherever it is compared at the script's top.

    In all else it is ``__main__``: the module of what the script defines, the names of its loggers.
    """
    tree: Any = compile(source, path, "exec", _AST_ONLY, dont_inherit=True)
    for node in _walk(tree):
        kind = type(node).__name__
        if kind == "Compare":
            node.left, *node.comparators = [_spawned(part) for part in (node.left, *node.comparators)]
        elif kind == "Match":
            node.subject = _spawned(node.subject)
    return compile(tree, path, "exec", dont_inherit=True)


def _spawned(expression: Any) -> Any:
    if type(expression).__name__ != "Name" or expression.id != "__name__":
        return expression
    import _ast

    places = {name: getattr(expression, name) for name in ("lineno", "col_offset", "end_lineno", "end_col_offset")}
    return _ast.Constant("__mp_main__", **places)


def _is_guard(statement: Any) -> bool:
    """Whether it is ``if __name__ == "__main__":``, maybe with more conditions (``and``)."""
    return type(statement).__name__ == "If" and any(map(_asks_for_main, _all_of(statement.test)))


def _all_of(test: Any) -> Iterator[Any]:
    """What must be true for a condition to be."""
    if type(test).__name__ == "BoolOp" and type(test.op).__name__ == "And":
        for part in test.values:
            yield from _all_of(part)
    else:
        yield test


def _asks_for_main(test: Any) -> bool:
    if type(test).__name__ != "Compare" or [type(op).__name__ for op in test.ops] != ["Eq"]:
        return False
    sides = test.left, test.comparators[0]
    named = any(getattr(side, "id", None) == "__name__" for side in sides)
    return named and any(getattr(side, "value", None) == "__main__" for side in sides)


def _statements(body: Iterable[Any]) -> Iterator[Any]:
    """Those at the top, and those in ``if``, ``try``, ``with`` and loops there."""
    for statement in body:
        yield statement
        if type(statement).__name__ in ("If", "Try", "TryStar", "With", "For", "While"):
            for part in ("body", "orelse", "finalbody", "handlers"):
                yield from _statements(getattr(statement, part, ()))
        elif type(statement).__name__ == "ExceptHandler":
            yield from _statements(statement.body)


def _walk(node: Any) -> Iterator[Any]:
    """A node of the tree and all that is in it, but for what is in functions."""
    todo = [node]
    while todo:
        yield (node := todo.pop())
        if type(node).__name__ not in _FUNCTIONS:
            todo += _inside(node)


def _inside(node: Any) -> Iterator[Any]:
    for field in node._fields:
        part = getattr(node, field, None)
        yield from (one for one in (part if isinstance(part, list) else (part,)) if hasattr(one, "_fields"))


def _bound(statement: Any) -> Iterator[str]:
    """The names that a statement binds where it stands."""
    todo = [statement]
    while todo:
        node = todo.pop()
        kind = type(node).__name__
        if kind in ("FunctionDef", "AsyncFunctionDef", "ClassDef"):
            yield node.name
        elif kind == "Name":
            if type(node.ctx).__name__ != "Load":
                yield node.id
        elif kind == "alias":
            yield (node.asname or node.name).partition(".")[0]
        elif kind != "Lambda":
            if kind in ("ExceptHandler", "MatchAs", "MatchStar") and node.name:
                yield node.name
            if kind == "MatchMapping" and node.rest:
                yield node.rest
            todo += _inside(node)
