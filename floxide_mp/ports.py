"""What we ask of the world, on one page: stores, engines, and the verbs between workers and their coordinator.

These docstrings are the specification. User values are opaque in all of it: bytes, or ``Shared``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

from .api.stepping import StepBackend
from .core.types import ErrorRecord, Given, Order, Packed, Payload

if TYPE_CHECKING:  # a worker has no use for these
    from .core.records import Commit, EventRecord, OutputBlock, OutputRecord, Snapshot
    from .core.transitions import Phase
    from .types import RunMetrics, WorkerHealth

# -- what travels between a worker and its coordinator ------------------------------------------------------------

NEXT: Final = 0  # outcomes of a step, as they travel
NEXT_ALL: Final = 1
HOLD: Final = 2
FAIL: Final = 3


# Grants and results of single steps are plain tuples, not named ones: there is one of each per step, and a named tuple
# costs half a microsecond more to make, pickle and open.

Grant: TypeAlias = tuple[int, int, int, Order, Payload, ErrorRecord | None]
"""One item for a worker: item id, number of the node, attempt, order key, payload, error (for ``on_failure`` nodes)."""

_Pairs: TypeAlias = tuple[tuple[int, Payload], ...]
Writes: TypeAlias = tuple[tuple[int, Packed], ...]
StepResult: TypeAlias = tuple[int, _Pairs, Writes, ErrorRecord | None, bool]
"""What came of one step: outcome, values as (arm, payload), writes as (field of the context, payload), the error of
a failure, and whether it may be tried again."""


class Grants(NamedTuple):
    """Items side by side for a worker, all at the first attempt. Id and order key are those of the first of them."""

    first: int
    node: int
    order: Order
    payloads: list[Payload]


class Results(NamedTuple):
    """What came of steps side by side, each with one value, all by one arm. ``writes`` of each, or none at all."""

    arm: int
    payloads: list[Payload]
    writes: list[Writes]


class Spread(NamedTuple):
    """What came of one step that gave many values (``NEXT_ALL``), all by one arm."""

    arm: int
    payloads: list[Payload]
    writes: Writes


class Portion(NamedTuple):
    """Some of what one step gives by an iterator (``NEXT_ALL``), which the worker keeps: it has more. ``sign``: as in
    ``Given``, ``digest`` and ``hash_probe`` of all that it has given."""

    part: StepResult | Spread
    sign: tuple[int, int] = (0, 0)


class Suspect(NamedTuple):
    """What came of a step that saw ``ctx.cancelled``: maybe half an answer. If the run may go on, it is undone."""

    part: StepResult | Spread


class Looked(NamedTuple):
    """What came of a serial step that has read the context and written to it: its writes go behind what it has read."""

    part: StepResult | Spread


class Trouble(NamedTuple):
    """What an item needs cannot be opened (a class is not there, say): it is as it was, and the run fails."""

    error: ErrorRecord


Outcome: TypeAlias = StepResult | Spread | Portion | Suspect | Looked | Trouble
"""What came of one step, or of the next part of one."""

Result: TypeAlias = Outcome | Results


class Lease(NamedTuple):
    """Items of one run, in the order they are to be run. Recorded by the coordinator before it is handed out.

    ``key`` is that of the run's workflow, which is another one after a resume with another. ``life`` grows when the
    run was read anew from the store: what was known of its events may not have come to be. ``ahead``: whether the
    worker may go on with their successors (``Description``). ``given``: by the one item, which goes on behind that.
    """

    id: int
    run_id: str
    key: bytes
    items: tuple[Grant | Grants, ...]
    life: int = 0
    ahead: bool = False
    given: Given | None = None


def only(lease: Lease) -> Grant:
    """The item of a lease of one."""
    (item,) = lease.items
    assert not isinstance(item, Grants)
    return item


class Report(NamedTuple):
    """The results of a lease's next items, in order.

    With ``last``, the lease is over: its items without a result were not started and go back. Otherwise the
    item after the results is running and stays leased; those behind it go back.
    Results behind those of the lease's items are of their successors, with which the worker went on; if that is all
    there is to tell of these, because the first of them is running, ``ahead`` says so.
    ``spent`` is (node, steps, seconds): what the coordinator sizes later leases by.
    """

    lease_id: int
    results: tuple[Result, ...]
    spent: tuple[tuple[int, int, float], ...]
    last: bool = True
    ahead: bool = False


class Reply(NamedTuple):
    """``stop`` asks the worker to end; ``waited`` is how many seconds there was nothing to hand out; ``refused`` says
    that not all that was reported is committed. ``running`` is the id of the item that stays leased, after a report
    that was not the last. ``more``: there is so much to do that it is worth asking for the next lease at once.
    ``dropped``: iterators (run, order key of the item) that this worker is not to keep any longer; ``over``: runs."""

    leases: tuple[Lease, ...]
    stop: bool
    waited: float
    refused: bool = False
    running: int = 0
    more: bool = False
    dropped: tuple[tuple[str, Order], ...] = ()
    over: tuple[str, ...] = ()


class Description(NamedTuple):
    """A run, for a worker that meets it. ``workflow`` is None for a worker that has the one with this ``key``.

    ``ahead`` has for each node and arm the node with whose item a worker may go on by itself, or -1.
    ``fields`` are as in ``RunRecord``, and ``hashes`` the ``hash_seed`` and ``hash_probe`` there.
    """

    key: bytes
    workflow: bytes | None
    context: Packed
    seed: int
    ahead: tuple[tuple[int, ...], ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    hashes: tuple[int | None, int | None] = (None, None)


Entry: TypeAlias = tuple[Order, int, str, int, Packed]
"""One event, as it travels: the fields of an ``EventRecord``."""


class EventPage(NamedTuple):
    """Some of a run's committed events, in the order of commits; ``more`` says that there are others behind them.

    Travels as columns: of a million named tuples, the pickle takes seven times as long.
    """

    entries: Sequence[Entry]
    more: bool

    def __reduce__(self) -> Any:
        return _page, (tuple(map(list, zip(*self.entries, strict=True))), self.more)


def _page(columns: tuple[list[Any], ...], more: bool) -> EventPage:
    return EventPage(list(zip(*columns, strict=True)), more)


class Backend(Protocol):
    """The coarse verbs that a worker has: each is one round trip and one critical section."""

    def exchange(self, session: int, reports: Sequence[Report], want: float) -> Reply:
        """Hand in results and take what comes next.

        All results of a report are committed together. A report under a lease that is over changes nothing.
        ``want`` is how many seconds of work would be welcome; 0 takes none. Waits a bounded time for work.
        """

    def describe(self, run_id: str, known: Sequence[bytes], warnings: Sequence[str] = ()) -> Description:
        """The run's workflow, unless its key is ``known``, and what the run began with.

        ``warnings`` are sentences of the worker's for the log, each of which is said once: what it has found by name,
        code of nodes or data, is not what the program has.
        """

    def events(self, run_id: str, since: int) -> EventPage:
        """The run's committed events from number ``since`` on, or the first of them."""


