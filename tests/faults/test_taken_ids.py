"""Ids of runs that are taken: by a run that nobody named, and by one that was started before."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from floxide_mp import Coordinator, MemoryStore, source
from floxide_mp.runtime import coordinator as coordinators
from tests.flows_run import Echo

LIMIT = 40.0


def drawn(patch: pytest.MonkeyPatch, *numbers: bytes) -> None:
    """What the operating system's source of randomness gives next to those who make up an id."""
    left = list(numbers)
    urandom: Callable[[int], bytes] = lambda size: left.pop(0).ljust(size, b"\0")  # noqa: E731
    patch.setattr(coordinators.os, "urandom", urandom)


def test_row_92_an_id_that_is_made_up_is_made_up_again_until_it_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    drawn(monkeypatch, b"a", b"a", b"b", b"a", b"b", b"c")
    with Coordinator(0, store=store) as c:
        first, second = c.start(Echo, "one"), c.start(Echo, "one")
        assert first.run_id != second.run_id
    with Coordinator(0, store=store) as c:
        third = c.start(Echo, "other")
        assert third.wait(LIMIT).output == "other", "the same input or not: nobody named that run"
        assert len({first.run_id, second.run_id, third.run_id}) == 3
        assert len(third.run_id.rpartition("-")[2]) == 16, "64 bits"
        assert len(c.runs()) == 3


def test_row_92_of_a_run_that_a_source_feeds(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn(monkeypatch, b"a", b"a", b"b")
    with Coordinator(0) as c:
        c.start(Echo, "one").wait(LIMIT)
        sender, values = source(1)
        run = c.start(Echo, values)
        for number in range(5):
            sender.send(number)  # the second one waits for room, which the run that was started makes
        sender.close()
        assert run.wait(LIMIT).outputs == list(range(5))
