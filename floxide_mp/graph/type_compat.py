"""What two type hints can have in common: an edge is wrong only where no value can be of both.

Classes are decided here, by what they say of themselves. Where the classes could match and it hangs on what is in
brackets (``list[int]`` or ``list[str]``), two have to agree that nothing matches: the comparison of arguments here,
and beartype, which decides subtyping. Without beartype (the extra ``types``) nothing is refused for its brackets.

An empty list is a list of anything: that alone does not make ``list[int]`` and ``list[str]`` match.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
import warnings
from collections.abc import Callable, Generator, ItemsView, Iterable, Iterator, Mapping
from itertools import chain, repeat
from typing import Any, Final, Literal, TypeAlias, TypeVar

from ..api.route import describe

Hint: TypeAlias = Any
Cases: TypeAlias = tuple[Hint, ...] | None  # classes, classes with brackets, ``Literal`` of one value; None: anything

_ALIAS: Final[Any] = getattr(typing, "TypeAliasType", ())  # of the ``type`` statement, Python 3.12
_STANDARD: Final = ("builtins", "collections", "collections.abc")
_PROMOTED: Final[Mapping[Hint, tuple[type, ...]]] = {  # what PEP 484 lets pass for something that it is not
    float: (int,),
    complex: (int, float),
    bytes: (bytearray, memoryview),
}


def cases(hint: Hint) -> Cases:
    """The alternatives that a hint leaves, or None where it is not known what comes, or anything may."""
    origin, arguments = opened(hint)
    if hint is None:
        return (types.NoneType,)
    if origin in (typing.Union, types.UnionType):
        return together(map(cases, arguments))
    if origin is Literal:
        return tuple(Literal[value] for value in arguments)
    if origin is typing.Annotated:
        return cases(arguments[0])
    if isinstance(hint, typing.NewType):
        return cases(hint.__supertype__)
    if isinstance(hint, TypeVar):
        return together(map(cases, hint.__constraints__)) if hint.__constraints__ else cases(hint.__bound__ or Any)
    if _ALIAS and isinstance(hint, _ALIAS):
        return cases(hint.__value__)
    if hint is typing.LiteralString:
        return (str,)
    kind = origin or hint
    if typing.is_typeddict(kind):
        return (dict,)
    # Any is a class since 3.11; who meets a protocol need not say so.
    if not isinstance(kind, type) or kind in (object, Any) or is_protocol(kind):
        return None
    return (hint if arguments else kind,)


def together(several: Iterable[Cases]) -> Cases:
    """The alternatives of all; None, if it is not known what one of them leaves."""
    found: list[Hint] = []
    for one in several:
        if one is None:
            return None
        found += one
    return tuple(dict.fromkeys(found))


def may_be(given: Cases, taken: Cases) -> bool:
    """Whether a value that is of one of the given cases can be of one of the taken. False only if that is certain."""
    if not given or not taken:
        return True
    try:
        near = [(one, other) for one in given for other in taken if _classes_meet(one, other)]
        return bool(near) and (any(_arguments_meet(*pair) for pair in near) or any(_related(*pair) for pair in near))
    except Exception:  # classes and hints are anybody's; what cannot be compared is not known to be wrong
        return True


def opened(hint: Hint) -> tuple[Any, tuple[Hint, ...]]:
    """What stands before a hint's brackets, None where it has none, and what is in them."""
    return typing.get_origin(hint), typing.get_args(hint)


def class_of(case: Hint) -> type:
    """The class that a value of this case has, or one above it."""
    origin, arguments = opened(case)
    found: type = type(arguments[0]) if origin is Literal else origin or case
    return found


def list_of(given: Cases) -> Hint:
    """The hint of a list of these cases."""
    union: Any = typing.Union
    return types.GenericAlias(list, (union[given],)) if given else list


def is_protocol(kind: Any) -> bool:
    return bool(getattr(kind, "_is_protocol", False))


def elements(given: Cases) -> Cases:
    """What comes of going through an iterable of one of these cases."""
    return None if given is None else together(map(_element, given))


def shown(given: Cases) -> str:
    """The cases as a person would write them: ``list[Order] | None``."""
    return " | ".join(map(_shown, given or ()))


def _shown(hint: Hint) -> str:
    origin, arguments = opened(hint)
    if hint is None or hint is types.NoneType:
        return "None"
    if hint is ...:
        return "..."
    if isinstance(hint, list):  # of a Callable
        return f"[{', '.join(map(_shown, hint))}]"
    if origin in (typing.Union, types.UnionType):
        return shown(arguments)
    if origin is Literal:
        return f"Literal[{', '.join(map(describe, arguments))}]"
    name = str(getattr(origin or hint, "__name__", hint))
    return f"{name}[{', '.join(map(_shown, arguments))}]" if arguments else name


# -- classes ------------------------------------------------------------------------------------------------------


