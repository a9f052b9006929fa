"""``Context``: what the steps of one run share, and ``Item``: what a step is told about itself.

A context is a dataclass deriving from ``Context`` whose fields are ``EventLog``, ``Fixed``, ``SharedState`` or
``Merge`` types. How its writes travel and are folded is not decided here.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

from .errors import WorkflowDefinitionError
from .event_log import EventLog, LoggedEvent
from .merge import Fixed, Merge, MergeCell, SharedState, StepLog, twin

C = TypeVar("C", bound="Context")


class Item(NamedTuple):
    """What a step knows about the work item it runs.

    Attributes:
        run_id, node: names; of a node in a composite or a batch, ``outer/inner``.
        item_id: a number from 1 on that no other item of the run has.
        attempt: which one this is; the first is 1.
        error: for the nodes of ``on_failure``, the exception that the failed step ended with; else None.
        order: the item's order key, ``(depth, path)``: sorted by it, items are in the order of the one-process run.
        run_seed: the ``seed`` that the run was started with.
    """

    run_id: str
    node: str
    item_id: int
    attempt: int
    error: BaseException | None
    order: tuple[int, tuple[int, ...]]
    run_seed: int

    @property
    def seed(self) -> int:
        """A number for ``random.Random``: 64 bits, the same on any number of workers and after any retry."""
        from hashlib import blake2b  # 3 ms, for which each worker would start later

        text = f"{self.run_seed} {self.order}".encode()
        return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


class Context:
    """Base of contexts: derive, with ``@dataclass``. Fields are ``EventLog``, ``Fixed``, ``SharedState`` or ``Merge``
    types. In a step, attributes cannot be set (AttributeError), and it cannot be pickled or returned (TypeError).
    """

    def __setattr__(self, name: str, value: Any) -> None:
        # The worker's later steps have this same object: what is set here would be seen by some of them.
        if "_step" in self.__dict__:
            raise AttributeError(f"ctx.{name} cannot be set in a step: write by .append(...), .set(...) or .merge(...)")
        object.__setattr__(self, name, value)

    def __getstate__(self) -> object:
        if "_step" in self.__dict__:
            raise TypeError("a context belongs to its step and cannot leave it; take out of it what is needed")
        return object.__getstate__(self)

    @property
    def item(self) -> Item:
        """The work item that this step runs.

        Raises:
            RuntimeError: no step runs.
        """
        step = self.__dict__.get("_step")
        if step is None:
            raise RuntimeError("ctx.item is there only while a step runs")
        return step.item  # type: ignore[no-any-return]

    @property
    def cancelled(self) -> bool:
        """Whether the run is being cancelled, or longer than its ``timeout=``. Else False.

        A long node may look now and then, and return early: what a step returns, writes or raises after this was true
        for it does not count, as half of an answer must not; the step is run again if its run goes on later. In a
        thread that the step left behind it is true as well.
        """
        step = self.__dict__.get("_step")
        return step is not None and step.cancelled()


class Step(StepLog, typing.Protocol):
    """What a bound context talks to while a step runs."""

    @property
    def item(self) -> Item:
        """The work item that runs."""

    def cancelled(self) -> bool:
        """Whether the step had better come to its end."""


def field_names(context: Context) -> tuple[str, ...]:
    """The names of the fields, in the order that the numbers in events refer to."""
    if dataclasses.is_dataclass(context):
        return tuple(f.name for f in dataclasses.fields(context))
    return ()


def make_default(cls: type[C]) -> C:
    """A context as good as can be made without being given one: fields without a default are made from their type.

    Raises:
        WorkflowDefinitionError: if a field needs a value that only the caller can give.
    """
    if not dataclasses.is_dataclass(cls):
        try:
            return check(cls())
        except TypeError as error:
            raise WorkflowDefinitionError(f"{cls.__name__} cannot be made without arguments: {error}") from None
    hints = _hints(cls)
    given: dict[str, Any] = {}
    for f in dataclasses.fields(cls):
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and f.init:
            kind = hints.get(f.name)
            kind = typing.get_origin(kind) or kind
            try:
                given[f.name] = kind()
            except TypeError:
                raise WorkflowDefinitionError(
                    f"{cls.__name__}.{f.name} has no default: give the field one, or pass ctx={cls.__name__}(...)"
                ) from None
    return check(cls(**given))


def _hints(cls: type[Context]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except Exception:  # a name known only to a type checker, say: then a default must be given
        return {}


def check(context: C) -> C:
    """The context itself.

    Raises:
        WorkflowDefinitionError: if some field is not of a type that can be shared between steps.
    """
    if not isinstance(context, Context):
        raise WorkflowDefinitionError(f"a context derives from Context; {type(context).__name__} does not")
    wrong = [
        n for n in field_names(context) if not isinstance(getattr(context, n), EventLog | Fixed | SharedState | Merge)
    ]
    known = field_names(context)
    loose = [n for n in dict.fromkeys((*vars(context), *_meant(type(context)))) if n not in known]
    if wrong or loose:
        names = ", ".join(f"{type(context).__name__}.{n}" for n in wrong + loose)
        hint = "is the @dataclass decorator missing?" if loose and not wrong else "e.g. EventLog[str], SharedState(0)"
        raise WorkflowDefinitionError(
            f"{names}: a context's fields are EventLog, Fixed, SharedState or Merge types ({hint})"
        )
    return context


def _meant(cls: type[Context]) -> Iterable[str]:
    """Names in class bodies that look like fields; those that are none would be shared by nobody."""
    for base in cls.__mro__[: cls.__mro__.index(Context)]:
        if not issubclass(base, Context):
            continue
        yield from (n for n, v in vars(base).items() if isinstance(v, EventLog | Fixed | SharedState | Merge))
        if "__dataclass_fields__" not in vars(base):
            yield from (n for n, hint in vars(base).get("__annotations__", {}).items() if "ClassVar" not in str(hint))


def bind(context: C, step: Step) -> C:
    """A step's view of the run: a context whose fields record into ``step`` and read from it. The free ``context``,
    with which they begin, stays as it is.
    """
    bound = twin(context)
    for number, name in enumerate(field_names(context)):
        value = getattr(context, name)
        cell = MergeCell(value, step, number) if isinstance(value, Merge) else value.bind(step, number)
        object.__setattr__(bound, name, cell)
    object.__setattr__(bound, "_step", step)
    return bound


def fold(context: C, events: Iterable[tuple[int, LoggedEvent[Any]]]) -> C:
    """Replay ``(field number, event)`` pairs, given in the run's order, onto a free context."""
    by_field: dict[int, list[LoggedEvent[Any]]] = {}
    for number, logged in events:
        by_field.setdefault(number, []).append(logged)
    names = field_names(context)
    for number, logged_events in by_field.items():
        getattr(context, names[number]).fold(logged_events)
    return context