@runtime_checkable
class Line(Backend, Protocol):
    """A backend that can be asked by one who has something to do until the answer is there."""

    def post(self, session: int, reports: Sequence[Report], want: float) -> None:
        """``exchange``, by one who is busy: a lease is given only if there is more to do than others could begin.

        Nothing else may be asked until the reply is collected.
        """

    def collect(self) -> Reply:
        """The reply to what was posted."""


class Desk(Protocol):
    """The verbs that a loop of the user's own has: a guest among the workers, who takes one item at a time.

    All but ``leave`` may raise ``FloxideError`` once the coordinator is closed or gone.
    """

    def join(self, worker_id: int) -> None:
        """Begin to work, in the place of whoever did under that number."""

    def take(self, workflow: str, wait: float) -> Lease | None:
        """One item of a run of that workflow. Waits for it ``wait`` seconds at the most, or less.

        Raises:
            FloxideError: another loop has joined under this number.
        """

    def commit(self, report: Report) -> bool:
        """Hand in what came of the item, or with no result give it back; False if it was too late for that.

        When it returns, what came of the item is in the store.

        Raises:
            FloxideError: another loop has joined under this number.
        """

    def shape(self, run_id: str) -> dict[str, str]:
        """The shape of the run's graph (``Graph.shape``), nodes in the order of their numbers."""

    def describe(self, run_id: str, known: Sequence[bytes], warnings: Sequence[str] = ()) -> Description:
        """As in ``Backend``."""

    def events(self, run_id: str, since: int) -> EventPage:
        """As in ``Backend``."""

    def leave(self) -> None:
        """Work no more. What was taken goes back as it was."""


class Door(Protocol):
    """Lets in the loops of the user's own that are in other processes."""

    def proxy(self) -> StepBackend:
        """What such a process is given."""

    def close(self) -> None:
        """Let nobody in, and hang up on those who are. Leaves nothing behind."""


# -- what is remembered -------------------------------------------------------------------------------------------


class RunRecord(NamedTuple):
    """What a run began with.

    ``workflow``, ``context`` and ``input`` are pickles, ``input`` None where a ``Source`` gave the input.
    ``shape`` is the graph's (``Graph.shape``), ``places`` the names of the nodes by number of place, ``main`` the names
    in ``__main__`` that workflow, context and input need.
    ``started_at`` is seconds since the epoch, ``timeout`` seconds.
    ``versions`` is what made these pickles and those of the steps: ``python`` (its minor version, such as "3.11"),
    ``cloudpickle``, ``floxide_mp``; empty where that is not known.
    ``hash_seed`` is the ``PYTHONHASHSEED`` of all worker processes that work on it, 0 to 2**32 - 1; None: any.
    ``hash_probe`` is what a text hashes to (``wire.hash_seed``) where it began, if that was not by ``hash_seed``.
    ``fields`` are (name, kind) of the context's fields, in the order that the numbers in events count; empty: in that
    of its class.
    ``timeout_grace``: seconds that steps which run have when the time-out is over.
    """

    run_id: str
    name: str
    key: bytes
    workflow: bytes
    context: Packed
    input: Packed | None
    seed: int
    started_at: float
    timeout: float | None
    finish: bool
    shape: Mapping[str, str]
    places: tuple[str, ...]
    main: tuple[str, ...]
    versions: Mapping[str, str] = MappingProxyType({})
    hash_seed: int | None = None
    fields: tuple[tuple[str, str], ...] = ()
    timeout_grace: float = 2.0
    hash_probe: int | None = None


