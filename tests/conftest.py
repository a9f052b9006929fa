"""What every test gets: a check that it leaves nothing behind, and stacks when it hangs (pytest-timeout). And two
coordinators, for those that want one inline and one on processes.
"""

from __future__ import annotations

import gc
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import Coordinator, Run, RunFailedError, Workflow
from floxide_mp.coordinator import coordinator as coordinators
from floxide_mp.testing.leftovers import children, leftovers

LIMIT = 50.0


def everything() -> dict[str, set[object]]:
    found = leftovers()
    # The supervisor of a coordinator that lives on looks into /proc now and then.
    found["descriptors"] = {one for one in found["descriptors"] if not one[1].startswith("/proc/")}
    return {
        **found,
        "shared memory": set(os.listdir("/dev/shm")),
        "temporary files": {
            n for n in os.listdir(tempfile.gettempdir()) if not n.startswith(("pytest-", "hypothesis"))
        },
    }


def new_since(before: dict[str, set[object]]) -> dict[str, set[object]]:
    after = everything()
    return {kind: after[kind] - before[kind] for kind in after if after[kind] - before[kind]}


def in_use_elsewhere() -> set[object]:
    """Names in /dev/shm that some process has mapped which is no child of ours: another suite's, on this machine."""
    mine = {os.getpid(), *children()}
    found: set[object] = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in mine:
            try:
                lines = (entry / "maps").read_text().splitlines()
            except OSError:
                continue  # ended while we looked
            found |= {line.partition("/dev/shm/")[2] for line in lines if "/dev/shm/" in line}
    return found


@pytest.fixture(autouse=True, scope="session")
def own_temporary_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Temporary files of this process and its children go where nobody else's are, so that they can be counted."""
    place = str(tmp_path_factory.mktemp("tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", place)
        patch.setattr(tempfile, "tempdir", place)
        yield


@pytest.fixture(autouse=True, scope="session")
def signals_as_from_a_terminal() -> Iterator[None]:
    """Programs that tests start inherit what is ignored and blocked: under ``nohup``, or behind ``&`` in a script, none
    of them would be ended by Ctrl-C."""
    wanted = {
        signal.SIGINT: signal.default_int_handler,
        **dict.fromkeys((signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD), signal.SIG_DFL),
    }
    before = {number: signal.signal(number, wanted[number]) for number in wanted if _ignored(number)}
    mask = signal.pthread_sigmask(signal.SIG_SETMASK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for number, handler in before.items():
        signal.signal(number, handler)


def _ignored(number: int) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN


@pytest.fixture(autouse=True, scope="session")
def quick_collections() -> None:
    """What was imported lives on: that the garbage collector looks at it after each test, too, took 50 ms a test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a process, thread, descriptor, socket, shared-memory segment or temporary file."""
    before = everything()
    yield
    gc.collect()
    end = time.monotonic() + 10
    while left := new_since(before):
        # Names in /dev/shm are the machine's: another program's may come and go. Ours would stay.
        assert set(left) == {"shared memory"}, f"left behind: {left}"
        if not left["shared memory"] - in_use_elsewhere():
            break
        assert time.monotonic() < end, f"left behind: {left}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def inline() -> Iterator[Coordinator]:
    with Coordinator(0) as made:
        yield made


@pytest.fixture(scope="module")
def processes() -> Iterator[Coordinator]:
    """For the tests that end no worker. They wait as if for ever: who forgets to wake them makes a test hang."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coordinators, "PATIENCE", 1e6)
        made = Coordinator(2)
    with made:
        yield made


@pytest.fixture(params=["inline", "processes"])
def coordinator(request: pytest.FixtureRequest, inline: Coordinator, processes: Coordinator) -> Coordinator:
    return inline if request.param == "inline" else processes


def outcome(run: Run) -> tuple[Any, ...]:
    """All of a run that must not depend on who did the work: of a failed one, not how far its other branches came."""
    try:
        outputs = run.wait(LIMIT).outputs
    except RunFailedError as error:
        cause = error.__cause__
        return run.status, error.node, error.attempt, type(cause).__name__, str(cause)
    return run.status, outputs, vars(run.context()), run.metrics()


Both = Callable[..., Run]


@pytest.fixture
def both(inline: Coordinator, processes: Coordinator) -> Both:
    """Runs a workflow inline and on processes, holds what they come to against each other, and gives the first."""

    def run(workflow: Workflow | type[Workflow], value: Any, **options: Any) -> Run:
        one, many = (c.start(workflow, value, **options) for c in (inline, processes))
        assert outcome(one) == outcome(many)
        return one

    return run
