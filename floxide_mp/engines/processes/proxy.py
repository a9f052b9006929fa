"""``Proxy``: a coordinator as the worker loops of the user's own see it that are in other processes.

How they get in is told in ``listener``; what a loop does is the ``ExternalWorker``'s.
"""

from __future__ import annotations

import mmap
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing import AuthenticationError, current_process
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from multiprocessing.managers import RemoteError
from typing import Any, Final

from ... import standard_streams
from ...api.context import Context
from ...api.retry import RetryPolicy
from ...api.stepping import StepBackend, StepCallbacks
from ...api.workflow import Workflow
from ...coordinator.compatibility import carried_context, check_begun, check_same
from ...coordinator.coordinator import Coordinator
from ...coordinator.run_checks import check_options
from ...core.graph import Graph
from ...errors import FloxideError
from ...messages import Description, EventPage, Lease, Report
from ...ports import RunRecord
from ...stores.memory import MemoryStore
from ...types import RunInfo
from ...wire import codec
from ...wire.status_page import SIZE, StatusPage
from ...worker.external_loop import ExternalWorker, ExternalWorkers
from ..inline import InlineEngine
from .fork_safety import INTRODUCTION, as_socket, blocking, close, limit, no_fork, own, peer_of
from .rpc_client import Line

VERBS: Final = ("join", "take", "commit", "shape", "describe", "events", "info", "create")


class ExternalSessionProxy(Line):
    """The verbs of a ``SchedulerSession``, on a connection of its own."""

    def __init__(self, connection: Connection, coordinator: int) -> None:
        super().__init__(connection)
        self._coordinator = coordinator

    def join(self, worker_id: int) -> None:
        self._call("join", worker_id)

    def take(self, workflow: str, wait: float) -> Lease | None:
        return self._call("take", workflow, wait)  # type: ignore[no-any-return]

    def commit(self, report: Report) -> bool:
        return self._call("commit", report)  # type: ignore[no-any-return]

    def shape(self, run_id: str) -> dict[str, str]:
        return self._call("shape", run_id)  # type: ignore[no-any-return]

    def describe(self, run_id: str, known: Sequence[bytes], warnings: Sequence[str] = ()) -> Description:
        return self._call("describe", run_id, known, warnings)  # type: ignore[no-any-return]

    def events(self, run_id: str, since: int) -> EventPage:
        return self._call("events", run_id, since)  # type: ignore[no-any-return]

    def info(self, run_id: str) -> RunInfo:
        return self._call("info", run_id)  # type: ignore[no-any-return]

    def create(self, record: RunRecord, graph: Graph) -> tuple[RunRecord, RunInfo] | None:
        return self._call("create", record, graph)  # type: ignore[no-any-return]

    def leave(self) -> None:
        try:
            close(self._connection)
        except OSError:
            pass  # a node has closed the descriptor

    def _call(self, verb: str, *arguments: Any) -> Any:
        try:
            return super()._call(verb, *arguments)
        except FloxideError:
            raise  # what the coordinator says
        except (EOFError, OSError) as error:
            raise _gone(self._coordinator) from error
        except RemoteError as error:
            raise FloxideError(f"the coordinator (pid {self._coordinator}) cannot do it: {error}") from error


