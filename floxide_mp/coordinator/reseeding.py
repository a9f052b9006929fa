"""When a worker is to be replaced by one with another hash seed. Decided in the coordinator's process.

All workers of a run have one hash seed, which is kept with the run. Runs of one coordinator have the same, as a rule;
but one that is taken up from a store may have another, and needs workers of its own. A hash seed is set as an
interpreter starts, so such a worker is a new process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from .leases import Session

TURN: Final = 2.0  # seconds from a worker's first lease on, before it makes room for runs that have no worker


def next_seed(worker: Session, idle: bool, now: float, ready: Mapping[int, int], all_: Iterable[Session]) -> int | None:
    """The hash seed of the worker that is to be there in its place; None: it stays.

    A worker that has nothing to do makes room at once, where there is more work than workers that wait for it. One that
    has makes room after its turn, for runs that have no worker at all, or two fewer than its own seed has.

    Args:
        worker: one that asks for work.
        idle: whether there is none for it.
        now: on the monotonic clock.
        ready: how many items could be handed out, by hash seed of their run; who waits longest comes first.
        all_: the workers that live.
    """
    own = worker.hash_seed
    if own is None:
        return None
    held: Counter[int] = Counter()
    free: Counter[int] = Counter()
    for other in all_:
        seed = other.hash_seed if other.next_seed is None else other.next_seed
        if seed is not None:
            held[seed] += 1
            free[seed] += other.next_seed is not None or other.waiting or not other.calls
    over = worker.began is not None and now - worker.began >= TURN
    for seed, items in ready.items():
        if seed == own:
            continue
        if idle and items > free[seed]:
            return seed
        if not idle and over and (not held[seed] or held[seed] < held[own] - 1):
            return seed
    return None
