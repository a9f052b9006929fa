"""One step: decode, call the node, route, encode. Everything that looks into a user's value happens here.

Whatever goes wrong in it is that item's failure, told as plain data; only Ctrl-C passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from sys import getrefcount
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Final, TypeAlias

from .. import failpoints
from ..api import context as contexts
from ..api.node import Call, called
from ..api.route import choose
from ..api.transition import Abort, Hold, Next, NextAll
from ..core.types import OrderKey, Payload, StreamOffset
from ..errors import FloxideError, NodeTimeoutError
from ..messages import (
    FAIL,
    HOLD,
    NEXT,
    NEXT_ALL,
    Description,
    EventPage,
    FanOut,
    Grant,
    Grants,
    Outcome,
    PartialResult,
    ReadAndWritten,
    StepResult,
    Suspect,
    Unreadable,
    Writes,
    failed,
)
from ..texts import quoted
from ..wire import codec, hash_seed, main_module, oob_pickle, returns
from ..wire.codec import decode
from . import step_errors
from .context_log import RunLog
from .coroutines import awaited
from .fixed_values import CHANGED, CHANGED_EARLIER, ChangedEarlierError, FixedValues
from .forks import end_child, here, mark, refused
from .iterator_cache import IteratorCursor, IteratorCursors, OtherValues, Values
from .kept_state import CHANGED as CHANGED_NODE
from .kept_state import KeptState, kept_state_of
from .step_errors import is_callers
from .step_view import StepView, keyed

MANY: Final = 8  # values of a ``NextAll`` from which on it is told as ``FanOut``
_TRANSITIONS = frozenset((Next, NextAll, Hold, Abort))
_NOT_PLAIN = _TRANSITIONS | {type}  # what may be none of the plain values
_ODD = _TRANSITIONS | {list, tuple, type, GeneratorType, AsyncGeneratorType}  # what is not always just a value

WORKFLOW: Final = "the workflow, or its context,"  # what a worker opens before the first step of a run

# By number of node: its name, the function of context and value, whether that asks for the input, and for the context,
# and what its steps may not change.
Calls: TypeAlias = list[tuple[str, Call, bool, bool, KeptState | None]]
ASKING: Final = ("both", "value")  # ways to call a node that gets its input


def calls_of(bundle: codec.Bundle) -> Calls:
    """What is to be known of the nodes for their steps. Made once, before the first of them."""
    calls: Calls = []
    for node, name, way, fields in zip(bundle.nodes, bundle.names, bundle.ways, bundle.fields, strict=True):
        handler = node.handler()
        call = called(handler, way)
        call = call if node.seed_key is None else keyed(call, node.seed_key)
        calls.append((name, call, way in ASKING, way in ("both", "context"), kept_state_of(handler, fields)))
    return calls


class StepRunner:
    """The steps of one run, in one worker.

    Args:
        run_id: the run.
        bundle: its workflow.
        calls: of the workflow's nodes, by ``calls_of``.
        facts: what it began with; ``key`` is that of the workflow.
        fetch: gives the run's committed events from a number on, a page at a time.
        life: of the lease, see ``ports.Lease``.
        identify: gives the id of the item that runs, where it came without one.
        pulls: iterators that have more to give; without it all that one has is taken at once.
    """

    _view: StepView  # of the step that runs, unless it has one of its own
    _now: StepView  # of the step that runs
    _context: contexts.Context  # that has ``_view``
    _parts: tuple[tuple[object, object, object], ...]  # the context, and its fields, three by three
    _references: int  # to all of these, while nobody else has any of them

    def __init__(
        self,
        run_id: str,
        bundle: codec.Bundle,
        calls: Calls,
        facts: Description,
        fetch: Callable[[int], EventPage],
        life: int = 0,
        identify: Callable[[], int] = lambda: 0,
        pulls: IteratorCursors | None = None,
    ) -> None:
        self.key, self.generation = facts.key, life
        self._run_id = run_id
        self._bundle = bundle
        self._chained = facts.chained
        self._asks: set[int] = set()  # nodes whose steps asked for what only the coordinator can say
        self._pid = here()
        self._fetch = fetch
        self._all_seen = False  # a child that is forked now may look at the context
        self._log = RunLog(run_id, facts.seed, self._events)
        self._fixed = FixedValues()
        self._identify = identify
        self._numbered = facts.fields
        self._seed = facts.hashes[0]
        self._free = contexts.complete(codec.decode(facts.context, read_only=True), facts.fields)
        self._fields = contexts.field_names(self._free)
        self._renew()
        # Of nodes that do not ask for it, the input stays closed: it may be what their item is to be rescued from.
        self._closed = frozenset(node for node, way in enumerate(bundle.ways) if way not in ASKING)
        self._calls = calls
        self._redacts = [node.redact for node in bundle.nodes]
        self._pulls = pulls

    def after(self, node: int, arm: int) -> int:
        """The node with whose item a worker may go on when a step of ``node`` has taken ``arm``; -1: with none."""
        after = self._chained[node][arm] if self._chained else -1
        # Of a step that asks, the worker tells before it answers: then it had better be leased in the first place.
        return -1 if after in self._asks else after

    def run(self, grant: Grant, cancelled: Callable[[], bool], given: StreamOffset | None = None) -> Outcome:
        """Run one item, behind what it has ``given``."""
        item_id, node, attempt, order, payload, error = grant
        name, call, opens, sees, kept = self._calls[node]
        view = self._view
        if view.over:
            view = self._renew()
        self._now = view
        try:
            cause = None if error is None else codec.decode_error(error)
            view.about = name, item_id, attempt, cause, order  # (``view.begin`` without a call)
            view.cancels = cancelled
            if view.touched:
                view.clean()
            elif view.writes:
                view.writes = []
            result: Any = None if given is None else self._kept(order, given.values)
            if result is not None:
                self._now = view = result.view
                key, looked = view.key, view.looked
                view.go_on()
                view.begin(name, item_id, attempt, cause, order, cancelled)
                view.key, view.looked, view.touched = key, looked, True
            else:
                if failpoints.armed:
                    call = failpoints.between("worker.node.before", call, "worker.node.after")
                result = call(self._context, decode(payload) if opens else None)
            kind = type(result)
            if kind is CoroutineType:
                result = awaited(result)
                kind = type(result)
            if kind in _ODD or given is not None:
                if mark[0] != self._pid:
                    end_child(None)
                told = (
                    self._aborted(node, result, payload)
                    if kind is Abort
                    else self._encoded(node, name, result, order, given)
                )
            else:
                passed = self._route(node, name, result)
                told = NEXT, (passed,), self._written() if sees else (), None, False
            if kept is not None and (field := kept.changed()) and not failed(told):
                self._drop_pulls()
                raise FloxideError(CHANGED_NODE.format(node=name, field=field))
            if view.touched:
                if view.asked:
                    told = self._after_look(node, item_id, told)
                if view.saw_cancelled:
                    told = _suspect(told)
            if failpoints.armed:
                failpoints.hit("worker.encoded")
            if mark[0] != self._pid:
                end_child(None)  # the node has forked, or the value as it was pickled
            return told
        except BaseException as failure:  # SystemExit too: a node that calls sys.exit(0) has not done its work
            if mark[0] != self._pid:
                end_child(failure)
            if kept is not None and kept.changed():
                self._drop_pulls()
            if is_callers(failure):
                view.end()
                self._fixed.restore(view.looked)
                raise
            if type(failure) is OtherValues:
                return self._begun_elsewhere(name, failure)
            if type(failure) is ChangedEarlierError:
                return self._changed_earlier(failure)
            opening = step_errors.is_opening(failure)
            if opening and step_errors.asked(step_errors.is_missing, failure, otherwise=False):
                return step_errors.trouble(f"the input of {name}", failure)
            step_errors.asked(returns.explain_list, failure, payload, otherwise=None)
            told = self._failed(node, failure, payload, retry=True)
            return step_errors.unopened(f"the input of {name}", told) if opening else told

    # -- a fork in a step ----------------------------------------------------------------------------

    def before_fork(self) -> None:
        """The child is to see what this step could see now."""
        if mark[0] != self._pid:
            return  # a child's child sees what the child sees
        try:
            self._now.see_all(looks=bool(self._fields))
            self._all_seen = True
        except Exception:
            pass  # it is an error in the child, if it looks

    def after_fork(self) -> None:
        """It is done; this is the parent."""
        if mark[0] == self._pid:
            self._all_seen = False

    def in_child(self) -> None:
        """It is done; this is the child."""
        self._log.in_child()
        self._now.in_child()

    def _events(self, since: int) -> EventPage:
        if mark[0] == self._pid:
            return self._fetch(since)
        if self._all_seen:
            return EventPage((), False)
        raise refused("look at the context")

    def _after_look(self, node: int, item_id: int, told: Outcome) -> Outcome:
        """What is to be told of a step that has asked for what only the coordinator can say."""
        self._asks |= set() if item_id else {node}
        follows = self._bundle.nodes[node].serial and self._now.writes and not self._now.saw_cancelled
        if not follows or failed(told) or isinstance(told, PartialResult | Suspect | ReadAndWritten | Unreadable):
            return told
        return ReadAndWritten(told)

    def _renew(self) -> StepView:
        """A context for the next steps, which have it in common as long as none of them leaves it to a thread."""
        self._view = self._now = StepView(self._log, self._fixed, self._identify)
        self._context = contexts.bind(self._free, self._view, self._numbered)
        parts = [self._context, *[getattr(self._context, name) for name in self._fields]]
        parts += [object() for _ in range(-len(parts) % 3)]
        self._parts = tuple(zip(*[iter(parts)] * 3, strict=True))
        del parts
        self._references = 0
        for one, two, three in self._parts:
            self._references += getrefcount(one) + getrefcount(two) + getrefcount(three)
        return self._view

    def _written(self) -> Writes:
        """What the step wrote. If something still has its context, a thread say, that is over from now on.

        Raises:
            FloxideError: it has changed the value of a ``Fixed``.
        """
        view = self._now
        if view.looked:
            self._check_fixed(view)
        references = 0
        for one, two, three in self._parts:  # (each by itself takes half as long again, as does ``sum`` of ``map``)
            references += getrefcount(one) + getrefcount(two) + getrefcount(three)
        if references != self._references:
            view.end()
            return view.written
        return tuple(view.writes) if view.writes else ()

    def _check_fixed(self, view: StepView) -> None:
        changed = self._fixed.changed(view.looked, view.node)
        if changed:
            self._drop_pulls()
            raise FloxideError(CHANGED.format(node=view.node, field=self._name_of(changed[0])))

    def _changed_earlier(self, found: ChangedEarlierError) -> Unreadable:
        """Results that are committed may be wrong: the run fails, whatever becomes of this step."""
        self._now.end()
        self._drop_pulls()
        text = CHANGED_EARLIER.format(nodes=", ".join(found.nodes), field=self._name_of(found.field))
        return Unreadable(codec.encode_error(FloxideError(text, run_id=self._run_id, node=self._now.node), ""))

    def _name_of(self, field: int) -> str:
        return f"ctx.{([name for name, _ in self._numbered] or self._fields)[field]}"

    def _drop_pulls(self) -> None:
        """Iterators may have a value that a step has changed; they begin again."""
        if self._pulls is not None:
            self._pulls.drop_run(self._run_id)

    def in_time(self, grant: Grant, result: Outcome, nanoseconds: int) -> Outcome:
        """The result, or a failure if the step was longer than allowed: where nobody can end it, it is told late."""
        limit = self._bundle.nodes[grant[1]].timeout
        if limit is None or nanoseconds <= limit * 1e9 or isinstance(result, Unreadable):
            return result
        name = self._bundle.names[grant[1]]
        failure = NodeTimeoutError(f"{name} ran longer than its time-out of {limit:g} s; it could not be ended")
        return self._failed(grant[1], failure, grant[4], retry=True)

    def _kept(self, order: OrderKey, given: int) -> IteratorCursor | None:
        """The iterator of an item that has given so many values, if it is here."""
        return None if self._pulls is None else self._pulls.take(self._run_id, order, given)

    def _encoded(self, node: int, name: str, result: Any, order: OrderKey, given: StreamOffset | None) -> Outcome:
        """What the node returned, as data, if it is of an odd kind, or has ``given`` something."""
        kind = type(result)
        if kind is IteratorCursor:
            return self._drawn(node, name, order, result)
        if kind is NextAll:
            several = returns.several(name, result.values, self._redacts[node])
            if given is not None or isinstance(several, Iterator):
                return self._drawn(
                    node, name, order, IteratorCursor(name, iter(several), given or StreamOffset(), self._now)
                )
            values: Values = [self._route(node, name, value) for value in several]
            return _spread(values, self._written())
        if given is not None:
            text = f"{name} was started again, and returned a {kind.__name__} where it had returned a NextAll"
            raise FloxideError(f"{text}: an iterator in NextAll must give the same values each time")
        if kind is Hold:
            return HOLD, (), self._written(), None, False
        returns.check_generator(name, kind)
        if kind is type:
            returns.check_class(name, result, _TRANSITIONS)
        if kind is Next:
            result = result.value
        elif kind in (list, tuple) and not _NOT_PLAIN.isdisjoint(map(type, result)):
            returns.check_parts(name, result, _TRANSITIONS, self._redacts[node])
        return NEXT, (self._route(node, name, result),), self._written(), None, False

    def _drawn(self, node: int, name: str, order: OrderKey, pull: IteratorCursor) -> Outcome:
        """What an iterator gives next."""
        # Steps of serial nodes see every commit before them: nothing may come between what one of them gives.
        whole = self._pulls is None or self._bundle.nodes[node].serial
        values, written, last = pull.next_page(partial(self._route, node, name), whole)
        told = _spread(values, self._written()[:written])
        if last or self._pulls is None:
            return told
        if self._now.saw_cancelled:
            pull.close()  # what it gave since then does not count
            return told
        if failpoints.armed:
            failpoints.hit("worker.portion")
        self._now.end()  # from now on it is this iterator's alone, and goes on with the next portion
        self._pulls.keep(self._run_id, order, pull)
        return PartialResult(told, (pull.digest, hash_seed.probe()))

    def _begun_elsewhere(self, name: str, failure: OtherValues) -> Unreadable:
        """An iterator has to be begun again, which cannot be done in this process: the item is as it was."""
        theirs = failure.hash_probe
        began = None if self._seed is not None and hash_seed.probe_of(self._seed) == theirs else theirs
        text = f"run {self._run_id!r}: {failure}; {hash_seed.advice(self._seed, began)}"
        return Unreadable(codec.encode_error(FloxideError(text, run_id=self._run_id, node=name), ""))

    def _route(self, node: int, name: str, value: Any) -> tuple[int, Payload]:
        if type(value) in _NOT_PLAIN and (type(value) is not type or value in _TRANSITIONS):
            one = quoted(value, self._redacts[node]) if type(value) is not type else f"the class {value.__name__}"
            raise TypeError(f"{name} returned {one} inside Next or NextAll, which take the plain values")
        keys = self._bundle.keys[node]
        arm = 0
        if keys is not None:
            arm, value = choose(keys, value, self._redacts[node])
        if failpoints.armed:
            failpoints.hit("worker.encode")
        return arm, oob_pickle.share(value, "the result of ", name)

    def _aborted(self, node: int, result: Abort, payload: Payload) -> Outcome:
        cause = result.error
        failure = cause if isinstance(cause, BaseException) else FloxideError(str(cause))
        return self._failed(node, failure, payload, retry=False)

    def _failed(self, node: int, failure: BaseException, payload: Payload, retry: bool) -> StepResult | Unreadable:
        self._now.end()
        if self._now.looked:
            try:
                if self._fixed.changed(self._now.looked, self._now.node):
                    self._drop_pulls()
            except ChangedEarlierError as found:
                return self._changed_earlier(found)
        step_errors.asked(main_module.note, failure, otherwise=None)
        policy = self._bundle.policies[node]
        retryable = retry and policy is not None and step_errors.asked(policy.accepts, failure, otherwise=False)
        record = step_errors.record_of(failure, self._redacts[node])
        if node not in self._closed and not self._redacts[node]:
            record = record._replace(input=step_errors.input_of(payload))
        return FAIL, (), (), record, retryable


def _spread(values: Values, writes: Writes) -> StepResult | FanOut:
    """The result of a ``NextAll``."""
    if len(values) >= MANY and len(arms := {arm for arm, _ in values}) == 1:
        return FanOut(arms.pop(), [payload for _, payload in values], writes)
    return NEXT_ALL, tuple(values), writes, None, False


def _suspect(told: Outcome) -> Outcome:
    """The result of a step that saw that its run is to stop. What fails then is given back as it is."""
    return (
        told
        if failed(told) or isinstance(told, PartialResult | Suspect | ReadAndWritten | Unreadable)
        else Suspect(told)
    )


def each(items: Iterable[Grant | Grants]) -> Iterator[Grant]:
    """The items of a lease, each by itself."""
    for item in items:
        if not isinstance(item, Grants):
            yield item
            continue
        first, node, (depth, path), payloads = item
        prefix, branch = path[:-1], path[-1] if path else 0
        for number, payload in enumerate(payloads):
            order = (depth, (*prefix, branch + number)) if path else item.order
            # Successors that a worker goes on with by itself have no id yet.
            yield (first + number if first else 0), node, 1, order, payload, None
