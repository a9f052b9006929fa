"""``Job``: one run as its user sees it: what he asks for, and what he is told."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from floxide_mp import Context
from floxide_mp.coordinator.active_run import RunEntry
from floxide_mp.coordinator.run_handle import Run
from floxide_mp.core.records import EventRecord, OutputRecord, one_by_one
from floxide_mp.core.transitions import Phase
from floxide_mp.core.types import OrderKey
from floxide_mp.errors import AlreadyCompletedError, FloxideError, StoreError
from floxide_mp.ports import CheckpointStore, RunRecord
from floxide_mp.types import WorkItemStatus
from floxide_mp.wire import codec
from tests.history import End, History, Told, fold

from .cases import CONTEXT, FIELDS, TRACE, Case

if TYPE_CHECKING:
    from .world import World

NOBODY: Any = None  # in place of an engine: nobody waits
OVER: Final = frozenset({"completed", "cancelled"})


class Job:
    """See the module.

    Attributes:
        created: whether the run is there; None: its creation was tried, and what came of it is not known.
        taken: whether this coordinator has it.
        healed: what would fail the run does not fail any more.
        failures: how often the step with that order key has failed.
        deadly: steps that end every worker, as long as they may.
        numbers: ids of items that workers went ahead to.
        reasons: why the run may have failed.
        before: ... before it was resumed, as long as that is not told.
        lived: seconds since it was last taken up.
        all_held: whether nothing is left of it in the store but what is held, though that could perhaps not be told.
    """

    def __init__(self, world: World, run_id: str, case: Case, timeout: float | None, finish: bool) -> None:
        self.world, self.run_id, self.case = world, run_id, case
        graph = case.plan.graph
        places = tuple(place.spec.name for place in case.plan.places)
        start, now = codec.encode(b"input", "input"), world.clock.wall()
        self.record = RunRecord(
            run_id, "drawn", run_id.encode(), b"", CONTEXT, start, 0, now, timeout, finish, graph.shape(), places, ()
        )
        self.history = History()
        self.created: bool | None = False
        self.taken = self.healed = False
        self.failures: dict[OrderKey, int] = {}
        self.deadly: set[OrderKey] = set()
        self.numbers: dict[OrderKey, int] = {}
        self.reasons: set[str] = set()
        self.before: set[str] = set()
        self.lived = 0.0
        self.all_held = False
        self.status = "not created"
        self.error: str | None = None

    # -- what he asks for ------------------------------------------------------------------------------

    def act(self, patient: bool = True) -> None:
        """What is to be done to bring it on, if anything.

        Args:
            patient: whether a run that failed is resumed.
        """
        try:
            if not self.created:
                self.world.changes += 1
                self._create()
                return
            status = self.look()
            waits = status == "paused" or (status == "failed" and patient and not self.stuck)
            if waits or (status == "running" and not self.taken):
                self._resume(status)
        except (StoreError, RuntimeError) as error:  # of the store, with which a resume begins
            self.world.note(f"{self.run_id}: {error}")
        except AlreadyCompletedError as error:  # it came to its end before the resume did, or by it
            self.world.settle()
            self.world.hold(self.look() in OVER or "cancelled" in self.reasons, str(error))
        except FloxideError as error:  # it is about to fail, which he is not told before that is written
            self.world.hold("is failing" in str(error) or "is timing out" in str(error), str(error))
            self.world.note(f"{self.run_id}: {error}")

    def _create(self) -> None:
        self.world.note(f"{self.run_id} is started")
        self.created = None
        try:
            created = self.world.scheduler.create(self.record, self.case.plan, self.world.retry)
        except FloxideError as error:
            self.created = False
            if "exists" in str(error):
                self.world.note(f"{self.run_id}: {error}")
                self.world.restart()
            return
        except RuntimeError:
            self.created = False
            return
        self.world.hold(created, f"{self.run_id} was not there, and cannot be created")
        self.created = self.taken = True
        self._time()

    def _resume(self, status: str) -> None:
        self.world.note(f"{self.run_id}, which is {status}, is resumed")
        self.world.changes += 1
        self.world.settle()
        if status == "failed":
            self.healed = True
            self.before, self.reasons = self.reasons, self.reasons & {"store", "cancelled"}
        self.world.deaths.forget()  # it may be read anew
        self.numbers.clear()
        scheduler = self.world.scheduler
        scheduler.resume(self.run_id, self.record, self.case.plan, self.world.retry)
        if status == "failed":
            self.lived = 0.0
        self.taken = True
        self._time()
        ended = scheduler.wait(self.run_id, None, 0)
        self.world.settle()
        if ended and scheduler is self.world.scheduler:
            self.world.hold(
                self.look() != "running", f"who waits for {self.run_id} is told of its end before the resume"
            )

    def _time(self) -> None:
        run = self.world.scheduler._active.get(self.run_id)
        if run is not None and self.world.timed:
            run.cost_model.cost[:] = [0.001] * len(run.cost_model.cost)

    def pause(self) -> None:
        if self.created and self.look() == "running":
            self.world.note(f"{self.run_id} is paused")
            with suppress(FloxideError, RuntimeError):  # it may be over, or about to be, and not told so yet
                self.world.scheduler.pause(self.run_id)
                self.world.settle()

    def cancel(self) -> None:
        if self.created and self.look() not in OVER:
            self.world.note(f"{self.run_id} is cancelled")
            self.reasons.add("cancelled")
            with suppress(StoreError, RuntimeError):
                self.world.scheduler.cancel(self.run_id, self.world.chance.choice((0.0, 2.0)))
                self.world.settle()

    @property
    def over(self) -> bool:
        return self.status in OVER

    @property
    def stuck(self) -> bool:
        """Whether it failed as it does undisturbed: items are held, and nothing can release them."""
        return self.case.undisturbed.status == "failed" and ("items are held" in (self.error or "") or self.all_held)

    @property
    def whole(self) -> bool:
        """Whether all of it is done."""
        return self.status == "completed" or (self.status == "failed" and self.stuck)

    # -- what he is told -------------------------------------------------------------------------------

    @property
    def _run(self) -> Run:
        return Run(self.run_id, self.world.scheduler, NOBODY)

    def look(self) -> str:
        """How it stands."""
        if not self.created:
            return self.status

        def at(_: RunEntry, store: CheckpointStore) -> tuple[Sequence[OutputRecord], Sequence[EventRecord]]:
            with suppress(StoreError):  # it cannot be read
                over = store.progress(self.run_id).phase is Phase.FAILED
                left = store.snapshot(self.run_id).items if over else ()
                self.all_held = over and all(row.status is WorkItemStatus.HELD for row in left)
            return list(one_by_one(store.outputs(self.run_id))), store.events(self.run_id)

        info = self._run.info()
        outputs, events = self.world.scheduler.read(self.run_id, at)
        self.status, self.error = info.status.value, info.error
        committed = [event.order for event in events if event.field == TRACE]
        self.history.seen.append(Told(self.status, tuple(one_by_one(outputs)), tuple(events), committed))
        if self.status == "failed":
            self._check_failed(info.error or "")
        else:
            self.before = set()
        if self.status == "cancelled":
            self.world.hold("cancelled" in self.reasons, f"{self.run_id} is cancelled, and nobody asked for that")
        return self.status

    def _check_failed(self, error: str) -> None:
        if error.startswith(f"run {self.run_id} ran longer"):
            limit = self.record.timeout or 0.0
            good = self.lived >= limit - 1e-6
            self.world.hold(good, f"{self.run_id} has failed after {self.lived} s: {error}")
            return
        self.world.hold(
            bool(self.reasons or self.before) or self.stuck, f"{self.run_id} has failed for no reason: {error}"
        )

    def end(self) -> End:
        """What there is when all is over."""
        status = self.look()
        told = self.history.seen[-1]
        assert isinstance(told, Told)
        outputs: list[Any] = sorted(told.outputs, key=_place)
        events: list[Any] = list(told.events)
        folded = fold((e.order, e.index, FIELDS[e.field], codec.decode(e.payload)) for e in events)
        contexts = _shown(self._run.context()), _shown(self._run.checkpoint().context), folded
        return End(status, self.whole, [codec.decode(o.payload) for o in outputs], contexts, told.committed)

    def check(self) -> End:
        """Everything that must be true in the end."""
        end = self.end()
        undisturbed = self.case.undisturbed
        self.history.check(undisturbed, end)
        if self.status == "completed":
            left = self._run.work_items()
            self.world.hold(not left, f"{self.run_id} is completed, and there is work left: {left}")
        if end.whole and (self.error is None or "items are held" in self.error):  # else it counts what was told before
            metrics = self._run.metrics()
            counts = metrics.completed, metrics.failed
            held = sum(item.status is WorkItemStatus.HELD for item in self._run.work_items())  # and never released
            should = len(undisturbed.steps) - len(undisturbed.failed) - held, len(undisturbed.failed)
            self.world.hold(counts == should, f"{self.run_id} counts {counts} completed and failed, and not {should}")
        return end


def _place(record: Any) -> tuple[OrderKey, int]:
    return record.order, record.index


def _shown(context: Context) -> dict[str, list[Any]]:
    return {name: found for name in FIELDS if (found := list(getattr(context, name)))}
