"""``IteratorCursor``: an iterator that a ``NextAll`` was given, and how far it has come. ``IteratorCursors``: those a
worker has begun.

It gives its values in portions. Between two of them it waits here, in the memory of the one worker that can go on with
it: where that is lost, it is started again, and goes over what it gave before. When it is to give more, the coordinator
decides.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Final
from zlib import crc32

from ..clock import monotonic_ns
from ..core.types import OrderKey, Payload, StreamOffset, size_of
from ..errors import FloxideError
from ..wire import hash_seed
from .forks import end_child, mark
from .step_errors import is_callers
from .step_view import StepView

MOST_ITEMS: Final = 2048  # in a portion
MOST_BYTES: Final = 1 << 20  # ... that has one of them, if a single one is larger
FIRST: Final = 100_000_000  # nanoseconds until the first portion is cut: what is over by then is no source
LATER: Final = 10_000_000  # ... and each later one, so that others have something to do
DIGESTED: Final = 4096  # bytes of a value at the most, from its beginning, that tell it from others
PLAIN: Final = 1 << 16  # bytes of a value; the pickle of a larger one may be another one where memory is shared
KEEP: Final = 16  # iterators that have more to give; others are started again

Values = list[tuple[int, Payload]]  # (arm, payload)


class OtherValues(BaseException):
    """An iterator was started again where texts have other hashes, and gave other values: of a set, say.

    ``hash_probe``: of the process that gave those before. Never leaves the step (``step``).
    """

    def __init__(self, text: str, hash_probe: int) -> None:
        super().__init__(text)
        self.hash_probe = hash_probe


class IteratorCursor:
    """See the module.

    Args:
        name: of the node, for errors.
        iterator: at its beginning.
        given: what it gave before it was started again.
        view: of the step that it belongs to: a generator has the context of its step.

    Attributes:
        given: how many values it gave then and since.
        digest: of all these, as ``StreamOffset.digest``.
    """

    def __init__(self, name: str, iterator: Iterator[Any], given: StreamOffset, view: StepView) -> None:
        self.given = given.values
        self.view = view
        self.digest = given.digest
        self._name = name
        self._iterator = iterator
        self._skip = given.values
        # In a process with the same hashes it is trusted to be repeatable, or an id by chance in a value, that does no
        # harm, would end the run. With others, it may be the order of a set that it goes by.
        self._before = given if given.values and given.hash_probe != hash_seed.probe() else None
        self._passed = 0  # the digest of what was passed over, where that is compared
        self._failure: BaseException | None = None  # what it raised, behind values that were told first

    def next_page(self, route: Callable[[Any], tuple[int, Payload]], whole: bool) -> tuple[Values, int | None, bool]:
        """Its next values, how many writes to the context belong to them (None: all), and whether they are the last.

        What it raises before it has given a first portion is raised, as if it had given nothing. Later, what it gave
        before counts: it is raised by the next call, if there are values to be told first.

        Args:
            route: what becomes of a value.
            whole: take all that it has.
        """
        if self._failure is not None:
            raise self._failure
        values: Values = []
        view = self.view
        size = written = 0
        pid = mark[0]
        until = monotonic_ns() + (LATER if self.given else FIRST)
        try:
            for value in self._iterator:
                if mark[0] != pid:
                    end_child(None)
                if self._skip:
                    self._skip -= 1
                    view.writes = []  # they are committed
                    if self._before is not None:
                        self._compare(route(value)[1], self._before)
                else:
                    values.append(route(value))
                    size += size_of(values[-1][1])
                    written = len(view.writes)
                if whole:
                    continue
                if len(values) >= MOST_ITEMS or size >= MOST_BYTES or monotonic_ns() > until:
                    break
            else:
                self._check_repeated()  # what is not kept any more needs no digest
                return values, None, True
        except BaseException as failure:
            if mark[0] != pid:
                end_child(failure)
            if is_callers(failure) or whole or not self.given or not values:
                raise
            self._failure = failure
        self.given += len(values)
        for _, payload in values:
            self.digest = _digest(payload, self.digest)
        return values, written, False

    def _compare(self, payload: Payload, before: StreamOffset) -> None:
        """One more value is passed over.

        Raises:
            OtherValues: it was the last of them, and they are not those that were given before.
        """
        self._passed = _digest(payload, self._passed)
        if not self._skip and self._passed != self.digest:
            text = f"the NextAll of {self._name} had given {self.given} values, and gives others when begun again"
            how = "in a process with other hashes of texts (is it of a set? sorted(...) is the same everywhere)"
            raise OtherValues(f"{text} {how}", before.hash_probe)

    def close(self) -> None:
        """It is not gone on with. What it raises at that helps nobody."""
        close = getattr(self._iterator, "close", None)
        if close is not None:
            try:
                close()
            except BaseException as failure:  # SystemExit, too: it would be the failure of what runs meanwhile
                if is_callers(failure):
                    raise

    def _check_repeated(self) -> None:
        if self._skip:
            text = f"{self._name} was started again, and gave {self.given - self._skip} values where it had given "
            raise FloxideError(f"{text}{self.given}: an iterator in NextAll must give the same values each time")


def _digest(payload: Payload, before: int) -> int:
    """That of some values and one more: a checksum of their pickles, of large ones only that there are such."""
    if isinstance(payload, bytes) and len(payload) <= PLAIN:
        return crc32(payload[:DIGESTED], before)
    return crc32(b"large", before)


class IteratorCursors:
    """See the module. ``kept``: by run and order key."""

    def __init__(self) -> None:
        self.kept: OrderedDict[tuple[str, OrderKey], IteratorCursor] = OrderedDict()

    def keep(self, run_id: str, order: OrderKey, pull: IteratorCursor) -> None:
        """It has more to give."""
        self.kept[run_id, order] = pull
        if len(self.kept) > KEEP:
            self.kept.popitem(last=False)[1].close()

    def take(self, run_id: str, order: OrderKey, given: int) -> IteratorCursor | None:
        """The one that has given so many values, if it is here."""
        pull = self.kept.pop((run_id, order), None)
        if pull is None or pull.given == given:
            return pull
        pull.close()  # some of what it gave does not count
        return None

    def drop(self, run_id: str, order: OrderKey) -> None:
        """It is not gone on with here."""
        pull = self.kept.pop((run_id, order), None)
        if pull is not None:
            pull.close()

    def drop_run(self, run_id: str) -> None:
        """None of that run is."""
        for run, order in [key for key in self.kept if key[0] == run_id]:
            self.drop(run, order)

    def close(self) -> None:
        """None is."""
        while self.kept:
            self.kept.popitem()[1].close()
