"""Named points on the real path of an item, at which a test makes the process that passes them die, stop or raise.

Armed by the environment, before the process starts, and free of cost otherwise: places on the path ask whether
``armed`` is empty, and no more. ``FLOXIDE_FAILPOINTS`` is a comma-separated list of

    NAME=ACTION[@N][:TOKEN]        e.g.  worker.claimed=kill@2:/tmp/once

ACTION is one of ``kill exit raise stop``; with ``@N`` it is done only the N-th time this process passes the point;
with a TOKEN only if that file is there, and it is removed first, so that the next process is spared.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, Final

NAMES: Final = {
    "worker.claim.unsent": "a worker is about to ask for work",
    "worker.claim.sent": "a worker has asked for work; the reply may or may not be under way",
    "worker.claim.answered": "the lease is recorded and the reply is there, not read",
    "worker.claimed": "the reply with a lease is read, no item is begun",
    "worker.node.before": "the item is decoded, the node is not entered",
    "worker.node.after": "the node has returned, nothing is encoded",
    "worker.worked": "all of the lease is done, nothing of it is reported",
    "worker.report.unsent": "the report is about to be sent",
    "worker.report.sent": "the report is sent; it may or may not be committed",
    "worker.report.answered": "the report is committed and the reply is there, not read",
    "coordinator.create": "a run is about to be written",
    "coordinator.created": "a run is written, its caller does not know",
    "coordinator.commit": "a commit is decided, not written",
    "coordinator.committed": "a commit is written, nobody has been told",
}
EXIT_CODE: Final = 70  # of ``exit``


class FailpointError(RuntimeError):
    """What ``raise`` raises."""


class _Failpoint:
    def __init__(self, name: str, action: str, turn: int | None, token: str | None) -> None:
        self.name, self.action, self.turn, self.token = name, action, turn, token
        self.passed = 0

    def hit(self) -> None:
        self.passed += 1
        if self.turn not in (None, self.passed):
            return
        if self.token is not None:
            try:
                os.unlink(self.token)
            except FileNotFoundError:
                return
        if self.action == "raise":
            raise FailpointError(f"failpoint {self.name}")
        if self.action == "exit":
            os._exit(EXIT_CODE)
        os.kill(os.getpid(), signal.SIGKILL if self.action == "kill" else signal.SIGSTOP)


def parse(text: str) -> dict[str, _Failpoint]:
    """The failpoints of such a list.

    Raises:
        ValueError: for a name or an action that there is not.
    """
    found = {}
    for part in filter(None, text.split(",")):
        name, _, rest = part.strip().partition("=")
        rest, _, token = rest.partition(":")
        action, _, turn = rest.partition("@")
        if name not in NAMES or action not in ("kill", "exit", "raise", "stop"):
            raise ValueError(f"FLOXIDE_FAILPOINTS: {part!r} is no known point or action")
        found[name] = _Failpoint(name, action, int(turn) if turn else None, token or None)
    return found


armed: Final = parse(os.environ.get("FLOXIDE_FAILPOINTS", ""))


def hit(name: str) -> None:
    """This process passes the point."""
    point = armed.get(name)
    if point is not None:
        point.hit()


def around(call: Callable[..., Any]) -> Callable[..., Any]:
    """A node's call with the points before and after it."""

    def tripped(*arguments: Any) -> Any:
        hit("worker.node.before")
        result = call(*arguments)
        hit("worker.node.after")
        return result

    return tripped
