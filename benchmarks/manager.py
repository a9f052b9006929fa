"""Where the manager's server should live: ``python -m benchmarks.manager [--json]``.

The time of one exchange between a worker process and the server, empty and with a hundred results:

- ``thread, socket pair``: a thread of the caller's process, on a connection that the worker inherits. This package.
- ``thread, listener``: the same on a socket in a directory, as a ``BaseManager`` serves it.
- ``own process``: a ``BaseManager`` server in a process of its own.

The caller's process is idle, or computes in pure Python and so holds the interpreter lock for ``sys.getswitchinterval``
(5 ms, or 0.5 ms) whenever a server thread of the same process wants it. How much of a CPU the busy caller really had
is shown, too: on a machine with other work it waits for a CPU instead of holding the lock, and its rows mean nothing
unless that is near 100 %. A worker's batches grow with the round trip (``worker.worker``), so a busy caller costs
latency before it costs throughput.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, Pipe
from multiprocessing.managers import BaseManager, BaseProxy, Server
from statistics import fmean
from typing import Any

from benchmarks.measuring import Paper, spread
from floxide_mp.engines.processes.rpc_client import SchedulerProxy
from floxide_mp.engines.processes.rpc_server import SchedulerServer
from floxide_mp.messages import NEXT, Reply, Report

_KEY = b"benchmark"
_DEADLINE = 60.0  # seconds after which a busy caller gives up: the worker is gone
OURS, LISTENER, OWN = "thread, socket pair", "thread, listener", "own process"


class ExternalSession:
    """Answers an exchange with next to nothing."""

    def exchange(self, session: int, reports: Any, want: float) -> Reply:
        return Reply((), False, 0.0)

    def describe(self, run_id: str, known: Any, changed: Any = ()) -> Any:
        raise NotImplementedError

    def events(self, run_id: str, since: int) -> Any:
        raise NotImplementedError


class ExternalSessionProxy(BaseProxy):
    _exposed_ = ("exchange",)

    def exchange(self, session: int, reports: Any, want: float) -> Any:
        return self._callmethod("exchange", (session, reports, want))


class Manager(BaseManager):
    pass


Manager.register("ExternalSession", ExternalSession, ExternalSessionProxy)


# -- the worker's side --------------------------------------------------------------------------------------------


def client(kind: str, where: str, calls: int) -> None:
    """Makes the calls and prints their times: what a subprocess of this module does."""
    external_session: Any
    if kind == OURS:
        external_session = SchedulerProxy(Connection(int(where)))
    else:
        manager = Manager(where, _KEY)
        manager.connect()
        external_session = manager.ExternalSession()  # type: ignore[attr-defined]
    results = Report(1, ((NEXT, ((0, b"x" * 20),), (), None, False),) * 100, ((0, 100, 0.001),))
    times: dict[str, list[float]] = {}
    for name, reports in (("empty", ()), ("100 results", (results,))):
        external_session.exchange(1, reports, 0.0)
        times[name] = []
        for _ in range(calls):
            before = time.perf_counter()
            external_session.exchange(1, reports, 0.0)
            times[name].append(time.perf_counter() - before)
    print(json.dumps(times))


# -- the caller's side --------------------------------------------------------------------------------------------


@contextmanager
def serving(kind: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A server; where its client finds it, and what the client inherits."""
    if kind == OURS:
        ours, theirs = Pipe()
        thread = SchedulerServer(ExternalSession()).serve(ours, "serve", lambda why: None)
        try:
            yield str(theirs.fileno()), (theirs.fileno(),)
        finally:
            theirs.close()
            thread.join()
    elif kind == OWN:
        manager = Manager(authkey=_KEY)
        manager.start()
        try:
            yield str(manager.address), ()
        finally:
            manager.shutdown()
    else:
        server: Server = Manager(authkey=_KEY).get_server()
        server.stop_event = threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=_accept, args=(server,), daemon=True)
        thread.start()
        try:
            yield str(server.address), ()
        finally:
            server.listener.close()  # type: ignore[attr-defined]


def _accept(server: Any) -> None:
    """Not ``server.accepter``, which tries again without a pause for ever once its listener is closed."""
    while True:
        try:
            connection = server.listener.accept()
        except OSError:
            return
        threading.Thread(target=server.handle_request, args=(connection,), daemon=True).start()


def measure(
    kind: str, calls: int, meanwhile: Callable[[subprocess.Popen[bytes]], None]
) -> tuple[dict[str, list[float]], float]:
    """What the client measured, and how much of a CPU the caller's thread had."""
    with serving(kind) as (where, inherited):
        command = [sys.executable, "-m", "benchmarks.manager", "--client", kind, where, "--calls", str(calls)]
        with tempfile.TemporaryFile("w+") as said:  # a pipe would be full before anybody reads
            worker = subprocess.Popen(command, pass_fds=inherited, stdout=said)
            wall, cpu = time.perf_counter(), time.thread_time()
            meanwhile(worker)
            share = (time.thread_time() - cpu) / (time.perf_counter() - wall)
            worker.wait(_DEADLINE)
            said.seek(0)
            found: dict[str, list[float]] = json.load(said)
    return found, share


def idle(worker: subprocess.Popen[bytes]) -> None:
    worker.wait(_DEADLINE)


def busy(worker: subprocess.Popen[bytes]) -> None:
    """Pure Python until the worker is through. Looking after it lets go of the interpreter lock, so that is rare."""
    end = time.monotonic() + _DEADLINE
    while worker.poll() is None and time.monotonic() < end:
        look = time.monotonic() + 0.1
        while time.monotonic() < look:
            total = 0
            for number in range(20_000):
                total += number


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.manager", description="where the manager's server should live")
    parser.add_argument("--calls", type=int, default=2000, help="calls of each kind; a tenth of it to a busy caller")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.add_argument("--client", nargs=2, metavar=("KIND", "WHERE"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.client:
        kind, where = options.client
        client(kind, where, options.calls)
        return 0
    paper = Paper("manager", options.json)
    interval = sys.getswitchinterval()
    callers = [
        ("idle", interval, options.calls, idle),
        ("busy", interval, max(1, options.calls // 10), busy),
        ("busy, 0.5 ms", 0.0005, max(1, options.calls // 10), busy),
    ]
    times: dict[tuple[str, str], dict[str, list[float]]] = {}
    shares: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.rounds):
        for caller, switch, calls, meanwhile in callers:
            for kind in (OURS, LISTENER, OWN):
                sys.setswitchinterval(switch)
                try:
                    found, share = measure(kind, calls, meanwhile)
                finally:
                    sys.setswitchinterval(interval)
                shares.setdefault((kind, caller), []).append(share)
                for size, seconds in found.items():
                    times.setdefault((kind, caller), {}).setdefault(size, []).extend(seconds)
    paper.say("\nmicroseconds of one round trip, median (quartiles), mean")
    rows = []
    for (kind, caller), sizes in times.items():
        cells = [(spread(seconds).text(0, 1e6), f"{fmean(seconds) * 1e6:,.0f}") for seconds in sizes.values()]
        had = fmean(shares[kind, caller])
        rows.append((kind, caller, f"{had:.0%}", *(cell for both in cells for cell in both)))
        for size, seconds in sizes.items():
            micros = [round(value * 1e6, 1) for value in spread(seconds)]
            paper.record(
                "round trip", server=kind, caller=caller, size=size, us=micros,
                mean=round(fmean(seconds) * 1e6, 1), calls=len(seconds), callers_cpu=round(had, 3),
            )  # fmt: skip
    paper.table(("server", "caller", "had CPU", "empty", "mean", "100 results", "mean"), rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
