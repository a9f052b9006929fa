"""``Coordinator``: owns a store, a scheduler and an engine; starts runs and hands out their handles."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, ClassVar, Final, NoReturn, Protocol, Self

from .. import standard_streams
from ..api import context as contexts
from ..api.arguments import checked_seconds
from ..api.context import Context
from ..api.retry import RetryPolicy
from ..api.stepping import StepBackend, StepCallbacks
from ..api.workflow import Compiled, Workflow
from ..clock import time
from ..core.leases import Memory
from ..core.types import Packed
from ..errors import FloxideError, NotStartedError
from ..ports import CheckpointStore, Engine, ExternalListener, RunRecord
from ..sigint import defer_sigint, interrupted, interruptibly
from ..types import RunInfo, RunStatus, WorkerHealth
from ..wire import codec, oob_pickle, returns
from .arguments import as_instance, new_id, store_of, with_options
from .channel import Source
from .closing import Closing, await_forgotten, have
from .commits import GRACE
from .compatibility import carried_context, check_begun, check_same, check_shape, check_versions, versions
from .cpus import checked_memory, checked_workers, usable_cpus, usable_memory
from .critical import Critical, postponed
from .external import ExternalSessions
from .run_checks import check_options, options_of
from .run_handle import Run, info_of
from .scheduler import Scheduler

SHARE: Final = 4  # a coordinator's unfinished values may take one in so many bytes of what there is
PATIENCE: Final = 5.0  # seconds that a worker process without work waits in one call
SOURCE_TURN: Final = 0.01  # seconds that a sender in front of a full source works, where nobody else might
INLINE_PATIENCE: Final = 0.05  # ... and a worker in the thread of a caller, whose own wait may be over sooner

EngineFactory = Callable[[Scheduler, int], Engine]
ListenerFactory = Callable[[ExternalSessions], ExternalListener]


class ExternalLoops(Protocol):
    """The worker loops of the user's own in this process."""

    def step(self, workflow: Compiled, worker_id: int, callbacks: StepCallbacks, wait: float) -> tuple[str, Any] | None:
        """See ``Workflow.step_distributed``."""


