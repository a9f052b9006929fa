"""Workflows whose nodes fork, in every way, and whose children look at the context. Imported by workers."""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from floxide_mp import Context, EventLog, FloxideError, NextAll, SharedState, Workflow, node
from floxide_mp.api.context import Item


@dataclass
class Ctx(Context):
    level: SharedState[int] = field(default_factory=lambda: SharedState(0))
    log: EventLog[int] = field(default_factory=EventLog[int])


def seen(ctx: Ctx) -> tuple[int, list[int], Item, bool]:
    return ctx.level.get(), sorted(ctx.log), ctx.item, ctx.cancelled


def child_of(work: Callable[[], object]) -> bytes:
    """What a forked child prints of it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(writing, repr(work()).encode())
        except BaseException as error:
            os.write(writing, repr(error).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        found = pipe.read()
    os.waitpid(pid, 0)
    return found


@node
def split(ctx: Ctx, count: int) -> NextAll[int]:
    ctx.level.set(3)
    return NextAll(list(range(count)))


@node
def looks(ctx: Ctx, number: int) -> int:
    """Now and then a child looks, and sees what this step sees."""
    ctx.log.append(number)
    if number % 8 == 5:
        _, before, *_ = seen(ctx)
        with ThreadPoolExecutor(1) as pool:
            by_a_thread = pool.submit(child_of, lambda: seen(ctx)).result()
        for told in (child_of(lambda: seen(ctx)), eval(child_of(lambda: child_of(lambda: seen(ctx)))), by_a_thread):
            level, log, item, cancelled = eval(told, {"Item": Item})
            after = seen(ctx)
            assert (level, item, cancelled) == (after[0], after[2], after[3])
            assert set(before) <= set(log) <= set(after[1])  # others write meanwhile
    return number


@node
def goes_on(ctx: Ctx, number: int) -> int:
    """The worker goes on to here by itself: nobody knows of this item until its child asks for it."""
    if number % 8 == 3:
        assert child_of(lambda: ctx.item.item_id) == repr(ctx.item.item_id).encode()
    return number


class Looks(Workflow):
    context = Ctx
    split = split
    looks = looks
    goes_on = goes_on
    start = split
    edges = {split: [looks], looks: [goes_on]}


HERE: list[Ctx] = []


def write() -> None:
    HERE[0].log.append(1)


def text(ctx: Ctx) -> list[str]:
    """What a child is told when it writes, and one that a library in C has forked when it looks."""

    def writes() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ctx.log.append(1)

    found = [child_of(writes).decode()]
    HERE[:] = [ctx]
    with multiprocessing.get_context("fork").Pool(1) as pool:
        try:
            pool.apply(write)
        except FloxideError as error:
            found.append(str(error))
    reading, writing = os.pipe()
    pid = ctypes.CDLL(None).fork()
    if not pid:
        try:
            ctx.level.get()
        except FloxideError as error:
            os.write(writing, str(error).encode())
        return []  # the child comes back from the node
    os.waitpid(pid, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        return [*found, pipe.read(), str(list(ctx.log))]


def level_of(_: int) -> int:
    return HERE[0].level.get()


def in_pool(ctx: Ctx, count: int) -> list[int]:
    """A pool of processes that are forked, by threads of its own as well, and use the context."""
    ctx.level.set(count)
    HERE[:] = [ctx]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(level_of, range(4))


def single(name: str, work: Callable[..., object]) -> type[Workflow]:
    return Workflow.build(name, nodes={"work": node(work)}, start="work", edges={"work": []}, context=Ctx)


Text = single("Text", text)
InPool = single("InPool", in_pool)


# -- children that come back --------------------------------------------------------------------------------------


def fork(how: str) -> None:
    """The child comes back from here, or raises; the parent waits for it, and has no hurry."""
    pid = ctypes.CDLL(None).fork() if how == "c" else os.fork()
    if pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == (3 if how == "exits" else 0)
    elif how == "exits":
        sys.exit(3)


class ForksWhenPickled:
    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        fork(self.how)
        return str, ("pickled",)


def come_back(ctx: Ctx, where: tuple[str, str]) -> Any:
    place, how = where
    ctx.log.append(1)

    async def waits() -> str:
        await asyncio.sleep(0)
        fork(how)
        return place

    def gives() -> Iterator[str]:
        yield place
        fork(how)
        yield place

    if place == "generator":
        return NextAll(gives())
    if place == "coroutine":
        return waits()
    if place == "value":
        return ForksWhenPickled(how)
    if place == "thread":
        thread = threading.Thread(target=fork, args=("returns",))
        thread.start()
        thread.join()
    else:
        fork(how)
    return place


ComeBack = single("ComeBack", come_back)
