"""``FixedValues``: the values of a run's ``Fixed`` fields, in a worker's process. Each is opened once, for all steps,
since that may be dear (a model, a client); so what a step does to one is looked for when it is over: else the answer
would depend on which steps the same worker has run before.
"""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from . import large
from .grown import only_grown

MOST: Final = 1 << 15  # bytes of a pickle, and of buffers, that are compared after a step that looked: some 0.1 ms

CHANGED: Final = (
    "the step of {node} has changed the value of {field}, a Fixed, which is one for all steps of a worker: copy it "
    "first (copy.deepcopy({field}.value)); what other steps are to see belongs into the context (SharedState, Merge, "
    "EventLog). A cache in such a value may be an attribute that is not there, or None, at first, or one that its "
    "__getstate__ leaves out"
)

_ATOMS: Final = frozenset({str, bytes, int, float, complex, bool, types.NoneType, range, types.EllipsisType})
_NAMED: Final = (enum.Enum, type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)
# By name: a worker that has none of these has not imported their modules.
_CONSTANT: Final = frozenset(
    {
        *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
        *(f"pathlib.{name}" for name in ("PosixPath", "PurePosixPath", "PureWindowsPath")),
        *("decimal.Decimal", "fractions.Fraction", "uuid.UUID", "re.Pattern", "zoneinfo.ZoneInfo"),
    }
)


class _Kept(NamedTuple):
    value: Any
    witness: large.Apart | None  # of how it is; None: it cannot change, or that cannot be seen


class FixedValues:
    """The values by number of field."""

    def __init__(self) -> None:
        self._kept: dict[int, _Kept] = {}
        self._changed: dict[int, large.Apart] = {}  # how they were

    def open(self, field: int, value: Any) -> Any:
        """The value for a step. ``value`` is the one that the worker has opened, which no step has had in its hands
        before it is given out here.
        """
        kept = self._kept.get(field)
        if kept is None:
            before = self._changed.pop(field, None)
            kept = self._kept.setdefault(field, _keep(value if before is None else before.open()))
        return kept.value

    def changed(self, fields: Iterable[int]) -> list[int]:
        """Those of the fields whose values a step has changed. The next step has these as they were."""
        changed = [field for field in fields if self._is_changed(field)]
        self.restore(changed)
        return changed

    def restore(self, fields: Iterable[int]) -> None:
        """The next step has these as they were, whatever was done to them."""
        for field in fields:
            kept = self._kept.get(field)
            if kept is not None and kept.witness is not None:
                self._changed[field] = kept.witness
                del self._kept[field]

    def _is_changed(self, field: int) -> bool:
        kept = self._kept.get(field)
        if kept is None or kept.witness is None or kept.witness.same(large.apart(kept.value, MOST, MOST)):
            return False
        if not only_grown(kept.witness.open, kept.value):
            return True
        self._kept[field] = _keep(kept.value)
        return False


def _keep(value: Any) -> _Kept:
    if is_constant(value):
        return _Kept(value, None)
    value = large.read_only(value, MOST)
    return _Kept(value, witness_of(value))


def witness_of(value: Any) -> large.Apart | None:
    """The value as it is now. Of what is pickled in another way each time, there is none; but which of its parts are
    one object, and in which order a set has them, may be another than in the pickle that the value came with.
    """
    first, second = large.apart(value, MOST, MOST), large.apart(value, MOST, MOST)
    if first is None:
        return None
    # Pandas has its buffers anew for each pickle.
    return next((witness for witness in (first, first._replace(places=[])) if witness.same(second)), None)


def is_constant(value: Any) -> bool:
    """Whether nobody can change the value, as far as that can be told: numbers, texts, paths, and tuples of such."""
    kind = type(value)
    if (
        kind in _ATOMS
        or isinstance(value, _NAMED)
        or f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}" in _CONSTANT
    ):
        return True
    if isinstance(value, tuple | frozenset):
        return not hasattr(value, "__dict__") and all(map(is_constant, value))
    parameters = getattr(kind, "__dataclass_params__", None)
    if parameters is not None and parameters.frozen:
        return all(is_constant(getattr(value, field.name)) for field in dataclasses.fields(value))
    return False