class Coordinator:
    """Runs workflows on worker processes, any number of runs at once. A context manager; ``close`` it otherwise.

    One that is collected without that is closed then, with a ``ResourceWarning``: its workers are ended at once.
    Whoever has one of its runs has it, too.

    Args:
        workers: worker processes; None: as many as this process may use CPUs; 0: steps run in the threads that
            wait, one at a time. Who waits for one run works at all that are not over, in turns, as one worker would:
            else the time-out of a run could be over before it was begun. ``pause`` those that are to wait.
        store: where runs are remembered: a store, or the path of a ``SQLiteStore``, which is made if it is not there;
            None: in memory, for as long as the coordinator lives.
        engine: a function of scheduler and number of workers that makes an engine; None: processes, or inline for 0.
        retry: the policy of nodes that have none of their own.
        grace: seconds that running steps get when the coordinator is closed.
        memory: bytes of values that were made and are not used yet, in all runs, from which on steps that make more of
            them wait for those that use them; None: a quarter of what this process may use (of the machine, or of its
            control group). What comes of a run does not depend on it.

    Raises:
        ValueError: for a number of workers, seconds or bytes, that make no sense.
        TypeError: for a store or an engine that is none.
        StoreError: the store cannot be opened, or another coordinator has it.
        FloxideError: no worker process can be started, though it was tried for three seconds.
    """

    __engine__: ClassVar[EngineFactory]
    __listener__: ClassVar[ListenerFactory]
    __loops__: ClassVar[Callable[[ExternalSessions], ExternalLoops]]

    @defer_sigint
    def __init__(
        self,
        workers: int | None = None,
        store: CheckpointStore | str | os.PathLike[str] | None = None,
        engine: EngineFactory | None = None,
        *,
        retry: RetryPolicy | None = None,
        grace: float = 2.0,
        memory: int | None = None,
    ) -> None:
        await_forgotten()
        count = usable_cpus() if workers is None else checked_workers(workers)
        if retry is not None and not isinstance(retry, RetryPolicy):
            raise ValueError(f"retry must be a RetryPolicy or None, not {retry!r}")
        if engine is not None and not callable(engine):
            example = "such as partial(ExecutorEngine, executor)"
            raise TypeError(f"engine must be a function of scheduler and number of workers, {example}, not {engine!r}")
        self._retry = retry
        self._grace = checked_seconds("grace", grace)
        limit = usable_memory() // SHARE if memory is None else checked_memory(memory)
        self._inline = count == 0 and engine is None
        self._here = count == 0 or engine is not None  # steps may run in this very process
        standard_streams.occupy()
        with ExitStack() as undone:
            opened = undone.enter_context(ExitStack())
            found = store_of(store, opened)
            have(found, opened)
            self._scheduler = Scheduler(found, PATIENCE if count else INLINE_PATIENCE)
            self._scheduler.memory = Memory(limit)
            self._scheduler.suspicion.watch(found, opened)
            self._external = ExternalSessions(self._scheduler, retry, count)
            self._engine: Engine = (engine or type(self).__engine__)(self._scheduler, count)
            self._engine.start()
            self._closing = Closing(self._external, self._engine, opened, self._grace)
            undone.pop_all()
        self._closing.watch(self)
        if interrupted():  # nobody gets this coordinator
            self._closing.close(0.0)

    @defer_sigint
    def start(
        self,
        workflow: Workflow | type[Workflow],
        input: Any = None,
        ctx: Context | None = None,
        run_id: str | None = None,
        *,
        seed: int = 0,
        timeout: float | None = None,
        failure: str = "stop",
        resume: bool = False,
        timeout_grace: float = GRACE,
    ) -> Run:
        """Start a run and return at once.

        Args:
            workflow: what to run; a class means an instance of it.
            input: what the start node gets; of a ``Source``, each value that is sent, until it is closed.
            ctx: the context to start from; made from the workflow's ``context`` if not given.
            run_id: a name for the run; made up if not given. Starting the same again gives the run that is there;
                one that was interrupted goes on.
            seed: what ``ctx.item.seed`` derives from.
            timeout: seconds that the run may take; then it fails with ``RunTimeoutError``. It begins when the first
                worker can take work, does not count while the run is paused, and counts anew when it is resumed after
                a failure.
            failure: what an item that failed for good does to the others: with "stop" nothing new starts, with
                "finish" they come to their end before the run fails.
            resume: whether a run of that id that failed or is paused goes on, too. One that goes on does so with the
                time-out, its grace and ``failure`` that are given now.
            timeout_grace: seconds that steps which run have when the time-out is over; then their workers are ended.

        Raises:
            SerializationError: the workflow, input or context cannot be pickled; nothing was started.
            WorkflowDefinitionError: the context has a field that cannot be shared, or cannot be made without ``ctx``.
            FloxideError: the id is taken by another workflow or input, or by a run that failed; ``ctx`` is not of the
                workflow's class; the source is taken already; or the coordinator is closed.
            StoreError: the store cannot write it; nothing was started.
            StoreVersionError: the id is taken by a run that was made with other versions (``resume``).
            TypeError: ``workflow`` is none.
            ValueError: the id is not a line of 1 to 200 characters, the seed not a whole number, the time-out no number
                of seconds, or ``failure`` neither "stop" nor "finish".
        """
        self._check_open()
        compiled = as_instance(workflow).compiled
        if run_id is not None and not (isinstance(run_id, str) and run_id.isprintable() and 0 < len(run_id) <= 200):
            raise ValueError(f"run_id must be a line of 1 to 200 characters, not {run_id!r}")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError(f"seed must be a whole number, not {seed!r}")
        source = input if isinstance(input, Source) else None
        made = run_id or new_id(compiled)
        record = interruptibly(self._record, compiled, None if source else input, ctx, made)
        record = with_options(record._replace(seed=seed), timeout, failure, timeout_grace)
        feed = None
        if source is not None:
            record = record._replace(input=None)
            scheduler, engine, inline = self._scheduler, self._engine, self._inline
            feed = source.open(lambda full: _fed(scheduler, engine, inline, record.run_id, full))
        try:
            while not (created := self._scheduler.create(record, compiled.plan, self._retry, feed)) and run_id is None:
                record = record._replace(run_id=new_id(compiled))  # it is taken: nobody has named that run here
            if feed is not None and not created:
                raise FloxideError(f"run {run_id!r} exists; what a source feeds is a new run", run_id=run_id)
        except BaseException:
            if feed is not None:
                feed.shut()  # or its sender would wait for ever
            raise
        if not created:
            self._take_up(record, compiled, resume)
        return self.run(record.run_id)

    def run(self, run_id: str) -> Run:
        """The run of that id.

        Raises:
            NotStartedError: there is none.
        """
        self._scheduler.known(run_id)
        return Run(run_id, self._scheduler, self._engine, self)

    @defer_sigint
    def resume(
        self,
        workflow: Workflow | type[Workflow],
        run_id: str,
        *,
        allow_changes: bool = False,
        timeout: float | None = None,
        failure: str | None = None,
        timeout_grace: float | None = None,
    ) -> Run:
        """Take up a run that failed, is paused, or was left by another coordinator of this store.

        It goes on with the nodes that are given, so what made it fail may have been mended; the graph must be the
        same. What is unfinished in a failed run is tried again as if for the first time. (A run that this coordinator
        paused goes on as it was.)

        Args:
            workflow: what to go on with; a class means an instance of it.
            run_id: which run.
            allow_changes: go on although the graph is another one, or the run was made with another Python, cloudpickle
                or floxide_mp. What is unfinished is carried over to the new graph by the names of its nodes: those
                where something is unfinished must be there, in the same fan-outs as before, and nothing that is
                unfinished may lead to a join that has run. A new join gets what comes from now on. Of what another
                Python pickled, input, context and values are opened, not the nodes: plain pickles, unless there is a
                lambda in them, or a class that was defined inside a function, which are code that another Python may
                crash over.
            timeout, failure, timeout_grace: as of ``start``, from now on; None: as before. (``math.inf`` is no
                time-out.)

        Raises:
            NotStartedError: there is no such run.
            AlreadyCompletedError: it is completed, or cancelled, or being cancelled.
            StoreVersionError: it was made with other versions; nothing of it was opened.
            FloxideError: it is about to fail (wait for that); it is a run of another workflow, or of another graph, or
                what is unfinished has no place there.
            SerializationError: the workflow cannot be pickled.
        """
        self._check_open()
        compiled = as_instance(workflow).compiled
        old = self._scheduler.record(run_id)
        if old.name != compiled.graph.name:
            text = f"run {run_id!r} is a run of {old.name}, not of {compiled.graph.name}"
            raise FloxideError(text, run_id=run_id)
        if not allow_changes:
            check_versions(old)
            check_shape(old, compiled)
        codec.export_main_names(old.main, compiled)
        record = interruptibly(self._with_nodes, old, compiled)
        record = with_options(record, timeout, failure, timeout_grace)
        self._scheduler.resume(run_id, record, compiled.plan, self._retry)
        return self.run(run_id)

    def runs(self, status: RunStatus | None = None) -> list[RunInfo]:
        """All runs, oldest first; or those of one status.

        Raises:
            ValueError: ``status`` is no ``RunStatus``.
        """
        if status is not None and not isinstance(status, RunStatus):
            raise ValueError(f"status must be a RunStatus, such as RunStatus.FAILED, not {status!r}")
        infos = [info_of(self._scheduler.known(run_id)) for run_id in self._scheduler.runs()]
        return [info for info in infos if status is None or info.status is status]

    def info(self, run_id: str) -> RunInfo:
        """How a run stands.

        Raises:
            NotStartedError: there is none of that id.
        """
        return self.run(run_id).info()

    @defer_sigint
    def proxy(self) -> StepBackend:
        """This coordinator for ``step_distributed`` in another process: give it to a ``multiprocessing.Process``.

        It can be pickled, and serves whoever is of this user and has ``multiprocessing.current_process().authkey``, as
        the processes have that this one starts by ``multiprocessing``. It has ``info``, too.

        Raises:
            FloxideError: the coordinator is closed, or nothing is left to listen with.
        """
        self._check_open()
        return self._closing.listener(type(self).__listener__).proxy()

    def workers(self, threshold: float = 30.0) -> list[WorkerHealth]:
        """The workers as of now.

        Args:
            threshold: a worker is ALIVE while its last sign of life is less than so many seconds old, STALE while it is
                less than three times as old, and DEAD beyond. To be able to run is a sign of life: a worker in
                a long node is ALIVE, one that is stopped (SIGSTOP, a debugger) is not for long.

        Raises:
            ValueError: the threshold is no number of seconds.
        """
        threshold = checked_seconds("threshold", threshold)
        return [] if self._closing.begun else self._engine.workers(threshold)

    def drain(self) -> None:
        """Hand out no more work, and return at once: the first half of ``close``, which is to follow."""
        self._scheduler.stop()

    @postponed
    @defer_sigint
    def close(self, grace: float | None = None) -> None:
        """End the workers; steps that run get ``grace`` seconds. Runs that are not over stay as they are.

        From any thread: a second caller waits until the first is done. Ctrl-C ends the grace, and what still runs is
        not committed; it is raised when all is closed.

        Raises:
            ValueError: ``grace`` is no number of seconds.
        """
        self._closing.close(self._grace if grace is None else checked_seconds("grace", grace))

    @defer_sigint
    def __enter__(self) -> Self:
        return self

    @defer_sigint
    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Coordinator cannot go to another process: give that one coordinator.proxy()")

    # -- of StepBackend ------------------------------------------------------------------------------

    def __start_distributed__(
        self, workflow: Workflow, input: Any, ctx: Context | None, run_id: str | None, **options: Any
    ) -> str:
        return self.start(workflow, input, ctx, run_id, **options).run_id

    def _loops(self) -> ExternalLoops:
        """Made by whoever is the first to step; by several at once, one's is taken by all."""
        made: ExternalLoops | None = vars(self).get("_external_loops")
        if made is None:
            made = vars(self).setdefault("_external_loops", type(self).__loops__(self._external))
        return made

    @defer_sigint
    def __step_distributed__(
        self, workflow: Workflow, worker_id: int, callbacks: StepCallbacks, wait: float
    ) -> tuple[str, Any] | None:
        return self._loops().step(workflow.compiled, worker_id, callbacks, wait)

    # -- inside --------------------------------------------------------------------------------------

    def _record(self, compiled: Compiled, input: Any, ctx: Context | None, run_id: str) -> RunRecord:
        context = contexts.make_default(compiled.context) if ctx is None else contexts.check(ctx)
        if not isinstance(context, compiled.context):
            wanted, given = compiled.context.__name__, type(context).__name__
            raise FloxideError(f"workflow {compiled.graph.name} takes a {wanted} as ctx, not a {given}")
        returns.check_input(input)
        workflow = self._pickled(compiled, context, input)
        return RunRecord(
            run_id=run_id,
            name=compiled.graph.name,
            key=workflow.key,
            workflow=workflow.payload,
            context=oob_pickle.share(context, "ctx", memory=self._scheduler.arena),
            input=oob_pickle.share(input, "input", memory=self._scheduler.arena),
            seed=0,
            started_at=time(),
            timeout=None,
            finish=False,
            shape=compiled.graph.shape(),
            places=compiled.plan.names(),
            main=workflow.main,
            versions=versions(),
            fields=contexts.fields_of(type(context), context),
        )

    def _with_nodes(self, old: RunRecord, compiled: Compiled) -> RunRecord:
        """The run with the nodes of another instance of its workflow, and its context as of the class of today."""
        old = self._with_context(old, compiled)
        workflow = self._pickled(compiled, main=old.main)
        return old._replace(
            key=workflow.key,
            workflow=workflow.payload,
            shape=compiled.graph.shape(),
            places=compiled.plan.names(),
            main=workflow.main,
            versions=versions(),
        )

    def _with_context(self, old: RunRecord, compiled: Compiled) -> RunRecord:
        def encode(context: Context) -> Packed:
            return oob_pickle.share(context, "ctx", memory=self._scheduler.arena)

        return carried_context(old, compiled, partial(self._scheduler.events, old.run_id), encode)

    def _pickled(self, compiled: Compiled, *first: Any, main: Sequence[str] = ()) -> codec.Pickled:
        bundle = codec.Bundle.of(compiled, self._retry)
        made = codec.encode_bundle(bundle, *first, main=main)
        if self._here:
            self._scheduler.bundles[made.key] = bundle
        return made

    def _take_up(self, new: RunRecord, compiled: Compiled, failed: bool) -> None:
        """A run id that is taken: fine if it is the same run. If it was interrupted, or has ``failed``, it goes on."""
        old, info = self._scheduler.record(new.run_id), info_of(self._scheduler.known(new.run_id))
        check_begun(old, new, compiled)
        codec.export_main_names(old.main, compiled)
        old = self._with_context(old, compiled)
        check_same(old, info, new, failed)
        only = {RunStatus.RUNNING} if not failed else set(RunStatus) - {RunStatus.COMPLETED, RunStatus.CANCELLED}
        if info.status in only:
            record = interruptibly(self._with_nodes, old, compiled)._replace(**options_of(new))
            self._scheduler.resume(new.run_id, record, compiled.plan, self._retry, only)
        else:
            check_options(old, info.status, new)

    @property
    def critical(self) -> Critical:
        """The locks of its scheduler."""
        return self._scheduler.critical

    def _check_open(self) -> None:
        if self._closing.begun:
            raise FloxideError("the coordinator is closed")
        self._scheduler.check_alive()


def _fed(scheduler: Scheduler, engine: Engine, inline: bool, run_id: str, full: bool) -> bool:
    """A source of the run has something new, or is full; returns whether something was done about it.

    (No method: a sender would keep the coordinator from being collected.)
    """
    if not full:
        scheduler.input_arrived(run_id)
    elif inline:
        with suppress(NotStartedError):  # it is being started at this moment
            engine.wait(run_id, None, SOURCE_TURN)  # the sender may be the only one who could make room
    return inline
