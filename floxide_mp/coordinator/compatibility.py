"""What may be different when a run is taken up: what made it, its graph, what it was started with. Here it is decided
what is refused, before anything of the run is opened.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ..api import context as contexts
from ..api.workflow import Compiled
from ..core.graph import Graph
from ..core.graph_migration import carried
from ..core.plan import Plan
from ..core.records import Snapshot
from ..core.types import Packed
from ..errors import FloxideError, StoreVersionError
from ..messages import EventPage
from ..ports import RunRecord
from ..types import RunInfo, RunStatus
from ..version import __version__
from ..wire import by_value, codec
from ..wire.log import say
from ..wire.main_module import NAMES
from .sameness import Likeness, compare, differing, moved


def versions() -> dict[str, str]:
    """What makes runs here: ``RunRecord.versions``."""
    python = ".".join(map(str, sys.version_info[:2]))
    return {"python": python, "cloudpickle": by_value.CLOUDPICKLE, "floxide_mp": __version__}


def check_versions(old: RunRecord) -> None:
    """What this run left can be opened here. Of what made it, what is not known is not held against it.

    Raises:
        StoreVersionError: it was made by another Python (3.11 and 3.12 are two), cloudpickle or floxide_mp (major or
            minor version). ``found`` and ``known`` are the versions of then and now.
    """
    here = versions()
    differing = [name for name, now in here.items() if _minor(old.versions.get(name, now)) != _minor(now)]
    if differing:
        made, mine = (_listed(differing, found) for found in (old.versions, here))
        text = (
            f"run {old.run_id!r} was made with {made}, and this is {mine}: values that were pickled there may break or "
            f"crash here; coordinator.resume(workflow, {old.run_id!r}, allow_changes=True), or --allow-changes on the "
            "command line, goes on with it all the same"
        )
        raise StoreVersionError(text, run_id=old.run_id, found=dict(old.versions), known=here)


def check_begun(old: RunRecord, new: RunRecord, compiled: Compiled) -> None:
    """A run id that is taken: it is one of this workflow, made by these versions, in this graph.

    Raises:
        StoreVersionError: as ``check_versions``.
        FloxideError: it is not.
    """
    if old.name != new.name:
        text = f"run {new.run_id!r} is a run of {old.name}; choose another run_id for {new.name}"
        raise FloxideError(text, run_id=new.run_id)
    check_versions(old)
    check_shape(old, compiled)


def check_same(old: RunRecord, info: RunInfo, new: RunRecord, failed: bool = False) -> None:
    """A run id that is taken: fine if it is the same run, and has not ``failed`` or may have.

    Raises:
        FloxideError: it is not fine.
    """
    lost = {name for name, _ in old.fields} - {name for name, _ in new.fields}  # which the class has no more
    found = {
        "input": compare(old.input, new.input),
        "ctx": compare(old.context, new.context, lost),
        "seed": Likeness.SAME if old.seed == new.seed else Likeness.OTHER,
    }
    who = f"run {new.run_id!r}"
    others = [what for what, likeness in found.items() if likeness is Likeness.OTHER]
    if others:
        alike = [what for what in found if what not in others]
        rest = f" ({' and '.join(alike)} {'are' if len(alike) > 1 else 'is'} the same)" if alike else ""
        where = [name for before, now in _values(old, new).values() for name in moved(before, now)]
        places = [place for what, pair in _values(old, new).items() if (place := differing(*pair, what))]
        where = where or [f"{place} is another one" for place in places]
        names = f": {', '.join(where)}" if where else ""
        text = (
            f"{who} is there and began with another {' and another '.join(others)}{rest}{names}. For this one choose "
            f"another run_id; to go on with that run: coordinator.resume({new.name}, {new.run_id!r})"
        )
        if any("." in place for place in places):
            text += "; what differs in each process, and means nothing, does not count if an __eq__ of its class "
            text += "leaves it out"
        raise FloxideError(text, run_id=new.run_id)
    _warn(old, new, found)
    if info.status is RunStatus.FAILED and not failed:
        how = f"coordinator.resume({new.name}, {new.run_id!r})"
        text = f"{who} has failed; go on with it by {how}, or choose another run_id"
        raise FloxideError(text, run_id=new.run_id)


def _warn(old: RunRecord, new: RunRecord, found: Mapping[str, Likeness]) -> None:
    """Say in the log what is taken for the same, and may not be."""
    how = "it goes on with what it began with; for another one choose another run_id"
    for what, (before, now) in _values(old, new).items():
        if found[what] is Likeness.UNKNOWN:
            say(
                logging.WARNING,
                "run %s is there; whether it began with this %s cannot be told: %s",
                new.run_id,
                what,
                how,
            )
        elif found[what] is Likeness.MOVED:
            names = [name for name in moved(before, now) if name.partition(".")[0] not in NAMES]  # a script's: as usual
            if names:
                say(logging.WARNING, "run %s: of its %s, %s: %s", new.run_id, what, ", ".join(names), how)


def _values(old: RunRecord, new: RunRecord) -> dict[str, tuple[Packed | None, Packed | None]]:
    return {"input": (old.input, new.input), "ctx": (old.context, new.context)}


def check_shape(old: RunRecord, compiled: Compiled) -> None:
    """The run began in this graph.

    Raises:
        FloxideError: it did not; names the nodes that changed.
    """
    new = compiled.graph.shape()
    changed = [name for name in {**old.shape, **new} if old.shape.get(name) != new.get(name)]
    if changed or old.places != compiled.plan.names():
        what = f": {', '.join(changed)} changed" if changed else ""
        how = f"coordinator.resume(workflow, {old.run_id!r}, allow_changes=True) goes on in this one"
        text = f"run {old.run_id!r} began in another graph of that name{what}; {how}"
        raise FloxideError(text, run_id=old.run_id)


def carried_context(
    old: RunRecord, compiled: Compiled, events: Callable[[int], EventPage] | None, encode: Callable[[Any], Packed]
) -> RunRecord:
    """The run with the context that it began with as one of today's class. Fields are found by their names: new ones
    have their defaults, and are counted behind those of before.

    Args:
        events: gives the run's from a number on; None: what is gone is not looked for.
        encode: turns the context into bytes.

    Raises:
        FloxideError: a field is gone, or is of another kind now, that steps have written to; names it.
        WorkflowDefinitionError: a new field has no default.
    """
    declared = contexts.fields_of(compiled.context)
    if not old.fields or contexts.alike(old.fields, declared):
        return old
    codec.export_main_names(old.main, compiled)
    try:
        context = codec.decode(old.context)
    except Exception:
        return old  # a worker may be able to, or says what is missing
    context = contexts.complete(context, old.fields)
    now = contexts.fields_of(type(context), context)  # it may have been given as one of a class derived from that
    suspects = contexts.unread(old.fields, now, range(len(old.fields)))
    lost = contexts.unread(old.fields, now, _written(events)) if suspects and events else ""
    if lost:
        text = f"run {old.run_id!r} cannot go on with this {type(context).__name__}: {lost}; put that field back"
        raise FloxideError(f"{text}, and give what is new another name", run_id=old.run_id)
    kinds, known = dict(now), {name for name, _ in old.fields}
    fields = (
        *((name, kinds.get(name) or kind) for name, kind in old.fields),
        *((name, kind) for name, kind in now if name not in known),
    )
    return old if fields == old.fields else old._replace(context=encode(context), fields=fields)


def _written(events: Callable[[int], EventPage]) -> set[int]:
    """The fields that have events."""
    found, seen, more = set[int](), 0, True
    while more:
        entries, more = events(seen)
        found.update(field for _, _, _, field, _ in entries)
        seen += len(entries)
    return found


def carried_over(old: RunRecord, plan: Plan, snapshot: Snapshot) -> Snapshot:
    """What is unfinished of a run, in another graph than that of its record.

    Raises:
        FloxideError: not all of it has a place there; names what has none.
    """
    try:
        before = Plan(Graph.of_shape(old.name, old.shape))
        if before.names() != old.places:
            raise ValueError("its places are others")
    except ValueError as error:
        raise FloxideError(f"run {old.run_id!r}: its graph is not understood: {error}", run_id=old.run_id) from None
    try:
        return carried(before, plan, snapshot)
    except FloxideError as error:
        text = f"run {old.run_id!r} cannot go on in this graph: {error}"
        raise FloxideError(text, run_id=old.run_id, problems=vars(error)["problems"]) from None


def same_graph(one: RunRecord, other: RunRecord) -> bool:
    """Whether numbers of nodes and places mean the same in both."""
    return list(one.shape.items()) == list(other.shape.items()) and one.places == other.places


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _listed(names: list[str], found: Mapping[str, str]) -> str:
    shown = [f"{'Python' if name == 'python' else name} {found[name]}" for name in names]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
