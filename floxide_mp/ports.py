"""What we ask of the world, on one page: stores, engines, and the verbs between workers and their coordinator.

These docstrings are the specification. User values are opaque in all of it: bytes, or ``Shared``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar, runtime_checkable

from .api.stepping import StepBackend
from .core.types import ErrorRecord, OrderKey, Packed
from .messages import Description, EventPage, Lease, Reply, Report

if TYPE_CHECKING:  # a worker has no use for these
    from .core.records import Commit, EventRecord, OutputChunk, OutputRecord, Snapshot
    from .core.transitions import Phase
    from .types import RunMetrics, WorkerHealth


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
class PipelinedBackend(Backend, Protocol):
    """A backend that can be asked by one who has something to do until the answer is there."""

    def submit(self, session: int, reports: Sequence[Report], want: float) -> None:
        """``exchange``, by one who is busy: a lease is given only if there is more to do than others could begin.

        Nothing else may be asked until the reply is collected.
        """

    def receive(self) -> Reply:
        """The reply to what was posted."""


class ExternalSession(Protocol):
    """The verbs that a loop of the user's own has: an external worker among the workers, who takes one item at a time.

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


class ExternalListener(Protocol):
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

    def replace(self, run: RunRecord, snapshot: Snapshot | None = None, withdrawn: Collection[OrderKey] = ()) -> None:
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

    def outputs(self, run_id: str, since: int = 0, most: int | None = None) -> Sequence[OutputRecord | OutputChunk]:
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
    """Runs workers against a coordinator's scheduler until stopped.

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
