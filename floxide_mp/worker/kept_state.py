"""``KeptState``: what a node object keeps in its fields, in the process that runs the node's steps.

A node object is one for all steps of a worker. What a step changes there, later steps of this worker see, and those of
others do not: where a result hangs on that, the answer depends on the number of workers. So what the object had when
the workflow was defined stays as it was; a step that changes it fails. Attributes that were not there, or None, may be
filled: a client or a model that each worker makes once is kept that way.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from ..api.node import object_of
from ..wire import oob_pickle
from .fixed_values import MOST, is_constant, only_grown, witness_of

CHANGED: Final = (
    "a step of {node} has changed self.{field}: its node object is one for all steps of a worker, so results would "
    "depend on the number of workers. What steps share belongs into the context (SharedState, Merge, EventLog). What "
    "each worker keeps for itself (a cache, a client) may be an attribute that is not there, or None, at first, and is "
    "filled in the first step, or one that __getstate__ leaves out"
)
_GONE: Final = object()
_WRITTEN: Final = 2  # the version of ``marshal`` that says nothing of which parts are one object


class _Field(NamedTuple):
    name: str
    value: Any
    plain: bytes | None  # as ``marshal`` writes it; b"": it cannot; None: it cannot change
    witness: oob_pickle.Apart | None  # of how it was; None: it cannot change
    seen: oob_pickle.Apart | None  # ... and of how it was last, with what attributes in it were filled since


class KeptState:
    """The fields of one node object, as they were.

    Args:
        owner: the object.
        fields: the names of those that are looked at.
    """

    def __init__(self, owner: Any, fields: Iterable[str]) -> None:
        self._owner = owner
        there = owner.__dict__
        self._fields = [field for name in fields if name in there and (field := _field(name, there[name])) is not None]

    def __bool__(self) -> bool:
        return bool(self._fields)

    def changed(self) -> str:
        """The name of a field that a step has changed, or "". The next step has all of them as they were."""
        now = self._owner.__dict__
        for name, value, plain, _, _ in self._fields:
            if now.get(name, _GONE) is not value or (plain is not None and not (plain and _plain(value) == plain)):
                break
        else:
            return ""
        found = ""
        fields, self._fields = self._fields, []
        for field in fields:
            value = now.get(field.name, _GONE)
            kept = _gone_on(field, value)
            if kept is None:
                found = found or field.name
                kept = _restored(field, now)
            if kept is not None:
                self._fields.append(kept)
        return found


def kept_state_of(handler: Callable[..., Any], fields: Iterable[str]) -> KeptState | None:
    """What steps of a node may not change; None: there is nothing.

    Args:
        handler: of the node.
        fields: the names of what its object had when the workflow was defined.
    """
    if not fields:
        return None
    owner = object_of(handler)
    kept = KeptState(owner, _pickled(owner, fields))
    return kept if kept else None


def _pickled(owner: Any, fields: Iterable[str]) -> Iterable[str]:
    """Those that are in the object's pickle: the others are each process's own."""
    kind = type(owner)
    defined = {name for cls in kind.__mro__[:-1] for name in vars(cls)}
    if not defined.isdisjoint(("__reduce__", "__reduce_ex__")):
        return ()
    if "__getstate__" not in defined:
        return fields
    try:
        state = owner.__getstate__()
        there = owner.__dict__
        return [name for name in fields if name in state and name in there and state[name] is there[name]]
    except KeyboardInterrupt:
        raise
    except BaseException:  # of another form, or a user's error, which is told where the object is pickled
        return ()


def _field(name: str, value: Any) -> _Field | None:
    """None: it cannot be compared."""
    if is_constant(value):
        return _Field(name, value, None, None, None)
    witness = witness_of(value)
    return None if witness is None else _Field(name, value, _plain(value), witness, witness)


def _plain(value: Any) -> bytes:
    try:
        plain = marshal.dumps(value, _WRITTEN)
    except ValueError:
        return b""
    return plain if len(plain) <= MOST else b""


def _gone_on(field: _Field, now: Any) -> _Field | None:
    """The field, if it has the value that it had, but for attributes in it that were not there, or None; else None."""
    if field.witness is not None:
        seen = oob_pickle.apart(now, MOST, MOST)
        assert field.seen is not None
        if not field.seen.same(seen) and not only_grown(field.witness.open, now):
            return None
        return field._replace(value=now, plain=_plain(now), seen=seen or field.seen)
    before = field.value
    try:
        alike = type(now) is type(before) and bool(now == before or (now != now and before != before))
    except KeyboardInterrupt:
        raise
    except BaseException:  # a user's __eq__
        alike = False
    return field._replace(value=now) if alike else None


def _restored(field: _Field, state: dict[str, Any]) -> _Field | None:
    """Put back what the field had."""
    if field.witness is None:
        state[field.name] = field.value
        return field
    try:
        state[field.name] = value = field.witness.open()
    except KeyboardInterrupt:
        raise
    except BaseException:  # a user's __setstate__
        return None
    return field._replace(value=value, plain=_plain(value), seen=field.witness)
