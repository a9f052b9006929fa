"""``Node`` and ``@node``: one step of a workflow, with its options. What a node returns is ``transition``."""

from __future__ import annotations

import copy
import functools
import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, Self, TypeAlias, TypeVar, overload
from weakref import WeakKeyDictionary

from .context import Context
from .merge import twin
from .retry import RetryPolicy

OPTIONS: Final = ("retry", "timeout", "serial", "seed_key", "redact")
N = TypeVar("N", bound="Node")

Call: TypeAlias = "Callable[[Context, Any], Any]"
Way: TypeAlias = Literal["both", "value", "context", "nothing"]  # of context and value, what a handler is called with


class Node:
    """Base of nodes. Derive and write ``process(self, ctx, value)``; ``ctx``, and ``value`` too, may be left out.

    A node object keeps its own fields and travels to the workers by pickle. ``process`` returns a plain value
    (the same as ``Next(value)``), ``Next``, ``NextAll``, ``Hold`` or ``Abort``; raising fails the attempt. It may be
    ``async def``: each step has an event loop of its own.

    Options, as class or instance attributes:
        retry: a ``RetryPolicy``, or None: the first failure is final.
        timeout: seconds for one attempt, or one portion of what an iterator gives (``NextAll``); a step that is longer
            is ended together with its worker process.
        serial: steps of serial nodes never overlap within a run, see every commit before them, and run in the run's
            order (retries of them, and of what comes before them, are waited for), so that no update is lost.
        seed_key: a function of the input, or a method of the node's class, that gives what ``ctx.item.seed`` hangs on,
            beside the run's seed and the node's name: a number, a text, ``bytes``, or a tuple of such. None: it hangs
            on the item's order key, so on the way that the item has come.
        redact: whether what the node gets and returns is secret: no error text of this package quotes it then, but
            names its type, and of an exception only class and arguments are kept, not what else it carries (a request
            with its headers, say). The text of an exception is its own.
    """

    retry: RetryPolicy | None = None
    timeout: float | None = None
    serial: bool = False
    seed_key: Callable[[Any], Any] | None = None
    redact: bool = False

    process: Callable[..., Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Edges are keyed by node objects. @dataclass would make a node unhashable and compare it by value,
        # so that two equal nodes were one in the graph; it leaves these two alone when the class has them.
        cls.__eq__ = object.__eq__  # type: ignore[method-assign]
        cls.__hash__ = object.__hash__  # type: ignore[method-assign]

    def __copy__(self) -> Self:
        """With all its fields; those that ``__getstate__`` leaves out too, since the copy stays in this process."""
        return twin(self)

    def label(self) -> str:
        """What to call this kind of node in messages."""
        return type(self).__name__

    def handler(self) -> Callable[..., Any]:
        """The callable that does the work; its signature and annotations are what the graph is checked against."""
        return self.process


class FunctionNode(Node):
    """A node made of a function by ``@node``; calling it calls the function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def label(self) -> str:
        return getattr(self.function, "__name__", "function")

    def handler(self) -> Callable[..., Any]:
        return self.function

    def __reduce__(self) -> Any:
        # ``@node`` gives the function's name to this object, so the function alone cannot go by name any more. By
        # value it would take its module's globals along (a lock among them, and it could not go at all).
        module, name = self.__module__, getattr(self.function, "__qualname__", "")  # a partial, say, has no name
        there = _found(module, name) if name else None
        if there is self:
            return name
        if isinstance(there, FunctionNode) and there.function is self.function:
            return _function_node, (there,), self._options()  # the same function with other options
        return self.by_value()

    def by_value(self) -> tuple[Any, ...]:
        """What to pickle where workers cannot find its name."""
        return _function_node, (self.function,), self._options()

    def _options(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in OPTIONS if name in self.__dict__}


def _found(module: str, name: str) -> Any:
    """What a module has under a qualified name, such as ``Orders.pay``; None: there is no such thing."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _function_node(function: Callable[..., Any]) -> FunctionNode:
    return FunctionNode(function.function if isinstance(function, FunctionNode) else function)


@overload
def node(function: Callable[..., Any], /) -> FunctionNode: ...
@overload
def node(
    *,
    retry: RetryPolicy | None = None,
    timeout: float | None = None,
    serial: bool = False,
    seed_key: Callable[[Any], Any] | None = None,
    redact: bool = False,
) -> Callable[[Callable[..., Any]], FunctionNode]: ...
def node(
    function: Callable[..., Any] | None = None,
    /,
    *,
    retry: RetryPolicy | None = None,
    timeout: float | None = None,
    serial: bool = False,
    seed_key: Callable[[Any], Any] | None = None,
    redact: bool = False,
) -> FunctionNode | Callable[[Callable[..., Any]], FunctionNode]:
    """Make a node of ``f(value)``, ``f(ctx, value)``, ``f(ctx)`` or ``f()``. Options as on ``Node``.

    Raises:
        TypeError: for something that is no function.
        ValueError: for options that make no sense.
    """

    def make(f: Callable[..., Any]) -> FunctionNode:
        if not callable(f) or (isinstance(f, type) and issubclass(f, Node)):
            raise TypeError(f"@node makes a node of a function, not of {f!r}")
        made = FunctionNode(f)
        made.retry, made.timeout, made.serial, made.seed_key, made.redact = retry, timeout, serial, seed_key, redact
        for problem in option_problems(made):
            raise ValueError(f"@node on {made.label()}: {problem}")
        return made

    return make if function is None else make(function)


def with_options(original: N, **options: Any) -> N:
    """A node that does the same, with these options instead of its own."""
    made = copy.copy(original)
    for name, value in options.items():
        object.__setattr__(made, name, value)  # a dataclass may be frozen
    return made


def with_retry(original: N, policy: RetryPolicy) -> N:
    """A node that does the same and is retried by ``policy``; of a ``BatchNode``, each input is.

    Raises:
        TypeError: for something that is no node, or a policy that is none.
    """
    if not isinstance(original, Node) or not isinstance(policy, RetryPolicy):
        raise TypeError(f"with_retry takes a node and a RetryPolicy, not {original!r} and {policy!r}")
    return with_options(original, retry=policy)


def option_problems(checked: Node) -> list[str]:
    """What is wrong with a node's options, one sentence each."""
    problems = []
    seconds = checked.timeout
    if seconds is not None and (
        isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0 or math.isinf(seconds)
    ):
        problems.append(f"timeout must be seconds, more than 0, or None, not {seconds!r}")
    if checked.retry is not None and not isinstance(checked.retry, RetryPolicy):
        problems.append(f"retry must be a RetryPolicy or None, not {checked.retry!r}")
    if not isinstance(checked.serial, bool):
        problems.append(f"serial must be True or False, not {checked.serial!r}")
    if not isinstance(checked.redact, bool):
        problems.append(f"redact must be True or False, not {checked.redact!r}")
    if checked.seed_key is not None and not callable(checked.seed_key):
        problems.append(f"seed_key must be a function of the input, or None, not {checked.seed_key!r}")
    return problems


def way_of(handler: Callable[..., Any]) -> Way:
    """How a handler is called. Decided where the workflow is defined: workers are sent the answer with the node.

    Asked again in a worker it could be another: annotations that are texts need names which are not there.

    Raises:
        TypeError: if it asks for more than context and value.
    """
    bound = isinstance(handler, types.MethodType)
    function = getattr(handler, "__func__", handler) if bound else handler
    if type(function) not in _KINDS:
        return _way(handler)
    way = _ways[bound].get(function)
    if way is None:
        way = _ways[bound][function] = _way(handler)
    return way


# A signature takes 20 us to ask for, that of a builtin function 500, and thousands of nodes may have one function; for
# ``Join(len)``, it is asked for each time that a run is started. By whether it is bound to an object.
_KINDS: Final = types.FunctionType, types.BuiltinFunctionType
_ways: Final[tuple[WeakKeyDictionary[Any, Way], WeakKeyDictionary[Any, Way]]] = WeakKeyDictionary(), WeakKeyDictionary()


def called(handler: Callable[..., Any], way: Way) -> Call:
    """The handler as a function of context and value, called in that way."""
    if way == "both":
        return handler
    if way == "value":
        return lambda ctx, value: handler(value)
    if way == "context":
        return lambda ctx, value: handler(ctx)
    return lambda ctx, value: handler()


def object_of(handler: Callable[..., Any]) -> Any:
    """The object in whose fields steps can keep something from one to the next; None: a plain function has none."""
    if isinstance(handler, types.MethodType):
        return None if isinstance(handler.__self__, type) else handler.__self__
    return None if isinstance(handler, types.FunctionType | types.BuiltinFunctionType | type) else handler


def fields_of(handler: Callable[..., Any]) -> tuple[str, ...]:
    """The names of the fields of a handler's object that have something in them, but for the options of nodes."""
    fields = getattr(object_of(handler), "__dict__", {}).items()
    return tuple(name for name, value in fields if value is not None and name not in OPTIONS and name[:2] != "__")


def _way(handler: Callable[..., Any]) -> Way:
    every = parameters_of(handler)
    if every is None:
        return "value"
    required = [p for p in every if p.default is p.empty]
    names = [p for p in required if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    _check_context(handler, every)
    if len(names) > 2 or any(p.kind is p.KEYWORD_ONLY for p in required):
        raise TypeError("a node takes (value), (ctx, value), (ctx) or ()")
    if len(names) == 2:
        return "both"
    if len(names) == 1:
        if not takes_context(handler):
            return "value"
        for p in every[1:]:
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL):
                raise TypeError(
                    f"{p.name} would never get the value: write ({names[0].name}, {p.name}) if it is to get it, and "
                    f"({names[0].name}, *, name=...) for what has a default of its own"
                )
        return "context"
    # Where everything has a default, or it is (*args), the value goes where the first argument goes.
    taking = any(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL) for p in every)
    return "value" if taking else "nothing"


