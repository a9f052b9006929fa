"""``FixedValues``: the values of a run's ``Fixed`` fields, in a worker's process, so that no step sees what another one
did to such a value: else the answer would depend on which steps the same worker has run before.
"""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Callable
from typing import Any, Final

from . import large

MOST: Final = 1 << 15  # bytes of a pickle that is opened anew for each step that looks: some 0.1 ms

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


class FixedValues:
    """The values by number of field."""

    def __init__(self) -> None:
        self._reopen: dict[int, Callable[[], Any] | None] = {}  # None: nobody can change it

    def open(self, field: int, value: Any) -> Any:
        """The value for one step. ``value`` is the one that the run began with, which no step has had in its hands,
        unless it is too large to be opened anew.
        """
        try:
            reopen = self._reopen[field]
        except KeyError:
            made = None if is_constant(value) else large.reopener(value, MOST)
            reopen = self._reopen.setdefault(field, made)
        return value if reopen is None else reopen()


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
