"""The ``multiprocessing`` manager: a server with one registered object, and the proxy that a worker calls it by.

The server is the standard library's, but for where its connections come from: a manager usually listens on a socket
in a temporary directory and accepts whoever knows the key. Ours is handed one end of a socket pair per worker. So
nobody else can connect, nothing stays behind after ``kill -9``, and running out of descriptors is an error
where a worker is started, not a hang in ``accept``. Those who do have to connect are the affair of ``listener``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.managers import BaseProxy, Server, Token, convert_to_error  # type: ignore[attr-defined]
from types import SimpleNamespace
from typing import Any, Final

from ... import failpoints
from ...core.records import EventRecord
from ...errors import FloxideError
from ...ports import Backend, Description, Desk, Reply, Report

VERBS: Final = ("exchange", "describe", "events")
_IDENT: Final = "ledger"
_NOBODY: Final = b"no connection is made, so no key is asked for"


class LedgerServer(Server):  # undocumented, but the same since Python 2.6
    """Serves verbs, a ledger's if not told otherwise, one thread per connection."""

    def __init__(self, served: Backend | Desk, verbs: Sequence[str] = VERBS) -> None:
        # Not Server.__init__: it would open a listener.
        self.id_to_obj = {_IDENT: (served, set(verbs), {})}
        self.stop_event = threading.Event()

    def serve(self, connection: Connection, name: str) -> threading.Thread:
        """Answer on this connection, in a thread of its own, until it ends. The caller closes it, after the thread."""
        arguments = (connection.recv, connection.send)
        thread = threading.Thread(target=self.answer, args=arguments, name=name, daemon=True)
        thread.start()
        return thread

    def answer(self, receive: Callable[[], Any], send: Callable[[Any], None]) -> None:
        """Answer requests, in this thread, until the connection ends."""
        # Without a ``close``: the number of a descriptor that this thread closed could be another's already when
        # the engine hangs up. What goes wrong with the connection ends the thread; the worker's pidfd tells the rest.
        if failpoints.armed:
            send = failpoints.between("coordinator.reply", send, "coordinator.replied")
        line = SimpleNamespace(recv=receive, send=send, close=lambda: None)
        try:
            self.serve_client(line)  # type: ignore[arg-type]
        except SystemExit:
            pass  # how it ends; whoever replaced ``threading.excepthook`` (pytest does) need not hear of it


class Line(BaseProxy):
    """Calls verbs: each is one request and one reply on the connection that it was born with.

    There is no reconnecting: whose connection broke, or was interrupted between request and reply, needs another.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(Token("Ledger", None, _IDENT), "pickle", authkey=_NOBODY, incref=False)
        # The standard proxy connects once per thread. A worker's two threads take turns on the one connection.
        self._connection = connection
        self._owed = False  # a reply may be under way that nobody has read
        self._over = False  # the coordinator has hung up, maybe in the middle of a node, which took it for its failure

    def _call(self, verb: str, *arguments: Any) -> Any:
        self._ask(verb, *arguments)
        return self._answer()

    def _ask(self, verb: str, *arguments: Any) -> None:
        if self._over:
            raise EOFError
        if self._owed:  # it must not be taken for that of this call
            raise FloxideError("a call to the coordinator was interrupted: nothing can be asked on its connection now")
        self._owed = True
        try:
            self._connection.send((_IDENT, verb, arguments, {}))
        except (EOFError, ConnectionError):
            self._over = True
            raise

    def _answer(self) -> Any:
        try:
            kind, result = self._connection.recv()
        except (EOFError, ConnectionError):
            self._over = True
            raise
        self._owed = False
        if kind != "#RETURN":
            raise convert_to_error(kind, result)
        return result


class LedgerProxy(Line):
    """A ledger's verbs, as seen by a worker, which ends and is replaced when its connection breaks."""

    def exchange(self, session: int, reports: Sequence[Report], want: float) -> Reply:
        return self._call("exchange", session, reports, want)  # type: ignore[no-any-return]

    def post(self, session: int, reports: Sequence[Report], want: float) -> None:
        self._ask("exchange", session, reports, want, None, True)

    def collect(self) -> Reply:
        return self._answer()  # type: ignore[no-any-return]

    def describe(self, run_id: str, known: Sequence[bytes]) -> Description:
        return self._call("describe", run_id, known)  # type: ignore[no-any-return]

    def events(self, run_id: str, since: int) -> Sequence[EventRecord]:
        return self._call("events", run_id, since)  # type: ignore[no-any-return]
