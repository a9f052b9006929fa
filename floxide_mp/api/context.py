"""``Context``: what the steps of one run share, and ``Item``: what a step is told about itself.

A context is a dataclass deriving from ``Context`` whose fields are ``EventLog``, ``Fixed``, ``SharedState`` or
``Merge`` types. How its writes travel and are folded is not decided here.
"""

from __future__ import annotations

import copy
import dataclasses
import typing
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, TypeVar

from ..errors import FloxideError, WorkflowDefinitionError
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
        key: what the node's ``seed_key`` gave for the item's input, as a text; None if the node has none.
    """

    run_id: str
    node: str
    item_id: int
    attempt: int
    error: BaseException | None
    order: tuple[int, tuple[int, ...]]
    run_seed: int
    key: str | None = None

    @property
    def seed(self) -> int:
        """A number for ``random.Random``: 64 bits, the same on any number of workers and after any retry.

        It hangs on the run's seed and the item's order key, so on the way that the item has come: a node put before, or
        another number of values before this one, makes it another. With ``seed_key`` it hangs on the run's seed, the
        node's name and that key alone.
        """
        from hashlib import blake2b  # 3 ms, for which each worker would start later

        hangs_on = self.order if self.key is None else f"{self.node} {self.key}"
        text = f"{self.run_seed} {hangs_on}".encode()
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

    def __reduce_ex__(self, protocol: typing.SupportsIndex) -> typing.Any:
        if _pickles_itself(type(self)):
            return object.__reduce_ex__(self, protocol)
        # By name, whatever the class is: a frozen dataclass with slots would take the values by position, and the
        # names for the values where the pickle was made when it was none.
        Context.__getstate__(self)
        return remade, (type(self), _values(self))

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


Fields = tuple[tuple[str, str], ...]
"""(name, kind) of each field of a run's context; the numbers in events count these. A field keeps its number when the
class changes, so the order is that of the class only as long as it does not."""


def field_names(context: Context) -> tuple[str, ...]:
    """The names of the fields, in the order of the class."""
    if dataclasses.is_dataclass(context):
        return tuple(f.name for f in dataclasses.fields(context))
    return ()


def fields_of(cls: type[Context], context: Context | None = None) -> Fields:
    """The fields of a class, in its order. Kinds are ``EventLog``, ``Fixed``, ``SharedState`` or the name of a
    ``Merge`` class, by annotation; where that says nothing, by the value that ``context`` has, "" without one.
    """
    if not dataclasses.is_dataclass(cls):
        return ()
    hints = _hints(cls)
    found = []
    for f in dataclasses.fields(cls):
        kind = _kind_of(hints.get(f.name))
        found.append((f.name, kind if kind or context is None else _kind_of(type(getattr(context, f.name)))))
    return tuple(found)


def alike(before: Fields, now: Fields) -> bool:
    """Whether all fields are the same, in whatever order, as far as their kinds are known."""
    kinds = dict(now)
    known = dict(before)
    return known.keys() == kinds.keys() and all(known[name] == kind for name, kind in now if kind and known[name])


def _kind_of(hint: Any) -> str:
    kind = typing.get_origin(hint) or hint
    if not isinstance(kind, type) or not issubclass(kind, EventLog | Fixed | SharedState | Merge) or kind is Merge:
        return ""
    plain = next((known for known in (EventLog, Fixed, SharedState) if issubclass(kind, known)), kind)
    return plain.__qualname__


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
            given[f.name] = _default(cls, f, hints)
    return check(cls(**given))


def complete(context: C, fields: Fields) -> C:
    """A context that was made by an older class: what is a field now, and is none of ``fields``, gets its default.

    Raises:
        WorkflowDefinitionError: it has none.
    """
    cls = type(context)
    if not dataclasses.is_dataclass(cls):
        return context
    there, hints, known = _values(context), _hints(cls), dict(fields)
    for f in dataclasses.fields(cls):
        kind = _kind_of(hints.get(f.name))
        if f.name not in there or (kind and (known.get(f.name) or kind) != kind):
            object.__setattr__(context, f.name, _default(cls, f, hints))
    return context


def _default(cls: type, f: dataclasses.Field[Any], hints: dict[str, Any]) -> Any:
    if f.default is not dataclasses.MISSING:
        return copy.deepcopy(f.default)
    if f.default_factory is not dataclasses.MISSING:
        return f.default_factory()
    kind = hints.get(f.name)
    kind = typing.get_origin(kind) or kind
    try:
        return kind()  # type: ignore[misc]
    except TypeError:
        raise WorkflowDefinitionError(
            f"{cls.__name__}.{f.name} has no default: give the field one, or pass ctx={cls.__name__}(...)"
        ) from None


def _values(context: Context) -> dict[str, Any]:
    """What the object itself has, be it in slots or not, and not its class."""
    state: Any = object.__getstate__(context)
    parts = state if isinstance(state, tuple) else (state,)
    return {name: value for part in parts if part for name, value in part.items()}


def remade(cls: type[C], values: dict[str, Any]) -> C:
    """A context out of its pickle.

    Raises:
        FloxideError: the class has something else by the name of a field.
    """
    made = cls.__new__(cls)
    for name, value in values.items():
        try:
            object.__setattr__(made, name, value)
        except AttributeError:
            text = (
                f"{cls.__qualname__}.{name} was a field when the run began, and is no field now but another attribute"
            )
            advice = "name the attribute otherwise, or make it a field again"
            raise FloxideError(f"{text} ({type(getattr(cls, name, None)).__name__}): {advice}") from None
    return made


_PICKLING: Final = "__getstate__", "__setstate__", "__reduce__", "__getnewargs__", "__getnewargs_ex__"


def _pickles_itself(cls: type[Context]) -> bool:
    """Whether its author says how it is pickled; what ``dataclasses`` adds is none of that."""
    bases = cls.__mro__[: cls.__mro__.index(Context)]
    return any(
        getattr(vars(base).get(n), "__module__", "dataclasses") != "dataclasses" for base in bases for n in _PICKLING
    )


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
        # A list of them: the first use of a class in another thread may add to it.
        yield from (n for n, v in list(vars(base).items()) if isinstance(v, EventLog | Fixed | SharedState | Merge))
        if "__dataclass_fields__" not in vars(base):
            yield from (n for n, hint in vars(base).get("__annotations__", {}).items() if "ClassVar" not in str(hint))


def bind(context: C, step: Step, fields: Fields = ()) -> C:
    """A step's view of the run: a context whose fields record into ``step`` and read from it. The free ``context``,
    with which they begin, stays as it is.

    Args:
        fields: of the run, for the numbers in its events; none: those of the class.

    Raises:
        FloxideError: the class has a field that is none of the run's.
    """
    numbers, bound = _numbers(context, fields), twin(context)
    for name in field_names(context):
        value, number = getattr(context, name), numbers[name]
        cell = MergeCell(value, step, number) if isinstance(value, Merge) else value.bind(step, number)
        object.__setattr__(bound, name, cell)
    object.__setattr__(bound, "_step", step)
    return bound


def _numbers(context: Context, fields: Fields) -> dict[str, int]:
    names = field_names(context)
    numbers = {name: number for number, name in enumerate([name for name, _ in fields] or names)}
    new = [name for name in names if name not in numbers]
    if new:
        text = f"{type(context).__name__} has fields here that it had not where its run was begun or resumed last"
        raise FloxideError(f"{text}: {', '.join(new)}; resume the run with the class as it is now")
    return numbers


def fold(context: C, events: Iterable[tuple[int, LoggedEvent[Any]]], fields: Fields = ()) -> C:
    """Replay ``(field number, event)`` pairs, given in the run's order, onto a free context.

    Args:
        fields: as of ``bind``.

    Raises:
        FloxideError: events are of a field that the context has no more, or as another kind.
    """
    by_field: dict[int, list[LoggedEvent[Any]]] = {}
    for number, logged in events:
        by_field.setdefault(number, []).append(logged)
    fields = fields or fields_of(type(context), context)
    lost = unread(fields, fields_of(type(context), context), by_field)
    if lost:
        raise FloxideError(f"{type(context).__name__}: {lost}")
    for number, logged_events in by_field.items():
        getattr(context, fields[number][0]).fold(logged_events)
    return context


def unread(before: Fields, now: Fields, written: Iterable[int]) -> str:
    """What those who know the fields as they are ``now`` could not read of events; "" if there is nothing of that kind.

    Args:
        before: the fields that the events count.
        written: the numbers of those that have events.
    """
    kinds, found = dict(now), []
    for number in sorted(written):
        name, kind = before[number]
        if name not in kinds:
            found.append(f"the field {name} ({kind or 'of a kind not known'}) is gone, and steps have written to it")
        elif kinds[name] != kind and kinds[name] and kind:
            found.append(f"the field {name} is of kind {kinds[name]} now, and steps have written to it as {kind}")
    return "; ".join(found)
