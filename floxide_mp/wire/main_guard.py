"""The syntax tree of a script: whether it has a ``__main__`` guard, in whatever form, what is bound under it, and its
code without that.

In the program's process and in workers. ``ast`` is not imported, which would take each of them some milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import CodeType
from typing import Any, Final, NamedTuple, TypeAlias

PROGRAM: Final = "__main__"  # what ``__name__`` is in the program
WORKER: Final = "__mp_main__"  # ... and where it decides something in a worker
_AST_ONLY: Final = 0x400  # ast.PyCF_ONLY_AST
_FUNCTIONS: Final = ("FunctionDef", "AsyncFunctionDef", "Lambda")


class Guards(NamedTuple):
    """What the guards of a script are.

    Attributes:
        found: whether there are any.
        late: the names that are bound where only the program comes.
        unclear: whether something else is decided by whether the script is the program: it may be meant as a guard.
    """

    found: bool
    late: frozenset[str]
    unclear: bool


def looked_at(source: bytes, path: str) -> Guards:
    """The guards of a script.

    Raises:
        SyntaxError, ValueError: it cannot be parsed.
    """
    tree: Any = compile(source, path, "exec", _AST_ONLY, dont_inherit=True)
    flags: Flags = {}
    parts = [part for one in _statements(tree.body) if (part := _program_only(one, flags)) is not None]
    end = _end(tree.body)
    if end is not None:
        parts.append(tree.body[end + 1 :])
    late = frozenset(name for part in parts for one in part for name in _bound(one))
    return Guards(bool(parts), late, not parts and any(map(_asks, _walk(tree))))


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
    end = _end(tree.body)
    if end is not None:
        del tree.body[end:]
    for node in _walk(tree):
        kind = type(node).__name__
        if kind == "Compare":
            node.left, *node.comparators = [_spawned(part) for part in (node.left, *node.comparators)]
        elif kind == "Match":
            node.subject = _spawned(node.subject)
    return compile(tree, path, "exec", dont_inherit=True)


def _spawned(expression: Any) -> Any:
    if not _is_name(expression):
        return expression
    import _ast

    places = {name: getattr(expression, name) for name in ("lineno", "col_offset", "end_lineno", "end_col_offset")}
    return _ast.Constant(WORKER, **places)


# -- what decides whether this is the program -----------------------------------------------------------------------

# What a name stands for that was bound to such a decision: in the program, and in a worker.
Flags: TypeAlias = "dict[str, tuple[bool | None, bool | None]]"


def _program_only(statement: Any, flags: Flags) -> list[Any] | None:
    """The statements of it that are run in the program and not in a worker; None: there is no such difference.

    Args:
        flags: as of the statements before; what this one binds to a decision is added.
    """
    kind = type(statement).__name__
    if kind == "Match" and _is_name(statement.subject):
        cases = [case.body for case in statement.cases if PROGRAM in _constants(case.pattern)]
        return [one for body in cases for one in body] if cases else None
    if kind == "Assign" and len(statement.targets) == 1 and type(statement.targets[0]).__name__ == "Name":
        flags[statement.targets[0].id] = _both(statement.value, flags)
    elif kind == "Expr":
        return [statement] if _skips(statement.value, flags) else None
    elif kind == "If":
        here, there = _both(statement.test, flags)
        if there is False and here is not False:
            return list(statement.body)
        if there is True and here is not True and statement.orelse:
            return list(statement.orelse)
    return None


def _skips(expression: Any, flags: Flags) -> bool:
    """Whether a part of it is evaluated in the program only: what follows ``and`` or ``or``, or one side of ``if``."""
    kind = type(expression).__name__
    if kind == "BoolOp":
        stops = type(expression.op).__name__ == "Or"
        found = [_both(value, flags) for value in expression.values[:-1]]
        return any(there is stops and here is not stops for here, there in found)
    if kind == "IfExp":
        here, there = _both(expression.test, flags)
        return there is not None and here is not there
    return False


def _end(body: list[Any]) -> int | None:
    """The number of the statement at which the script ends where it is not the program: ``if __name__ != "__main__":``
    with ``raise SystemExit`` or the like under it.
    """
    for number, one in enumerate(body):
        if type(one).__name__ == "If":
            here, there = _both(one.test, {})
            if here is False and there is True and _ends(one.body[-1]):
                return number
    return None


def _ends(statement: Any) -> bool:
    if type(statement).__name__ == "Expr" and type(statement.value).__name__ == "Call":
        called = statement.value.func
        return getattr(called, "id", getattr(called, "attr", None)) in ("exit", "quit", "_exit")
    return type(statement).__name__ == "Raise"


def _both(test: Any, flags: Flags) -> tuple[bool | None, bool | None]:
    """What a condition is in the program and in a worker; None: that hangs on something else."""
    return _value(test, PROGRAM, flags), _value(test, WORKER, flags)


def _value(test: Any, name: str, flags: Flags) -> bool | None:
    kind = type(test).__name__
    if kind == "Name":
        return flags.get(test.id, (None, None))[name == WORKER]
    if kind == "UnaryOp" and type(test.op).__name__ == "Not":
        value = _value(test.operand, name, flags)
        return None if value is None else not value
    if kind == "BoolOp":
        stops = type(test.op).__name__ == "Or"
        values = [_value(part, name, flags) for part in test.values]
        return stops if stops in values else None if None in values else not stops
    if kind == "Compare" and len(test.ops) == 1:
        return _compared(test.left, type(test.ops[0]).__name__, test.comparators[0], name)
    return None


def _compared(left: Any, operator: str, right: Any, name: str) -> bool | None:
    if operator in ("Eq", "NotEq", "Is", "IsNot") and not _is_name(left):
        left, right = right, left
    others = _constants(right)
    if not _is_name(left) or PROGRAM not in others or (operator not in ("In", "NotIn") and len(others) > 1):
        return None
    return (name in others) is (operator in ("Eq", "Is", "In"))


def _is_name(expression: Any) -> bool:
    return type(expression).__name__ == "Name" and expression.id == "__name__"


def _constants(expression: Any) -> list[Any]:
    """The texts that an expression or a pattern consists of; []: it is something else."""
    kind = type(expression).__name__
    if kind == "Constant":
        return [expression.value] if isinstance(expression.value, str) else []
    if kind in ("Tuple", "List", "Set"):
        return [text for part in expression.elts for text in _constants(part)]
    if kind == "MatchValue":
        return _constants(expression.value)
    return [text for part in expression.patterns for text in _constants(part)] if kind == "MatchOr" else []


def _asks(node: Any) -> bool:
    """Whether it is a comparison of ``__name__`` with ``"__main__"``."""
    if type(node).__name__ != "Compare":
        return False
    sides = node.left, *node.comparators
    return any(map(_is_name, sides)) and any(PROGRAM in _constants(side) for side in sides)


# -- the tree ---------------------------------------------------------------------------------------------------------


def _statements(body: Iterable[Any]) -> Iterator[Any]:
    """Those at the top, and those in ``if``, ``try``, ``with`` and loops there."""
    for statement in body:
        yield statement
        if type(statement).__name__ in ("If", "Try", "TryStar", "With", "For", "While", "Match"):
            for part in ("body", "orelse", "finalbody", "handlers", "cases"):
                yield from _statements(getattr(statement, part, ()))
        elif type(statement).__name__ in ("ExceptHandler", "match_case"):
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
