"""Named points on the real path of an item, at which a test makes the process that passes them die, stop or fail.

Armed by the environment, before the process starts, and free of cost otherwise: places on the path ask whether
``armed`` is empty, and no more. ``FLOXIDE_FAILPOINTS`` is a comma-separated list of

    NAME=ACTION[@N][:TOKEN]        e.g.  worker.claimed=kill@2:/tmp/once  or  store.commit=sleep(0.2)

ACTION is ``kill exit raise stop disk-full sleep(SECONDS)`` or ``note``; with ``@N`` it is done only the N-th time this
process passes the point; with a TOKEN only if that file is there, and it is removed first, so that the next process is
spared. ``disk-full`` raises what the system does when there is no space; ``note`` adds the point's name and the
process's id to the file TOKEN, as a line, and does no harm.

A name begins with who passes it: ``worker`` is a worker process, ``coordinator`` the one that holds the run, and
``store`` the one that owns a store on disk, which is the coordinator's.
"""

from __future__ import annotations

import errno
import os
import re
import select
import signal
from collections.abc import Callable
from typing import Any, Final

NAMES: Final = {
    "worker.claim.unsent": "a worker is about to ask for work",
    "worker.claim.sent": "a worker has asked for work; the reply may or may not be under way",
    "worker.claim.answered": "the lease is recorded and the reply is there, not read",
    "worker.claimed": "the reply with a lease is read, no item is begun",
    "worker.describe.unsent": "a worker is about to ask for the workflow of a run, whose lease it has",
    "worker.describe.sent": "a worker has asked for a workflow",
    "worker.describe.answered": "a workflow is there, not read",
    "worker.shared.open": "a large value in shared memory is about to be opened",
    "worker.node.before": "the item is decoded, the node is not entered",
    "worker.events.unsent": "a node reads its context, and what others have written since is about to be asked for",
    "worker.events.sent": "a worker has asked for events",
    "worker.events.answered": "events are there, not read",
    "worker.node.after": "the node has returned, nothing is encoded",
    "worker.encode": "a value that a node passes on is about to be encoded; those before it are",
    "worker.shared.write": "a large value is being written to shared memory",
    "worker.shared.written": "a large value is in shared memory, and nobody else knows of it",
    "worker.portion": "an iterator has given a portion of its values and has more, nothing of it is reported",
    "worker.encoded": "all of an item's result is encoded",
    "worker.worked": "all of the lease is done, nothing of it is reported",
    "worker.report.unsent": "the report is about to be sent",
    "worker.report.sent": "the report is sent; it may or may not be committed",
    "worker.report.answered": "the report is committed and the reply is there, not read",
    "coordinator.create": "a run is about to be written",
    "coordinator.created": "a run is written, its caller does not know",
    "coordinator.commit": "a commit is decided, not written",
    "coordinator.committed": "a commit is written, nobody has been told",
    "coordinator.over": "a run has come to its end",
    "coordinator.reply": "what a worker asked for is done, the reply is not sent",
    "coordinator.replied": "the reply is sent",
    "store.make": "a store is owned, and its file is about to be made",
    "store.key": "the key of a new store is written, and not there under its name",
    "store.schema": "a table or a view is about to be made",
    "store.store.insert": "a new file is about to be given its row of who owns it",
    "store.version": "the version of the schema is about to be written",
    "store.made": "a new file is complete, and not there under its name",
    "store.open": "a store is owned, and its file is about to be opened",
    "store.begin": "a transaction is about to begin",
    "store.store.replace": "who owns the store, or how many runs there are, is about to be written",
    "store.runs.insert": "the row of a new run is about to be written",
    "store.runs.delete": "the row of a run that goes on with other versions or another graph is about to be replaced",
    "store.blocks.delete": "blocks of which all items are finished are about to be deleted",
    "store.blocks.insert": "new items are about to be written, many in a row",
    "store.gone.delete": "what was gone of such blocks is about to be deleted",
    "store.gone.replace": "which items of blocks are gone is about to be written",
    "store.steps.replace": "how many steps of each node are done is about to be written",
    "store.items.delete": "finished items are about to be deleted",
    "store.items.insert": "new items are about to be written",
    "store.parts.insert": "a value that is too large for a row is about to be written",
    "store.parts.delete": "such values of what is finished are about to be deleted",
    "store.arrivals.delete": "what waited at a join that has fired is about to be deleted",
    "store.marks.delete": "the marks of scopes that are over, or of released items, are about to be deleted",
    "store.scopes.delete": "scopes that are over are about to be deleted",
    "store.spoilt.delete": "the failures of batches that are over are about to be deleted",
    "store.arrivals.insert": "what arrived at joins is about to be written",
    "store.scopes.insert": "new scopes are about to be written",
    "store.spoilt.insert": "the failures of batches are about to be written",
    "store.marks.insert": "marks are about to be written",
    "store.marks.replace": "marks whose value has changed are about to be written",
    "store.events.insert": "writes to the context are about to be written",
    "store.outputs.insert": "outputs are about to be written",
    "store.errors.insert": "errors are about to be written",
    "store.progress.insert": "the progress of a new run is about to be written",
    "store.progress.update": "the progress of a run is about to be written, after all the rest",
    "store.commit": "all statements of a transaction are done, and it is about to be committed",
    "store.committed": "a transaction is committed",
}
ACTIONS: Final = "kill", "exit", "raise", "stop", "disk-full", "sleep", "note"
EXIT_CODE: Final = 70  # of ``exit``
_SYNTAX: Final = re.compile(r"([\w.]+)=([a-z-]+)(?:\(([\d.]+)\))?(?:@(\d+))?(?::(.+))?")