class Proxy(StepBackend):
    """A coordinator as seen from another process: see ``Coordinator.proxy``. May be used from any thread."""

    def __init__(self, address: str, coordinator: int, retry: RetryPolicy | None) -> None:
        self._address = address
        self._coordinator = coordinator
        self._retry = retry
        self._externals = ExternalWorkers(self._external)
        self._idle: list[ExternalSessionProxy] = []  # connections for what is asked outside of any session
        self._pid = os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        return Proxy, (self._address, self._coordinator, self._retry)

    def __repr__(self) -> str:
        return f"<Proxy of the coordinator in process {self._coordinator}>"

    def info(self, run_id: str) -> RunInfo:
        """How a run stands.

        Raises:
            NotStartedError: there is none of that id.
            FloxideError: the coordinator is closed, or gone.
        """
        with self._asking() as external_session:
            return external_session.info(run_id)

    def __start_distributed__(
        self, workflow: Workflow, input: Any, ctx: Context | None, run_id: str | None, **options: Any
    ) -> str:
        record = self._drawn_up(workflow, input, ctx, run_id, **options)
        if record.input is None:
            raise FloxideError("a source can feed a run only in the coordinator's process; start it there")
        with self._asking() as external_session:
            there = external_session.create(record, workflow.compiled.graph)
        if there is not None:
            old, info = there
            check_begun(old, record, workflow.compiled)
            # Nothing goes on by this, so what its steps wrote is not looked at.
            old = carried_context(old, workflow.compiled, None, lambda made: codec.encode(made, "ctx"))
            check_same(old, info, record)
            check_options(old, info.status, record)
        return record.run_id

    def __step_distributed__(
        self, workflow: Workflow, worker_id: int, callbacks: StepCallbacks, wait: float
    ) -> tuple[str, Any] | None:
        return self._externals.step(workflow.compiled, worker_id, callbacks, wait)

    # -- inside --------------------------------------------------------------------------------------

    def _drawn_up(self, workflow: Workflow, *arguments: Any, **options: Any) -> RunRecord:
        """What the coordinator is to remember of the run, drawn up by one that does nothing else: the values are here,
        and it is here that they must be found good."""
        store = MemoryStore()
        with Coordinator(0, store, lambda scheduler, _: InlineEngine(scheduler), retry=self._retry) as here:
            here.start(workflow, *arguments, **options)
            (only,) = store.runs()
        return store.record(only.run_id)

    def _external(self, worker_id: int) -> ExternalWorker:
        with ExitStack() as undone:
            external_session, status_page = _connect(self._address, self._coordinator)
            undone.callback(external_session.leave)
            external_session.join(worker_id)
            undone.pop_all()
            return ExternalWorker(external_session, status_page, self._retry)

    @contextmanager
    def _asking(self) -> Iterator[ExternalSessionProxy]:
        if self._pid != os.getpid():
            self._idle, self._pid = [], os.getpid()  # forked: those are the other process's
        try:
            external_session = self._idle.pop()
        except IndexError:
            external_session, _ = _connect(self._address, self._coordinator)
        try:
            yield external_session
        except BaseException:  # its reply may still come, and must never be taken for that of another call
            external_session.leave()
            raise
        self._idle.append(external_session)


def _connect(address: str, coordinator: int) -> tuple[ExternalSessionProxy, StatusPage]:
    """A connection to the coordinator, and one side of a status page.

    Raises:
        FloxideError: it is closed or gone, does not answer, or has another key.
    """
    standard_streams.occupy()
    with ExitStack() as undone:
        try:
            with no_fork():
                line = own(blocking(socket.socket(socket.AF_UNIX)))
                undone.callback(close, line)
            limit(line, INTRODUCTION)
            line.connect(address)
            if peer_of(line).uid != os.geteuid():
                raise AuthenticationError
            with no_fork():
                connection = own(Connection(line.detach()))
                undone.callback(close, connection)
            key = bytes(current_process().authkey)
            answer_challenge(connection, key)
            deliver_challenge(connection, key)
            with as_socket(connection) as line:
                _, (page,), *_ = socket.recv_fds(line, 1, 1, socket.MSG_CMSG_CLOEXEC)
                limit(line, 0)
            try:
                memory = mmap.mmap(page, SIZE)
            finally:
                os.close(page)
        except AuthenticationError as error:
            text = (
                f"the coordinator (pid {coordinator}) and this process have different keys: start this one by "
                "multiprocessing, or give it the same multiprocessing.current_process().authkey"
            )
            raise FloxideError(text) from error
        except BlockingIOError as error:
            raise FloxideError(f"the coordinator (pid {coordinator}) does not answer") from error
        except (OSError, EOFError, AssertionError, ValueError) as error:
            raise _gone(coordinator) from error
        undone.pop_all()
        return ExternalSessionProxy(connection, coordinator), StatusPage(memoryview(memory))


def _gone(coordinator: int) -> FloxideError:
    return FloxideError(f"the coordinator (pid {coordinator}) is closed or gone")
