"""The ``multiprocessing`` manager: a server with one registered object. How that is called is in ``calls``.

The server is the standard library's, but for where its connections come from: a manager usually listens on a socket
in a temporary directory and accepts whoever knows the key. Ours is handed one end of a socket pair per worker. So
nobody else can connect, nothing stays behind after ``kill -9``, and running out of descriptors is an error
where a worker is started, not a hang in ``accept``. Those who do have to connect are the affair of ``listener``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.managers import Server
from types import SimpleNamespace
from typing import Any, Final

from ... import failpoints
from ...ports import Backend, Desk
from .calls import IDENT

VERBS: Final = ("exchange", "describe", "events")


class LedgerServer(Server):  # undocumented, but the same since Python 2.6
    """Serves verbs, a ledger's if not told otherwise, one thread per connection."""

    def __init__(self, served: Backend | Desk, verbs: Sequence[str] = VERBS) -> None:
        # Not Server.__init__: it would open a listener.
        self.id_to_obj = {IDENT: (served, set(verbs), {})}
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

        def hear() -> Any:
            try:
                return receive()
            except ConnectionResetError:  # who was there was killed with something unread, its orders for one
                raise EOFError from None

        line = SimpleNamespace(recv=hear, send=send, close=lambda: None)
        try:
            self.serve_client(line)  # type: ignore[arg-type]
        except SystemExit:
            pass  # how it ends; whoever replaced ``threading.excepthook`` (pytest does) need not hear of it
