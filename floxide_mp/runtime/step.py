"""One step: decode, call the node, route, encode. Everything that looks into a user's value happens here.

Whatever goes wrong in it is that item's failure, told as plain data; only KeyboardInterrupt passes.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Iterable, Sequence
from types import CoroutineType
from typing import Any

from .. import context as contexts
from .. import failpoints
from ..context import Item
from ..core.records import EventRecord
from ..errors import FloxideError
from ..node import calling
from ..ports import FAIL, HOLD, NEXT, NEXT_ALL, Description, Grant, StepResult
from ..route import choose
from ..transition import Abort, Hold, Next, NextAll
from . import codec
from .run_log import RunLog

_TRANSITIONS = (Next, NextAll, Hold, Abort)


class Steps:
    """The steps of one run, in one worker.

    Args:
        run_id: the run.
        bundle: its workflow.
        facts: what it began with.
        fetch: gives the run's committed events from a number on.
    """

    def __init__(
        self, run_id: str, bundle: codec.Bundle, facts: Description, fetch: Callable[[int], Sequence[EventRecord]]
    ) -> None:
        self._run_id = run_id
        self._bundle = bundle
        self._seed = facts.seed
        self._log = RunLog(fetch)
        self._context = contexts.bind(codec.decode(facts.context), self._log)
        self._calls = [calling(node.handler()) for node in bundle.nodes]
        self._policies = [node.retry or bundle.retry for node in bundle.nodes]

    def run(self, grant: Grant, cancelled: Callable[[], bool]) -> StepResult:
        """Run one item."""
        item_id, node, attempt, order, payload, error = grant
        log = self._log
        name = self._bundle.names[node]
        if log.writes:
            log.writes = []
        try:
            cause = None if error is None else codec.decode_error(error)
            log.item = Item(self._run_id, name, item_id, attempt, cause, order, self._seed)
            log.cancelled = cancelled
            call = self._calls[node]
            if failpoints.armed:
                call = failpoints.around(call)
            result = call(self._context, codec.decode(payload))
            if type(result) is CoroutineType:
                result = asyncio.run(result)
            return self._told(node, name, result)
        except KeyboardInterrupt:
            raise
        except BaseException as failure:  # SystemExit too: a node that calls sys.exit(0) has not done its work
            return self._failed(node, failure, retry=True)

    def _told(self, node: int, name: str, result: Any) -> StepResult:
        """What the node returned, as data."""
        kind = type(result)
        if kind is NextAll:
            values = tuple(self._route(node, name, value) for value in result.values)
            return StepResult(NEXT_ALL, values, tuple(self._log.writes))
        if kind is Hold:
            return StepResult(HOLD, (), tuple(self._log.writes))
        if kind is Abort:
            cause = result.error
            failure = cause if isinstance(cause, BaseException) else FloxideError(str(cause))
            return self._failed(node, failure, retry=False)
        if kind is Next:
            result = result.value
        elif kind in (list, tuple) and any(type(part) in _TRANSITIONS for part in result[:100]):
            shown = next(part for part in result if type(part) in _TRANSITIONS)
            raise TypeError(
                f"{name} returned a {kind.__name__} with {shown!r} in it; to fan out, return NextAll([...])"
            )
        return StepResult(NEXT, (self._route(node, name, result),), tuple(self._log.writes))

    def _route(self, node: int, name: str, value: Any) -> tuple[int, bytes]:
        keys = self._bundle.keys[node]
        arm = 0
        if keys is not None:
            arm, value = choose(keys, value)
        return arm, codec.encode(value, f"the result of {name}")

    def _failed(self, node: int, failure: BaseException, retry: bool) -> StepResult:
        policy = self._policies[node]
        retryable = retry and policy is not None and policy.accepts(failure)
        return StepResult(FAIL, (), (), codec.encode_error(failure, users_traceback(failure)), retryable)


def refuse(grants: Iterable[Grant], failure: BaseException) -> tuple[StepResult, ...]:
    """The results of items whose workflow cannot be had in this worker."""
    if isinstance(failure, ImportError):
        failure.add_note(
            "the workflow needs this in its workers: they have the coordinator's sys.path and directory of when "
            "the run was started; a module made by hand must be importable there"
        )
    record = codec.encode_error(failure, users_traceback(failure))
    return tuple(StepResult(FAIL, error=record) for _ in grants)


def users_traceback(failure: BaseException) -> str:
    """The traceback as text, without this package's frames above the user's."""
    inner = failure.__traceback__
    while inner is not None and inner.tb_frame.f_globals.get("__name__", "").startswith("floxide_mp."):
        inner = inner.tb_next
    try:
        return "".join(traceback.format_exception(type(failure), failure, inner or failure.__traceback__))
    except Exception as trouble:  # a user's __str__ or __repr__ on the way
        return f"{type(failure).__name__} (its traceback cannot be shown: {type(trouble).__name__})\n"
