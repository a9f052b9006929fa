"""What may be different when a run is taken up: what made it, its graph, what it was started with. Here it is decided
what is refused, before anything of the run is opened.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from ..core.carry import carried
from ..core.graph import Graph
from ..core.plan import Plan
from ..core.records import Snapshot
from ..errors import FloxideError, StoreVersionError
from ..facts import RunInfo
from ..ports import RunRecord
from ..statuses import RunStatus
from ..version import __version__
from ..workflow import Compiled
from . import codec


def versions() -> dict[str, str]:
    """What makes runs here: ``RunRecord.versions``."""
    python = ".".join(map(str, sys.version_info[:2]))
    return {"python": python, "cloudpickle": codec.CLOUDPICKLE, "floxide_mp": __version__}


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


def check_same(old: RunRecord, info: RunInfo, new: RunRecord, compiled: Compiled, failed: bool = False) -> None:
    """A run id that is taken: fine if it is the same run, and has not ``failed`` or may have.

    Raises:
        StoreVersionError: as ``check_versions``.
        FloxideError: it is not fine.
    """
    who = f"run {new.run_id!r}"
    if old.name != new.name:
        raise FloxideError(f"{who} is a run of {old.name}; choose another run_id for {new.name}", run_id=new.run_id)
    check_versions(old)
    check_shape(old, compiled)
    mine, theirs = (old.context, old.input), (new.context, new.input)
    same = all(map(codec.same, mine, theirs)) and old.seed == new.seed
    if not same:
        # A script's classes are in ``__main__``, and others than those of the module that it is on the command line.
        module = any(map(codec.needs_main, theirs))
        other = ", or as a module, not as a script: then resume it" if module else ""
        text = f"{who} was started with another input, ctx or seed{other}; choose another run_id"
        raise FloxideError(text, run_id=new.run_id)
    if info.status is RunStatus.FAILED and not failed:
        how = f"coordinator.resume(workflow, {new.run_id!r})"
        text = f"{who} has failed; go on with it by {how}, or choose another run_id"
        raise FloxideError(text, run_id=new.run_id)


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
