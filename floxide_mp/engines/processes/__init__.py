"""The processes engine: a manager's server in the coordinator's process, and N workers that are fresh interpreters.

    coordinator's process                                     worker process (its own process group)
    ┌───────────────────────────────────────────┐             ┌────────────────────────────────────┐
    │ user's thread: start, wait, read          │             │ child: Worker.run()                │
    │ ┌────────┐    ┌─────────────────────────┐ │ socketpair  │   proxy.exchange(reports, want)    │
    │ │ Scheduler │◀───│ one server thread each  │◀┼─────────────┼─▶ decode, node, encode             │
    │ └────────┘    └─────────────────────────┘ │ shared page │                                    │
    │      ▲        ┌─────────────────────────┐ │◀────────────┼── status page: what it is at             │
    │      └────────│ supervisor: pidfds,     │─┼────────────▶│   status page: what is revoked           │
    │               │ time-outs, replacements │ │ lifeline    │                                    │
    │               └─────────────────────────┘ │────────────▶│ kernel: SIGKILL to the group       │
    └───────────────────────────────────────────┘  (a pipe)   │         when this end closes       │
                                                              └────────────────────────────────────┘

Nothing of it is in the file system and nothing listens: connections, pipe, pages, and the memory file that large values
are in (``sharing``) are inherited. (Only processes of the user's own have to connect: see ``listener``.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine import ProcessEngine


def __getattr__(name: str) -> Any:
    # A worker, whose own module is in this package, needs nothing of it: it would start twice as slowly.
    if name == "ProcessEngine":
        from .engine import ProcessEngine

        return ProcessEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["ProcessEngine"]
