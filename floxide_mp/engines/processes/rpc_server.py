"""The ``multiprocessing`` manager: a server with one registered object. How that is called is in ``calls``.

The protocol is the standard library's; where connections come from, and what becomes of an answer that cannot be sent,
is not. A manager usually listens on a socket in a temporary directory and accepts whoever knows the key. Ours is handed
one end of a socket pair per worker. So nobody else can connect, nothing stays behind after ``kill -9``, and running out
of descriptors is an error where a worker is started, not a hang in ``accept``. Those who do have to connect are the
affair of ``listener``. It runs in the coordinator's process, a thread for each connection.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Final

from ... import failpoints
from ...coordinator.critical import Thread
from ...coordinator.scheduler import Scheduler
from ...errors import FloxideError
from ...messages import Reply
from ...ports import Backend, ExternalSession
from .rpc_client import IDENT

VERBS: Final = ("exchange", "describe", "events")

Answer = tuple[str, Any]  # its kind, as in ``multiprocessing.managers``, and the result or what is to be raised


class SchedulerServer:
    """Serves verbs, a scheduler's if not told otherwise, one thread per connection."""

    def __init__(self, served: Backend | ExternalSession, verbs: Sequence[str] = VERBS) -> None:
        self._served = served
        self._verbs = frozenset(verbs)

    def serve(self, connection: Connection, name: str, over: Callable[[str], None]) -> threading.Thread:
        """Answer on this connection, in a thread of its own, until it ends. The caller closes it, after the thread.

        Args:
            connection: ours.
            name: of the thread.
            over: is to end the connection, so that who is at the other end waits for no answer; given why, in words,
                or nothing where it had ended.
        """

        def answer() -> None:
            why = "lost the thread that answers it"
            try:
                why = self.answer(connection.recv, connection.send)
            finally:
                over(why)

        thread = Thread(answer, name, (), lambda error: None)
        thread.start()
        return thread

    def answer(self, receive: Callable[[], Any], send: Callable[[Any], None]) -> str:
        """Answer requests, in this thread, until the connection ends, or is of no use any more: then why, in words.

        What could not be received, or answered even by an error, leaves the other side without an answer: whoever
        calls this then ends the connection. The worker at the other end is replaced, as any that is lost.
        """
        if failpoints.armed:
            send = failpoints.between("coordinator.reply", send, "coordinator.replied")
        while True:
            try:
                request = receive()
            except (EOFError, ConnectionError):
                return ""  # it hung up, or was killed with something unread
            except Exception as error:  # there is no memory for what it says
                return f"could not be heard ({error!r} in the coordinator)"
            answer = self._answer(request)
            try:
                send(answer)
            except (EOFError, ConnectionError):
                return ""
            except Exception as error:
                try:
                    send(self._instead(request, answer, error))
                except Exception:
                    return f"could not be answered ({error!r} in the coordinator)"

    def _answer(self, request: Any) -> Answer:
        """What comes of a request, be it that it raises."""
        try:
            ident, verb, arguments, more = request
            if ident != IDENT or verb not in self._verbs:
                return "#TRACEBACK", f"there is no verb {verb!r} of {ident!r} here"
            return "#RETURN", getattr(self._served, verb)(*arguments, **more)
        except Exception as error:
            if isinstance(self._served, Scheduler) and verb == "exchange" and not isinstance(error, FloxideError):
                # Nobody knows how far it has come, and what of it counts.
                self._served.died(error)
            return "#ERROR", error

    def _instead(self, request: Any, answer: Answer, error: Exception) -> Answer:
        """What is said instead of an answer that cannot be sent: too large, say, for the memory that is left."""
        kind, result = answer
        if isinstance(self._served, Scheduler) and isinstance(result, Reply) and result.leases:
            _, _, (session, *_), _ = request
            self._served.unsent(session, result.leases, error)
            return kind, result._replace(leases=(), more=False)
        return "#TRACEBACK", "".join(traceback.format_exception(error))
