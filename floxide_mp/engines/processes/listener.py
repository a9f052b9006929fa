"""``Listener``: lets in the worker loops of the user's own that are in other processes, and answers them.

Unlike our workers, these processes are the user's, so they have to connect. Nothing of it is in the file system: the
listener is an abstract socket, which is there while somebody holds it. Whoever connects must be of this user, which
the kernel says, and prove to know ``multiprocessing.current_process().authkey``, which the processes have that were
started by ``multiprocessing``; the key itself is sent to nobody. Until then nothing is unpickled. Each is asked in a
thread of its own, so one who does not answer keeps nobody waiting, and is given up after a while.
"""

from __future__ import annotations

import logging
import mmap
import os
import secrets
import select
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from multiprocessing import AuthenticationError, current_process
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge, wait
from typing import Any, Final

from ...api.stepping import StepBackend
from ...clock import monotonic, sleep
from ...coordinator.critical import Thread
from ...coordinator.external import ExternalSessions, SchedulerSession
from ...errors import FloxideError
from ...ports import ExternalListener
from ...wire.log import say
from ...wire.status_page import SIZE, StatusPage
from .exit_status import ended
from .fork_safety import INTRODUCTION, as_socket, blocking, close, hang_up, limit, no_fork, own, peer_of
from .proxy import VERBS, Proxy
from .rpc_server import SchedulerServer

ENDING: Final = 1.0  # seconds between the end of a process's connections and its own, at the most
ANSWERS: Final = 1.0  # seconds for the last answers when this is closed; one who does not take his is hung up on
BACKLOG: Final = 16  # who wait to be let in: so many strangers at the most are looked at before one who may come
PAUSE: Final = 0.1  # seconds before the next try, where nobody can be let in


class Listener(ExternalListener):
    """See ``ports.Door``.

    Raises:
        FloxideError: there is no descriptor or thread left for it.
    """

    def __init__(self, external_sessions: ExternalSessions) -> None:
        self._external_sessions = external_sessions
        self._pid = os.getpid()
        self._address = f"\0floxide-{self._pid}-{secrets.token_hex(8)}"
        self._closed = False
        self._lock = threading.Lock()
        self._lines: dict[Connection, threading.Thread] = {}
        self._strangers: set[int] = set()  # users of whom it was logged
        self._thread = Thread(self._listen, "floxide-listener", (), external_sessions.scheduler.died)
        with ExitStack() as undone:
            try:
                with no_fork():
                    self._socket = own(socket.socket(socket.AF_UNIX))
                    undone.callback(close, self._socket)
                self._socket.setblocking(False)
                self._socket.bind(self._address)
                self._socket.listen(BACKLOG)
                self._thread.start()
            except (OSError, RuntimeError) as error:
                raise FloxideError(f"a coordinator cannot listen for its proxies: {error}") from error
            undone.pop_all()

    def proxy(self) -> StepBackend:
        return Proxy(self._address, self._pid, self._external_sessions.retry)

    def close(self) -> None:
        self._closed = True
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        close(self._socket)
        end = monotonic() + ANSWERS
        for how in (socket.SHUT_RD, socket.SHUT_RDWR):
            with self._lock:
                threads = list(self._lines.values())
                for connection in self._lines:
                    hang_up(connection, how)
            for thread in threads:
                thread.join(max(0.0, end - monotonic()) if how == socket.SHUT_RD else None)

    # -- inside --------------------------------------------------------------------------------------

    def _listen(self) -> None:
        while not self._closed:
            wait([self._socket])
            try:
                while True:  # until nobody is waiting
                    self._let_in()
            except BlockingIOError:
                pass
            except Exception as error:  # no descriptor, thread or memory
                if not self._closed:
                    say(logging.WARNING, "nobody can be let in: %s", error)
                    sleep(PAUSE)

    def _let_in(self) -> None:
        """Take the next one who connects. Another user's is told by the kernel, costs three system calls and no more,
        and is logged once: everybody on the machine can connect to an abstract socket, as often as they like."""
        with no_fork():
            line, _ = self._socket.accept()
            who = peer_of(line)
            if who.uid != os.geteuid():
                line.close()
                connection = None
            else:
                connection = own(Connection(blocking(line).detach()))
        if connection is not None:
            self._receive(connection, who.pid)
        elif who.uid not in self._strangers:
            self._strangers.add(who.uid)
            text = "process %d of user %d was not let in, nor will others of that user be"
            say(logging.WARNING, text, who.pid, who.uid)

    def _receive(self, connection: Connection, pid: int) -> None:
        thread = Thread(self._serve, f"floxide-guest-{pid}", (connection, pid), self._external_sessions.scheduler.died)
        with self._lock:
            try:
                thread.start()
            except RuntimeError:
                close(connection)
                raise
            self._lines[connection] = thread

    def _serve(self, connection: Connection, pid: int) -> None:
        with ExitStack() as held:
            held.callback(self._forget, connection)
            try:
                pidfd = os.pidfd_open(pid)
                held.callback(os.close, pidfd)
                status_page = _introduced(connection, held)
            except AuthenticationError:
                say(logging.WARNING, "process %d was not let in: it has another key", pid)
                return
            except (OSError, EOFError) as error:
                say(logging.INFO, "process %d was not let in: %s", pid, error or "it hung up")
                return
            external_session = SchedulerSession(self._external_sessions, status_page, pid)
            held.callback(external_session.died, partial(_ending, pidfd))
            SchedulerServer(external_session, VERBS).answer(_watched(connection, pidfd), connection.send)

    def _forget(self, connection: Connection) -> None:
        with self._lock:  # or ``close`` could hang up on another that got the same descriptor
            del self._lines[connection]
            close(connection)


def _introduced(connection: Connection, held: ExitStack) -> StatusPage:
    """Have the external worker prove that it knows the key, prove it to the external worker, and give it one side of
    a status page.
    """
    with as_socket(connection) as line:
        limit(line, INTRODUCTION)
        key = bytes(current_process().authkey)
        deliver_challenge(connection, key)
        answer_challenge(connection, key)
        page = os.memfd_create("floxide-board")
        try:
            os.ftruncate(page, mmap.PAGESIZE)
            memory = held.enter_context(mmap.mmap(page, SIZE))
            socket.send_fds(line, [b"\0"], [page])
        finally:
            os.close(page)
        limit(line, 0)
    status_page = StatusPage(memoryview(memory))
    held.callback(status_page.close)
    return status_page


def _watched(connection: Connection, pidfd: int) -> Callable[[], Any]:
    """How to receive from a process that may die while another, which it left, holds its end of the connection."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    poll.register(pidfd, select.POLLIN)

    def receive() -> Any:
        if connection.fileno() not in dict(poll.poll()):
            raise EOFError
        return connection.recv()

    return receive


def _ending(pidfd: int) -> tuple[str, int | None]:
    """How a process ended whose connection has, in words, and its exit code where that is ours to know."""
    if not wait([pidfd], ENDING):
        return "broke its connection", None
    try:
        # Not reaped: that is for its parent to do, who may be this process's user.
        found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    except ChildProcessError:
        found = None  # another's child, or reaped already
    if found is None:
        return "ended", None
    code = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
    return ended(code), code
