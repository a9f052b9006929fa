"""``KeptState``: whether steps change the fields of their node objects, in the process that runs the steps.

A node object is one for all steps of a worker. What a step puts into a field of it, later steps of this worker see, and
those of others do not: where a result hangs on that, the answer depends on the number of workers. A client or a model
that each worker makes once is kept that way on purpose; so a field that was None, or was not there, may be filled.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from ..node import OPTIONS, Node
from .log import say

MOST: Final = 256  # values in a field from which on it is not looked at: that would take longer than many a step
_CONTAINERS: Final = frozenset({list, tuple, set, frozenset, dict})
_PLAIN: Final = _CONTAINERS | {int, float, complex, bool, str, bytes, type(None)}


class KeptState:
    """The fields of some nodes, as they were: plain data, and not more than a few.

    Args:
        nodes, names: of the workflow, by number of node.
    """

    def __init__(self, nodes: Iterable[Node], names: Iterable[str]) -> None:
        self._watched: dict[int, tuple[Node, str, dict[str, Any]]] = {}
        for number, (node, name) in enumerate(zip(nodes, names, strict=True)):
            fields = {
                field: copy.deepcopy(value)
                for field, value in getattr(node, "__dict__", {}).items()
                if field not in OPTIONS and not field.startswith("__") and _is_plain(value)
            }
            if fields:
                self._watched[number] = node, name, fields

    def __bool__(self) -> bool:
        return bool(self._watched)

    def check(self, number: int) -> None:
        """Warn, once for each field, if a step has changed one of the node."""
        if number not in self._watched:
            return
        node, name, fields = self._watched[number]
        for field in [field for field, value in fields.items() if _differs(vars(node).get(field), value)]:
            del fields[field]
            say(
                logging.WARNING,
                "a step of %s has changed self.%s: later steps of the same worker see that, and those of other workers "
                "do not, so results that hang on it depend on the number of workers. What steps share belongs into the "
                "context (SharedState, Merge); for what each worker keeps for itself, a client or a cache, let the "
                "field be None at first, and fill it in the first step",
                name,
                field,
            )


def _is_plain(value: Any) -> bool:
    kinds = [type(part) for part in islice(_parts(value), MOST)]
    return value is not None and len(kinds) < MOST and _PLAIN.issuperset(kinds)


def _parts(value: Any) -> Iterator[Any]:
    yield value
    if type(value) in _CONTAINERS:
        for part in value:
            yield from _parts(part)
        if type(value) is dict:
            for part in value.values():
                yield from _parts(part)


def _differs(now: Any, before: Any) -> bool:
    return type(now) is not type(before) or not (now == before or now != now)