class Progress(NamedTuple):
    """Where a run stands after a commit. ``counts``: of items and error rows so far; ``failed``: items left as such."""

    phase: Phase
    metrics: RunMetrics
    counts: tuple[int, int]
    finished_at: float | None
    failure: ErrorRecord | None
    failed: int = 0


@runtime_checkable
class CheckpointStore(Protocol):
    """Remembers runs. Every verb is atomic and, when it returns, done. Calls come one at a time.

    Unknown run ids raise ``NotStartedError``; trouble with the medium raises ``StoreError``.

    A store with an attribute ``takes_shared`` that is true may be given large values as ``Shared``, which it keeps, or
    turns into bytes by ``tobytes``, when it likes. Others get bytes only. One on disk may have a path ``in_flight``,
    where its coordinator notes what is leased.
    """

    def create(self, run: RunRecord, commit: Commit, progress: Progress) -> None:
        """A new run with its first item: either all of it is there afterwards, or nothing."""

    def commit(self, run_id: str, commit: Commit, progress: Progress) -> None:
        """Everything of ``commit`` and ``progress``, or nothing."""

    def replace(self, run: RunRecord, snapshot: Snapshot | None = None, withdrawn: Collection[Order] = ()) -> None:
        """The run of that id goes on as if it had begun with this record, in the place of its own.

        Unfinished work becomes what ``snapshot`` says, if given; events with a key of ``withdrawn`` go; all else stays.
        """

    def runs(self) -> Sequence[RunRecord]:
        """All runs, oldest first, without workflow, context and input, which may be large."""

    def record(self, run_id: str) -> RunRecord:
        """What the run began with, whole."""

    def progress(self, run_id: str) -> Progress:
        """Where the run stood at the last commit."""

    def snapshot(self, run_id: str) -> Snapshot:
        """Everything unfinished, as of the last commit: what a coordinator goes on from."""

    def events(self, run_id: str, since: int = 0, most: int | None = None) -> Sequence[EventRecord]:
        """Events from number ``since`` on, in the order of commits.

        Args:
            most: so many are wanted; None: all. A store may give fewer, but one if there is one, and a few more where
                it keeps them together.
        """

    def outputs(self, run_id: str, since: int = 0, most: int | None = None) -> Sequence[OutputRecord | OutputBlock]:
        """Outputs from number ``since`` on, in the order of commits, all of a block count; ``most``: see ``events``."""

    def errors(self, run_id: str) -> Sequence[ErrorRecord]:
        """The failed attempts, by number."""

    def finished(self, run_id: str) -> Mapping[str, int]:
        """How many steps of each node are completed; a node without any need not be there."""

    def close(self) -> None:
        """Let go of the medium. Nothing is called afterwards."""


P = TypeVar("P")


@runtime_checkable
class GroupStore(CheckpointStore, Protocol[P]):
    """A store for which it pays to write many commits at once. Then a thread does that, while others read, several of
    them at a time."""

    def prepare(self, run_id: str, commit: Commit, progress: Progress) -> P:
        """A commit to be written later, in the order of these calls: what the caller changes meanwhile is not in it.
        Quick, and without a look at the medium."""

    def write(self, prepared: Sequence[P]) -> None:
        """Any number of them, of any runs: all or nothing.

        Raises:
            StoreError: ``transient`` if the same may be given again later; it does not matter whether they were
                written this time. Otherwise no more is given of their runs, until these are read anew.
        """


# -- where steps run ----------------------------------------------------------------------------------------------


class Engine(Protocol):
    """Runs workers against a coordinator's ledger until stopped.

    Some can end a step that runs, others give it up: what it brings after that is refused. ``floxide_mp.testing``
    holds every engine to what is said here.
    """

    def start(self) -> None:
        """Make workers available. Returns at once; of workers that die as they start, the runs fail.

        Raises:
            FloxideError: none can be started.
        """

    def wait(self, run_id: str, seen: int | None, timeout: float | None) -> bool:
        """Wait until the run is over or has more than ``seen`` outputs; False after ``timeout`` seconds.

        May run steps meanwhile. One that does not may say so by an attribute, ``runs_by_itself = True``: then one
        thread waits for all runs that are awaited.
        """

    def workers(self, threshold: float) -> list[WorkerHealth]:
        """The workers as of now; ALIVE if their last sign of life is less than ``threshold`` seconds old."""

    def stop(self, grace: float) -> None:
        """End all workers; steps that run get ``grace`` seconds to be finished and committed. Leaves nothing behind."""
