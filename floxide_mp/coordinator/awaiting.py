"""``await run``: waiting for runs in event loops, in the caller's process.

One thread waits for all runs of a coordinator that are awaited. The threads of a loop's default pool are few, and
belong to what the program does in them: eight waiters by ``asyncio.to_thread(run.wait)`` are all of them on two CPUs.
Only where steps run in the threads that wait (inline), each run that is awaited has a thread of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol

from .scheduler import Scheduler


class Waitable(Protocol):
    """What is needed of a ``Run``."""

    run_id: str

    def wait(self, timeout: float | None = None) -> Any:
        """See ``Run``."""

    def cancel(self) -> None:
        """See ``Run``."""


Tell = Callable[[Any, BaseException | None], object]

_lock: Final = threading.Lock()  # around the following, and the lists of each
_watches: Final[dict[Scheduler, Watch]] = {}  # that have a thread


class Watch:
    """The thread that tells of the ends of runs of one coordinator, as long as there are some to wait for."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._waiting: list[tuple[Waitable, Tell]] = []
        self._added = False  # since the thread has last looked which runs there are
        self._thread = threading.Thread(target=self._watch, name="floxide-await", daemon=True)

    @classmethod
    def for_run(cls, scheduler: Scheduler, run: Waitable, tell: Tell) -> Watch:
        """The one that will call ``tell``, in its thread, with what ``run.wait()`` gives or raises.

        Raises:
            RuntimeError: no thread can be started.
        """
        with _lock:
            watch = _watches.get(scheduler)
            if watch is None or not watch._thread.is_alive():  # this process was forked from the one that had it
                watch = cls(scheduler)
                watch._thread.start()
                _watches[scheduler] = watch
            watch._waiting.append((run, tell))
            watch._added = True
        scheduler.wake_waiting()
        return watch

    def rest(self) -> None:
        """If there is nothing to wait for any more, wait until the thread has ended: it does so now."""
        with _lock:
            idle = not self._waiting
        if idle:
            self._thread.join()

    def _watch(self) -> None:
        while True:
            with _lock:
                waiting, self._added = list(self._waiting), False
                if not waiting:
                    _watches.pop(self._scheduler, None)
                    return
            try:
                over = self._scheduler.wait_any([run.run_id for run, _ in waiting], lambda: self._added)
            except BaseException as error:  # for want of memory, say: each of them hears so
                for one in waiting:
                    self._end(one, error)
                continue
            for one in waiting:
                if one[0].run_id in over:
                    self._end(one)

    def _end(self, one: tuple[Waitable, Tell], failure: BaseException | None = None) -> None:
        run, tell = one
        result, error = _outcome(run, 0) if failure is None else (None, failure)
        if type(error) is TimeoutError:
            return  # it was resumed in the meantime
        with _lock:
            self._waiting.remove(one)
        _tell(tell, result, error)


def _outcome(run: Waitable, timeout: float | None) -> tuple[Any, BaseException | None]:
    try:
        return run.wait(timeout), None
    except BaseException as error:
        return None, error


def _tell(tell: Tell, result: Any, error: BaseException | None) -> None:
    try:
        tell(result, error)
    except RuntimeError:
        pass  # the loop is closed: nobody waits any more


async def awaited(run: Waitable, scheduler: Scheduler | None) -> Any:
    """What ``run.wait()`` gives, or raises. The run is cancelled where this is.

    Args:
        run: of a coordinator.
        scheduler: of that, if steps run though nobody waits; else None.

    Raises:
        RuntimeError: no thread can be started.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def come(result: Any, error: BaseException | None) -> None:
        if future.done():
            return  # it was cancelled
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def tell(result: Any, error: BaseException | None) -> None:
        loop.call_soon_threadsafe(come, result, error)

    if scheduler is None:
        name = f"floxide-await-{run.run_id}"
        thread = threading.Thread(target=lambda: _tell(tell, *_outcome(run, None)), name=name, daemon=True)
        thread.start()
        rest: Callable[[], None] = thread.join
    else:
        rest = Watch.for_run(scheduler, run, tell).rest
    try:
        return await future
    except asyncio.CancelledError:
        run.cancel()
        raise
    finally:
        if future.done() and not future.cancelled():
            rest()  # it has nothing more to do
