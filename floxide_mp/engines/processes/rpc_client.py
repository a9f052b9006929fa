"""How a worker calls the server of ``manager``: in the protocol of the standard library's proxies, on the connection
that it was born with.

A ``BaseProxy`` does no more, but connects once per thread, where a worker's two threads take turns on one connection;
and importing it would take each worker 10 ms as it starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing.connection import Connection
from traceback import clear_frames
from typing import Any, Final

from ...errors import FloxideError
from ...messages import Description, EventPage, Reply, Report
from ...worker.forks import here, mark, refused

IDENT: Final = "ledger"  # what the server knows the one object by


class Line:
    """Calls verbs: each is one request and one reply on the connection that it was born with.

    There is no reconnecting: whose connection broke, or was interrupted between request and reply, needs another.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pid = here()
        self._owed = False  # a reply may be under way that nobody has read
        self._over = False  # the coordinator has hung up, maybe in the middle of a node, which took it for its failure

    def _call(self, verb: str, *arguments: Any) -> Any:
        self._ask(verb, *arguments)
        return self._answer()

    def _ask(self, verb: str, *arguments: Any) -> None:
        if mark[0] != self._pid:
            raise refused("ask the coordinator on its connection")
        if self._over:
            raise EOFError
        if self._owed:  # it must not be taken for that of this call
            raise FloxideError("a call to the coordinator was interrupted: nothing can be asked on its connection now")
        self._owed = True
        try:
            self._connection.send((IDENT, verb, arguments, {}))
        except BaseException as error:
            # The frames hold a view of the message. With the error they may be garbage in a cycle, and Python 3.13
            # complains of a ``BytesIO`` that is collected before a view of it.
            clear_frames(error.__traceback__)
            self._over = self._over or isinstance(error, EOFError | ConnectionError)
            raise

    def _answer(self) -> Any:
        try:
            kind, result = self._connection.recv()
        except (EOFError, ConnectionError):
            self._over = True
            raise
        self._owed = False
        if kind != "#RETURN":
            from multiprocessing.managers import convert_to_error  # type: ignore[attr-defined]

            raise convert_to_error(kind, result)
        return result


class SchedulerProxy(Line):
    """A scheduler's verbs, as seen by a worker, which ends and is replaced when its connection breaks."""

    def exchange(self, session: int, reports: Sequence[Report], want: float) -> Reply:
        return self._call("exchange", session, reports, want)  # type: ignore[no-any-return]

    def submit(self, session: int, reports: Sequence[Report], want: float) -> None:
        self._ask("exchange", session, reports, want, None, True)

    def receive(self) -> Reply:
        return self._answer()  # type: ignore[no-any-return]

    def describe(self, run_id: str, known: Sequence[bytes], warnings: Sequence[str] = ()) -> Description:
        return self._call("describe", run_id, known, warnings)  # type: ignore[no-any-return]

    def events(self, run_id: str, since: int) -> EventPage:
        return self._call("events", run_id, since)  # type: ignore[no-any-return]