def _classes_meet(given: Hint, taken: Hint) -> bool:
    one, other = class_of(given), class_of(taken)
    (this, literally), (that, as_literally) = opened(given), opened(taken)
    if this is that is Literal:
        return one is other and bool(literally == as_literally)
    if this is Literal:
        return isinstance(literally[0], (other, *_PROMOTED.get(other, ())))
    if that is Literal:
        return isinstance(as_literally[0], one)
    if issubclass(one, (other, *_PROMOTED.get(other, ()))) or issubclass(other, one):
        return True
    if inspect.isabstract(one) and inspect.isabstract(other):
        return True  # what is ``Sized`` may be ``Iterable``
    # Neither says that it is the other, but a class may have been derived from both.
    return any(issubclass(kind, other) for kind in _derived(one)) or any(issubclass(k, one) for k in _derived(other))


def _derived(kind: type) -> Iterator[type]:
    """All classes that derive from a user's class. Of builtins there are too many, and odd ones among them."""
    if kind.__module__ not in _STANDARD:
        below: list[type] = type.__subclasses__(kind)
        yield from chain(below, *map(_derived, below))


# -- what is in brackets ------------------------------------------------------------------------------------------


def _arguments_meet(given: Hint, taken: Hint) -> bool:
    pairs = [found for a in _views(given) for b in _views(taken) if (found := _compared(a, b)) is not None]
    return all(_meet(one, other) for one, other in chain.from_iterable(pairs))


def _meet(given: Hint, taken: Hint) -> bool:
    ours, theirs = cases(given), cases(taken)
    if ours is None or theirs is None or given == taken:
        return True
    return any(_classes_meet(a, b) and _arguments_meet(a, b) for a in ours for b in theirs)


def _views(hint: Hint) -> Iterator[Hint]:
    """The hint and its bases with brackets: of ``class Ages(dict[str, int])``, the latter."""
    origin, arguments = opened(hint)
    if origin is Literal:
        return
    if origin is not None:
        yield hint
    kind = origin or hint
    parameters = getattr(kind, "__parameters__", ()) if isinstance(kind, type) else ()
    known: dict[Any, Hint] = dict(zip(parameters, arguments, strict=True)) if arguments and parameters else {}
    for base in vars(kind).get("__orig_bases__", getattr(kind, "__bases__", ())):
        origin, arguments = opened(base)
        if origin not in (typing.Generic, typing.Protocol):
            free = base.__parameters__ if arguments else ()
            yield from _views(base[tuple(known.get(p, p) for p in free)] if free else base)


def _compared(one: Hint, other: Hint) -> Iterable[tuple[Hint, Hint]] | None:
    """The pairs of arguments that must each have something in common, or None if it cannot be said which."""
    a, b = class_of(one), class_of(other)
    ours, theirs = typing.get_args(one), typing.get_args(other)
    if _is_container(a) and _is_container(b):
        if tuple in (a, b):
            return _side_by_side(_length(a, ours), ours, _length(b, theirs), theirs)
        return zip(ours, theirs, strict=False)  # a mapping, gone through, gives its keys
    if a is b and (a is type or _is_covariant(a)):
        return zip(ours, theirs, strict=True)
    return None


def _side_by_side(
    one: int | None, ours: tuple[Hint, ...], other: int | None, theirs: tuple[Hint, ...]
) -> Iterable[tuple[Hint, Hint]]:
    if one is not None and other is not None:
        return zip(ours, theirs, strict=True) if one == other else ((None, int),)  # never of one length
    if one is None and other is None:
        return ((ours[0], theirs[0]),)
    return zip(repeat(ours[0]), theirs) if one is None else zip(ours, repeat(theirs[0]))


def _length(kind: type, arguments: tuple[Hint, ...]) -> int | None:
    """How long a tuple is; None for one of any length, and for other containers."""
    return None if kind is not tuple or arguments[1:] == (...,) else len(arguments)


def _is_container(kind: type) -> bool:
    """Whether its first argument is what comes of going through it."""
    odd = (Generator, ItemsView)
    ours = kind.__module__ in _STANDARD
    return ours and issubclass(kind, Iterable) and not issubclass(kind, odd)


def _is_covariant(kind: type) -> bool:
    """Whether a user's generic class says that it does not consume what its arguments are of."""
    parameters = getattr(kind, "__parameters__", ())
    return bool(parameters) and all(
        isinstance(p, TypeVar) and not p.__contravariant__ and not getattr(p, "__infer_variance__", False)
        for p in parameters
    )


def _element(case: Hint) -> Cases:
    if class_of(case) is str:
        return (str,)
    for view in _views(case):
        if _is_container(class_of(view)):
            arguments = typing.get_args(view)
            each = arguments if _length(class_of(view), arguments) is not None else arguments[:1]
            return together(map(cases, each)) or None
    return None


# -- the library --------------------------------------------------------------------------------------------------


def _related(one: Hint, other: Hint) -> bool:
    """Whether beartype takes one for a kind of the other. It is imported only here: when an edge looks wrong."""
    is_subhint = _library()
    if is_subhint is None:
        return True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it minds ``typing.List``; that is not what was asked
        return is_subhint(one, other) or is_subhint(other, one)


@functools.cache
def _library() -> Callable[[Hint, Hint], bool] | None:
    try:
        from beartype import door
    except ImportError:
        return None
    decides: Callable[[Hint, Hint], bool] = door.is_subhint
    return decides
