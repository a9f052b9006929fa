"""``ExternalWorker``: a worker in a loop that the user wrote, one item a turn. ``ExternalWorkers``: those of one
process.

The loop is the user's, and so are process and thread, and the nodes: those of the workflow that is stepped, which may
hold what only this process has. The step itself is run by the same ``Worker`` as everywhere.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..api.arguments import checked_seconds
from ..api.retry import RetryPolicy
from ..api.stepping import ItemProcessedOutcome, OutcomeKind, StepCallbacks
from ..api.workflow import Compiled
from ..clock import monotonic, sleep
from ..errors import FloxideError
from ..messages import (
    HOLD,
    NEXT_ALL,
    ONE_BY_ONE,
    Description,
    EventPage,
    FanOut,
    Lease,
    PartialResult,
    ReadAndWritten,
    Reply,
    Report,
    Results,
    Suspect,
    Unreadable,
    only,
)
from ..ports import Backend, ExternalSession
from ..sigint import interruptibly
from ..texts import printable
from ..types import WorkItem, WorkItemStatus
from ..wire import codec
from ..wire.log import say
from ..wire.status_page import StatusPage
from .step_errors import users_traceback
from .worker import Worker

VETOED: Final = 0.02  # seconds that a loop pauses for after a veto: others are to get the item
_NOTHING: Final = Reply((), False, 0.0)


@dataclass(slots=True)
class _Turn:
    """One call of ``step_distributed``: what was asked, and how far it got."""

    callbacks: StepCallbacks
    wait: float
    item: WorkItem | None = None  # taken, and not vetoed
    ends: tuple[bool, ...] = ()  # which arms of its node have no successors
    report: Report | None = None
    counted: bool = False  # and so it is committed
    idle: bool = False  # there was no item to take


class ExternalWorker(Backend):
    """One session of a loop, used by one thread at a time. To its worker it is the backend.

    Args:
        external session: the coordinator's verbs.
        status page: what this external worker and its coordinator tell each other without asking.
        retry: the coordinator's policy for nodes that have none.
    """

    def __init__(self, external_session: ExternalSession, status_page: StatusPage, retry: RetryPolicy | None) -> None:
        self._external_session = external_session
        self._status_page = status_page
        self._retry = retry
        self._workflow: Compiled | None = None  # what the next four are of
        self._bundle: codec.Bundle
        self._ends: tuple[tuple[bool, ...], ...]  # [n][a]: arm a of node n has no successors
        self._bundles: dict[bytes, codec.Bundle]  # the one bundle, by the keys of the pickles that it stands for
        self._worker: Worker
        self._turn: _Turn
        self._warned: set[str] = set()

    def step(self, workflow: Compiled, callbacks: StepCallbacks, wait: float) -> tuple[str, Any] | None:
        """See ``Workflow.step_distributed``. After an exception it must be closed."""
        if workflow is not self._workflow:
            self._take_up(workflow)
        turn = self._turn = _Turn(callbacks, wait)
        interruptibly(self._worker.run_once)
        self._worker.hand_in()
        self._status_page.end()  # it is answered: should this process die now, that is not to blame
        if turn.idle:
            self._call(callbacks, "on_idle", "a turn without work")
        if turn.item is None or turn.report is None or not turn.report.results:
            return None  # there was nothing, or it was vetoed, or its run was stopped before it began
        outcome = _outcome(turn.item, turn.ends, turn.report, turn.counted)
        self._call(callbacks, "on_item_processed", _named(turn.item), turn.item.run_id, turn.item, outcome)
        return (turn.item.run_id, outcome.output) if outcome.terminal else None

    def close(self, interrupted: bool) -> None:
        """Work no more. If it was interrupted, what it was at has not happened, and is not to blame."""
        if interrupted:
            self._status_page.end()
        self._external_session.leave()

    # -- the worker's backend ------------------------------------------------------------------------

    def exchange(self, session: int, reports: Sequence[Report], want: float) -> Reply:
        turn = self._turn
        if reports:
            (turn.report,) = reports
            turn.counted = self._external_session.commit(turn.report)
            return _NOTHING
        lease = self._take(turn.wait)
        if lease is None:
            turn.idle = True
            return _NOTHING
        item = self._item(lease)
        if not self._call(turn.callbacks, "on_started", _named(item), item.run_id, item):
            self._external_session.commit(Report(lease.id, (), ()))
            sleep(VETOED)
            return _NOTHING
        turn.item, turn.ends = item, self._ends[only(lease)[1]]
        return Reply((lease,), False, 0.0)

    def describe(self, run_id: str, known: Sequence[bytes], warnings: Sequence[str] = ()) -> Description:
        facts = self._external_session.describe(run_id, known, warnings)
        self._bundles[facts.key] = self._bundle  # also where the run goes on with other nodes: its graph is the same
        return facts

    def events(self, run_id: str, since: int) -> EventPage:
        return self._external_session.events(run_id, since)

    # -- inside --------------------------------------------------------------------------------------

    def _take_up(self, workflow: Compiled) -> None:
        self._workflow = workflow
        nodes = workflow.graph.nodes
        self._bundle = codec.Bundle.of(workflow, self._retry)
        self._ends = tuple(tuple(not arm for arm in n.arms) for n in nodes)
        self._bundles = {}
        self._worker = Worker(0, self, self._status_page, self._bundles, ONE_BY_ONE, whole=True)

    def _take(self, wait: float) -> Lease | None:
        assert self._workflow is not None
        graph, end, left = self._workflow.graph, monotonic() + wait, wait
        while (lease := self._external_session.take(graph.name, left)) is None:
            left = end - monotonic()
            if left <= 0:
                return None
        if lease.key not in self._bundles:
            there, here = self._external_session.shape(lease.run_id), graph.shape()
            if list(there.items()) != list(here.items()):
                changed = [name for name in {**there, **here} if there.get(name) != here.get(name)]
                what = f"{', '.join(changed)} changed" if changed else "its nodes are in another order"
                text = f"run {lease.run_id!r} began in another graph of that name than the one stepped: {what}"
                raise FloxideError(text, run_id=lease.run_id)
            self._bundles[lease.key] = self._bundle
        return lease

    def _item(self, lease: Lease) -> WorkItem:
        number, node, attempt, order, _, _ = only(lease)
        return WorkItem(lease.run_id, number, self._bundle.names[node], attempt, WorkItemStatus.IN_PROGRESS, order)

    def _call(self, callbacks: StepCallbacks, name: str, where: str, *arguments: Any) -> bool:
        """Whether the callback did not say no, by returning False or by raising; of what it raises, warn once."""
        try:
            return interruptibly(getattr(callbacks, name), *arguments) is not False
        except Exception as error:
            if name not in self._warned:
                self._warned.add(name)
                # As text: a log may keep it for longer than this external worker lives.
                what = printable(users_traceback(error)).rstrip()
                say(logging.WARNING, "%s raised for %s; if it does again, nothing is said:\n%s", name, where, what)
            return False


class ExternalWorkers:
    """The external workers of this process, by ``worker_id``.

    Args:
        begin: makes one, whose session takes the place of an earlier one under the same number.
    """

    def __init__(self, begin: Callable[[int], ExternalWorker]) -> None:
        self._begin = begin
        self._idle: dict[int, ExternalWorker] = {}  # who is in a step is not here: a second one is a new session
        self._pid = os.getpid()

    def step(self, workflow: Compiled, worker_id: int, callbacks: StepCallbacks, wait: float) -> tuple[str, Any] | None:
        """See ``Workflow.step_distributed``."""
        if isinstance(worker_id, bool) or not isinstance(worker_id, int) or worker_id < 0:
            raise ValueError(f"worker_id must be a whole number, 0 or more, not {worker_id!r}")
        if not isinstance(callbacks, StepCallbacks):
            raise TypeError(f"callbacks must be of a class that derives from StepCallbacks, not {callbacks!r}")
        wait = checked_seconds("wait", wait)
        if self._pid != os.getpid():
            self._idle, self._pid = {}, os.getpid()  # forked: those are the other process's
        external = self._idle.pop(worker_id, None) or self._begin(worker_id)
        try:
            done = external.step(workflow, callbacks, wait)
        except BaseException as error:
            # A connection that broke during a step may be the step's doing; Ctrl-C is not.
            external.close(interrupted=not isinstance(error, Exception))
            raise
        self._idle[worker_id] = external
        return done


def _named(item: WorkItem) -> str:
    return f"item {item.item_id} ({item.node}) of run {item.run_id}"


def _outcome(item: WorkItem, ends: tuple[bool, ...], report: Report, counted: bool) -> ItemProcessedOutcome:
    (result,) = report.results
    assert not isinstance(result, Results | PartialResult)  # it is of one item, and all of it
    if isinstance(result, Unreadable):
        return ItemProcessedOutcome(error=codec.decode_error(result.error), kind=OutcomeKind.REFUSED)
    if isinstance(result, Suspect | ReadAndWritten):
        result = result.part
    if isinstance(result, FanOut):
        result = NEXT_ALL, tuple([(result.branch, payload) for payload in result.payloads]), result.writes, None, False
    kind, values, _, error, _ = result
    if error is not None:
        return ItemProcessedOutcome(error=codec.decode_error(error), kind=OutcomeKind.FAILED)
    if not counted:
        text = (
            f"the result of {item.node} does not count: it came too late, the step saw that run {item.run_id} was "
            "out of time (ctx.cancelled), or the run is broken"
        )
        refusal = FloxideError(text, run_id=item.run_id, node=item.node)
        return ItemProcessedOutcome(error=refusal, kind=OutcomeKind.REFUSED)
    outputs = [codec.decode(payload) for arm, payload in values if ends[arm]]
    if not outputs:
        return ItemProcessedOutcome(kind=OutcomeKind.HELD if kind == HOLD else OutcomeKind.PASSED_ON)
    return ItemProcessedOutcome(True, outputs if kind == NEXT_ALL else outputs[0], kind=OutcomeKind.OUTPUT)