class FailpointError(RuntimeError):
    """What ``raise`` raises."""


class _Failpoint:
    def __init__(self, name: str, action: str, seconds: float, turn: int | None, token: str | None) -> None:
        self.name, self.action, self.seconds, self.turn, self.token = name, action, seconds, turn, token
        self.passed = 0

    def hit(self) -> None:
        self.passed += 1
        if self.turn not in (None, self.passed):
            return
        if self.action == "note":
            assert self.token is not None
            _note(self.token, f"{self.name} {os.getpid()}\n")
            return
        if self.token is not None:
            try:
                os.unlink(self.token)
            except FileNotFoundError:
                return
        self.strike()

    def strike(self) -> None:
        match self.action:
            case "raise":
                raise FailpointError(f"failpoint {self.name}")
            case "disk-full":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            case "sleep":
                select.select((), (), (), self.seconds)
            case "exit":
                os._exit(EXIT_CODE)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case _:
                os.kill(os.getpid(), signal.SIGKILL)


def _note(path: str, line: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)


def parse(text: str) -> dict[str, _Failpoint]:
    """The failpoints of such a list.

    Raises:
        ValueError: for a name or an action that there is not.
    """
    found = {}
    for part in filter(None, map(str.strip, text.split(","))):
        read = _SYNTAX.fullmatch(part)
        name, action, seconds, turn, token = read.groups() if read else (None,) * 5
        if name not in NAMES or action not in ACTIONS or (seconds is not None) != (action == "sleep"):
            raise ValueError(f"FLOXIDE_FAILPOINTS: {part!r} is no known point or action")
        if action == "note" and not token:
            raise ValueError(f"FLOXIDE_FAILPOINTS: {part!r} needs a file to write to")
        found[name] = _Failpoint(name, action, float(seconds or 0), int(turn) if turn else None, token)
    return found


armed: Final = parse(os.environ.get("FLOXIDE_FAILPOINTS", ""))


def hit(name: str) -> None:
    """This process passes the point.

    Raises:
        KeyError: there is no such point: what is not in the registry is swept by no test.
    """
    if name not in NAMES:
        raise KeyError(f"failpoint {name} is not in the registry")
    point = armed.get(name)
    if point is not None:
        point.hit()


def between(before: str, call: Callable[..., Any], after: str) -> Callable[..., Any]:
    """A call with a point before and one after it."""

    def tripped(*arguments: Any) -> Any:
        hit(before)
        result = call(*arguments)
        hit(after)
        return result

    return tripped