def _check_context(handler: Callable[..., Any], every: tuple[inspect.Parameter, ...]) -> None:
    """That no parameter but the first is named ``ctx``, or annotated, as the context.

    Raises:
        TypeError: one is: it would get the value, or what it has as its default.
    """
    for p in every[1:]:
        if p.kind is p.KEYWORD_ONLY and isinstance(handler, functools.partial):
            continue  # it was given there
        annotated = p.annotation is not p.empty and _is_context(annotations_of(handler).get(p.name))
        if (annotated or p.name == "ctx") and not takes_context(handler):
            raise TypeError(f"the context is the first parameter: write ({p.name}, {every[0].name})")


def parameters_of(handler: Callable[..., Any]) -> tuple[inspect.Parameter, ...] | None:
    """The handler's parameters; None for a builtin that does not tell (``int``, ``max``).

    Those of a wrapper (``functools.wraps``) are its own, since it is what is called. Only one that takes ``*args``
    hands them on, and says nothing of them: its parameters are those of what it wraps.
    """
    wrapper = handler.func if isinstance(handler, functools.partial) else handler
    try:
        own = tuple(inspect.signature(handler, follow_wrapped=False).parameters.values())
        if not hasattr(wrapper, "__wrapped__") or not any(p.kind is p.VAR_POSITIONAL for p in _own(wrapper)):
            return own
    except ValueError:
        if not hasattr(wrapper, "__wrapped__"):
            return None
    if wrapper is not handler:
        return tuple(inspect.signature(handler).parameters.values())
    inner = wrapper.__wrapped__
    return parameters_of(types.MethodType(inner, handler.__self__) if isinstance(handler, types.MethodType) else inner)


def _own(function: Callable[..., Any]) -> Iterable[inspect.Parameter]:
    return inspect.signature(function, follow_wrapped=False).parameters.values()


def takes_context(handler: Callable[..., Any]) -> bool:
    """Whether the handler's first parameter is the context: by its annotation, or by the name ``ctx``."""
    parameters = parameters_of(handler)
    if not parameters:
        return False
    first = parameters[0]
    return first.name == "ctx" or _is_context(annotations_of(handler).get(first.name))


def _is_context(annotation: Any) -> bool:
    kind = typing.get_origin(annotation) or annotation
    return isinstance(kind, type) and issubclass(kind, Context)


def annotations_of(handler: Callable[..., Any]) -> dict[str, Any]:
    """Resolved annotations, or none at all where they cannot be resolved here."""
    try:
        called = inspect.unwrap(handler)
        if isinstance(called, type):  # what its attributes are annotated with is another thing
            called = called.__init__  # type: ignore[misc]
        elif not inspect.isroutine(called):
            called = type(called).__call__
        hints = typing.get_type_hints(called)
    except Exception:  # a name known only to a type checker, say; unannotated is allowed, so nothing is lost
        return {}
    if isinstance(handler, type):
        hints["return"] = handler
    return hints
