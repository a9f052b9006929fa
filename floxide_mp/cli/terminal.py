"""What the command line has around it: signals and the standard streams, in whatever state they are."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, Final, Self

from ..texts import printable
from . import formatting

if TYPE_CHECKING:
    from ..coordinator.coordinator import Coordinator

GRACE: Final = 2.0  # seconds that running steps get after a signal
SLACK: Final = 1.0  # ... and that tidying up may take after that
WATCHED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Watches for signals while it is entered, and ends the run in order.

    The handlers do nothing: the number goes through a pipe to a thread of its own. So no signal interrupts anything in
    the middle, and a second one works also while the main thread is deep in a node.

    Attributes:
        coordinator: what has to be closed; while there is none a signal ends the process at once.
        signal: the number of the signal that came, or 0.
        farewell: what is said when everything ends at once.
    """

    def __init__(self) -> None:
        self.coordinator: Coordinator | None = None
        self.signal = 0
        self.resume_hint = ""

    @property
    def name(self) -> str:
        return signal.Signals(self.signal).name

    @property
    def code(self) -> int:
        return 128 + self.signal

    def __enter__(self) -> Self:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._thread = threading.Thread(target=self._watch, name="floxide-signals", daemon=True)
        self._thread.start()
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        # What is ignored stays ignored: ``nohup``, and Ctrl-C for background jobs.
        watched = [number for number in WATCHED if signal.getsignal(number) is not signal.SIG_IGN]
        self._handlers = {number: signal.signal(number, _nothing) for number in watched}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.write(self._write, b"\0")
        self._thread.join()
        os.close(self._read)
        os.close(self._write)

    def _watch(self) -> None:
        number = self._next(None)
        if not number:
            return
        self.signal = number
        coordinator = self.coordinator
        if coordinator is None:
            os._exit(self.code)
        coordinator.drain()
        text = f"{self.name}: running steps have {GRACE:g} s to end; once more ends everything at once"
        _write(2, formatting.message(text))
        threading.Thread(target=coordinator.close, args=(GRACE,), daemon=True).start()
        again = self._next(GRACE + SLACK)
        if again or again is None:
            _write(2, self.resume_hint)
            os._exit(128 + (again or number))  # the kernel ends the workers

    def _next(self, timeout: float | None) -> int | None:
        """The next watched signal, 0 for the end of watching, None after ``timeout`` seconds."""
        while select.select([self._read], [], [], timeout)[0]:
            number = os.read(self._read, 1)[0]
            if not number or number in WATCHED:
                return number
        return None


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler: that there is one makes Python tell the pipe."""


class Results:
    """Standard output, kept for results: whatever else is written to it while this is entered goes to standard error.

    Attributes:
        lost: whether writing failed; what comes after that is thrown away.
    """

    lost = False

    def __enter__(self) -> Self:
        sys.stdout.flush()
        self._file: IO[str] = open(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
        os.dup2(2, 1)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        return self

    def __exit__(self, *_: object) -> None:
        try:
            sys.stdout.flush()
        except OSError:
            pass  # standard error is gone
        os.dup2(self._file.fileno(), 1)
        self._file.close()

    def write(self, lines: Iterable[str], at_once: bool = False, own: bool = False) -> None:
        """Write lines; ``at_once``: each is there for the reader before the next is asked for.

        Control characters become escapes, but for those in the user's ``own`` words.

        Raises:
            OSError: they cannot be written (``lost`` is true), or ``lines`` raised it.
        """
        for line in lines:
            self._do(self._file.write, f"{line if own else printable(line)}\n")
            if at_once:
                self._do(self._file.flush)
        self._do(self._file.flush)

    def _do(self, act: Callable[..., Any], *arguments: Any) -> None:
        try:
            act(*arguments)
        except OSError:
            self.lost = True
            discard(self._file.fileno())
            raise


def open_standard_streams() -> None:
    """Where 0, 1 or 2 is closed, open nothing there: or the next pipe or socket would be taken for it."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            os.set_inheritable(number, True)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def discard(number: int) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, number)
    os.close(nothing)


def _write(number: int, text: str) -> None:
    try:
        os.write(number, printable(text).encode())
    except OSError:
        pass  # the terminal is gone
