"""``await run``: waiting for a run in an event loop, in the caller's process.

Each waiter has a thread of its own. The threads of the loop's default pool are few, and belong to what the program does
in them: eight waiters by ``asyncio.to_thread(run.wait)`` are all of them on two CPUs.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Protocol


class Waitable(Protocol):
    """What is needed of a ``Run``."""

    run_id: str

    def wait(self) -> Any:
        """See ``Run``."""

    def cancel(self) -> None:
        """See ``Run``."""


async def awaited(run: Waitable) -> Any:
    """What ``run.wait()`` gives, or raises. The run is cancelled where this is.

    Raises:
        RuntimeError: no thread can be started.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def tell(result: Any, error: BaseException | None) -> None:
        if future.done():
            return  # it was cancelled
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def wait() -> None:
        result, error = None, None
        try:
            result = run.wait()
        except BaseException as failure:
            error = failure
        try:
            loop.call_soon_threadsafe(tell, result, error)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more

    thread = threading.Thread(target=wait, name=f"floxide-await-{run.run_id}", daemon=True)
    thread.start()
    try:
        return await future
    except asyncio.CancelledError:
        run.cancel()
        raise
    finally:
        if future.done() and not future.cancelled():
            thread.join()  # it has nothing more to do
