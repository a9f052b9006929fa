"""What runs in a worker process. Started by ``spawn`` with the descriptors it inherits; ends when told or alone."""

from __future__ import annotations

import faulthandler
import gc
import mmap
import os
import signal
import socket
import sys
import traceback
from typing import Any

from ... import failpoints, standard_streams
from ...graph import validate
from ...wire.status_page import SIZE, StatusPage
from ...worker.importing import be_worker
from ...worker.step_errors import Process
from ...worker.worker import Worker
from .exit_status import WORN
from .fork_safety import blocking, own
from .handshake import die_with, take
from .recycling import worn_by
from .rpc_client import SchedulerProxy
from .shm.payloads import WorkerEnd
from .shutdown import REPLACED, shut_down


def main(connection: int, group_line: int, own_line: int, status_page: int, trace: int, stderr: int) -> None:
    """Work for the coordinator at the other end of ``connection``, which is a descriptor as all that follow."""
    die_with((group_line, own_line))
    standard_streams.occupy()
    _keep(connection, group_line, own_line, trace, stderr)
    _have_signals_as_fresh()
    gc.freeze()  # nothing of what was imported up to here is garbage, and nothing will be
    gc.enable()
    faulthandler.enable(trace)
    validate.types_wanted = False
    page = mmap.mmap(status_page, SIZE)
    os.close(status_page)
    with blocking(socket.socket(fileno=connection)) as line:  # its module may have set a default time-out
        told = take(line)
        line.detach()
    if told is None:
        return
    orders, memory = told
    if memory >= 0:
        _keep(memory)
    kind = TrippedEnd if failpoints.armed else WorkerEnd
    proxy = SchedulerProxy(own(kind(connection, memory, orders.part)))
    be_worker()
    worker = Worker(orders.session, proxy, StatusPage(memoryview(page)), worn=worn_by(orders.limits))
    if sys.stdout is not None:  # the program has closed it
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # or a killed one's last words are lost
    # Up to here errors went to the trace, for the message that workers cannot start.
    sys.stderr.flush()
    os.dup2(stderr, 2)
    os.close(stderr)
    Process.is_worker = True
    code = 0
    limit: float | None = REPLACED
    try:
        if worker.run():
            code = WORN
        else:
            limit = None  # the coordinator stops: it ends this group when its grace is over
    except (EOFError, ConnectionError):
        pass  # the coordinator hung up: nobody is left to tell
    except BaseException as failure:
        traceback.print_exc()
        code = -signal.SIGINT if isinstance(failure, KeyboardInterrupt) else 1
    shut_down(code, trace, limit)


def _keep(*descriptors: int) -> None:
    """What nodes start does not get them."""
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)


def _have_signals_as_fresh() -> None:
    """Undo what a program hands on to what it starts, and what comes of being in a group of its own."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, no command of a node would ever fail: its status is gone
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # a terminal may stop what prints from the background: stty tostop


class TrippedEnd(WorkerEnd):
    """A connection to the coordinator with the failpoints around each request."""

    def send(self, request: Any) -> None:
        _, verb, arguments, _ = request
        self._verb = verb if verb != "exchange" else "report" if arguments[1] else "claim"
        failpoints.hit(f"worker.{self._verb}.unsent")
        super().send(request)
        failpoints.hit(f"worker.{self._verb}.sent")

    def recv(self) -> Any:
        self.poll(None)
        failpoints.hit(f"worker.{self._verb}.answered")
        return super().recv()
