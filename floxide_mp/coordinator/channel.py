"""``source``: a channel from the user's program into runs, given value by value. Lives in the coordinator's process.

What becomes of the values is decided where they are taken: by ``Coordinator.start``, for which each is an item, or by
``Source.run``, a run each. ``Feed`` is what a run takes its input from then.

Values are pickled where they are sent: what the sender does to an object afterwards is not seen, and what cannot travel
is refused in the sender's thread, whether somebody takes the values already or not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, Self, TypeVar

from ..api.arguments import checked_seconds
from ..api.context import Context
from ..api.workflow import Workflow
from ..clock import monotonic
from ..errors import FloxideError
from ..sigint import defer_sigint, interruptibly
from ..wire import codec
from .critical import Condition, Critical


class Feed(Protocol):
    """Where the input of a run comes from that is given bit by bit."""

    def __len__(self) -> int:
        """How many values are there."""

    def pop(self) -> bytes | None:
        """The next one, if there is one."""

    @property
    def exhausted(self) -> bool:
        """Whether there is none, and none will come."""

    def shut(self) -> None:
        """Nothing is taken any more."""


T = TypeVar("T")


class Channel:
    """What a sender and its source share: at most ``capacity`` values, pickled, that nobody has taken yet."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: deque[bytes] = deque()
        self._critical = Critical()  # a thread may have it again: what it guards is never left half changed
        self._changed = Condition(self._critical)
        self._closed = False  # nothing more is sent
        self._shut = False  # nothing more is taken
        self._tell: Callable[[bool], bool] | None = None

    def open(self, tell: Callable[[bool], bool]) -> None:
        with self._critical.lock:
            if self._tell is not None:
                raise FloxideError("the values of a source are taken once; make another one by source(capacity)")
            self._tell = tell
            self._changed.notify_all()  # who waits already may have to make room itself

    @defer_sigint
    def put(self, value: Any, timeout: float | None) -> None:
        end = None if timeout is None else monotonic() + checked_seconds("timeout", timeout)
        payload = interruptibly(codec.encode_whole, value, "a value sent")
        while not self._put(payload, end):
            pass
        if self._tell is not None:
            self._tell(False)

    def _put(self, payload: bytes, end: float | None) -> bool:
        """Put it there, if there is room now or after one wait."""
        with self._critical.lock:
            self._check_open()
            if len(self._values) < self._capacity:
                self._values.append(payload)
                self._changed.notify_all()
                return True
            if end is not None and monotonic() >= end:
                raise TimeoutError(f"the source is full: {self._capacity} values wait to be taken")
        if self._tell is None or not self._tell(True):
            with self._critical.lock:
                if len(self._values) >= self._capacity and not self._closed and not self._shut:
                    self._changed.wait(None if end is None else max(0.0, end - monotonic()))
        return False

    def _check_open(self) -> None:
        if self._closed:
            raise FloxideError("the source is closed: nothing more can be sent")
        if self._shut:
            raise FloxideError("what this source feeds is over: nothing more can be sent")

    @defer_sigint
    def close(self) -> None:
        with self._critical.lock:
            self._closed = True
            self._changed.notify_all()
        if self._tell is not None:
            self._tell(False)

    # for those who take (``running.Feed``)

    def __len__(self) -> int:
        return len(self._values)

    def pop(self) -> bytes | None:
        with self._critical.lock:
            if not self._values:
                return None
            self._changed.notify_all()
            return self._values.popleft()

    @property
    def exhausted(self) -> bool:
        return self._closed and not self._values

    def shut(self) -> None:
        with self._critical.lock:
            self._shut = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Any]:
        """Values until the channel is closed, waiting for each."""
        while True:
            with self._critical.lock:
                self._changed.wait_for(lambda: bool(self._values) or self._closed)
                if not self._values:
                    return
                payload = self._values.popleft()
                self._changed.notify_all()
            yield codec.decode(payload)


class Sender(Generic[T]):
    """The end of a channel that values go into; from any thread. A context manager that closes it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def send(self, value: T, timeout: float | None = None) -> None:
        """Hand in a value; wait while the channel is full.

        Args:
            value: anything that can be pickled.
            timeout: seconds to wait at the most; None: as long as it takes.

        Raises:
            ValueError: ``timeout`` is no number of seconds.
            TimeoutError: the channel was full for ``timeout`` seconds.
            SerializationError: the value cannot be pickled; it was not sent.
            FloxideError: the channel is closed, or what it feeds is over.
        """
        self._channel.put(value, timeout)

    def close(self) -> None:
        """There are no more values: what is fed ends when those that were sent are worked off."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Source(Generic[T]):
    """The end of a channel that values come out of: for ``coordinator.start(workflow, source)``, or ``run``.

    What is in the channel, taken by no step yet, is not remembered by any store: after a crash of the program
    it is gone with the program, and a run that is resumed goes on with what had been taken.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def open(self, tell: Callable[[bool], bool]) -> Channel:
        """Take the values from now on.

        Args:
            tell: called after a value was sent or the channel closed (False), and while it is full (True);
                returns whether something was done about that.

        Raises:
            FloxideError: somebody takes them already.
        """
        self._channel.open(tell)
        return self._channel

    def run(
        self,
        workflow: Any,
        ctx: Context | None = None,
        workers: int | None = 0,
        *,
        failure: str = "stop",
        **options: Any,
    ) -> list[Any]:
        """Run the workflow for each value until the channel is closed.

        Args:
            workflow: a ``Workflow`` class or instance.
            ctx: what every run starts from.
            workers: worker processes, which run as many runs at a time; 0: one after the other in this thread; None: as
                many as this process may use CPUs.
            failure: what a run that failed does to the others: with "stop" no value is taken any more, and the sender
                is told; with "finish" all values have their run. In both, runs that are under way come to their end.
                Likewise for the items of each run, as for ``Coordinator.start``.
            options: as for ``Coordinator``.

        Returns:
            a ``RunResult`` for each value, in the order they were sent.

        Raises:
            RunFailedError, RunTimeoutError, RunCancelledError: of the first run that did not complete. Its ``results``
                are those of all that did, in the order they were sent; ``others`` the errors of the others.
            FloxideError: somebody takes the values already.
        """
        run_each = Workflow.__launcher__("run_each")
        return run_each(self, workflow, ctx, workers, failure=failure, **options)  # type: ignore[no-any-return]


def source(capacity: int) -> tuple[Sender[Any], Source[Any]]:
    """A channel: where to send values, and what takes them.

    Args:
        capacity: how many values may wait in it; who sends more waits.

    Raises:
        ValueError: not a whole number of at least 1.
    """
    if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1:
        raise ValueError(f"capacity must be a whole number of at least 1, not {capacity!r}")
    channel = Channel(capacity)
    return Sender(channel), Source(channel)
