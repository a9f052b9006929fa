"""``check_store``: every sentence of ``ports.CheckpointStore`` and ``GroupStore``, asked of a store. Nothing here knows
which store it is.

What no store can be asked from outside, because it takes a broken medium, is not here: that a commit is all or nothing
when the disk is full, and that it is still there after a crash.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ..core.records import Commit, EventRecord, ItemRow, JoinInput, OutputRecord, ScopeRecord
from ..core.transitions import Phase
from ..core.types import OrderKey, Payload, StreamOffset
from ..errors import NotStartedError, StoreError
from ..ports import CheckpointStore, GroupStore, Progress
from ..stores.memory import header
from ..types import RunMetrics, WorkItemStatus
from .store_blocks import BLOCK_CHECKS
from .store_facts import (
    BYTES,
    ERROR,
    TEXT,
    Reopen,
    a_run_of_the_core_is_as_in_memory,
    at,
    facts,
    fails,
    item,
    record,
    same,
    started,
    what_items_have_given_is_kept_until_they_are_over,
    withdrawn_events_are_taken_out,
)

MakeStore = Callable[[], CheckpointStore]
Check = Callable[[CheckpointStore, Reopen], None]


def check_store(make_store: MakeStore, reopen: Reopen | None = None) -> None:
    """Ask everything, each of a store of its own.

    Args:
        make_store: gives a new store that holds nothing. It is closed when it has been asked.
        reopen: closes a store and gives one that goes on with the same contents; None if nothing outlives it.

    Raises:
        ExceptionGroup: of what is not as the port says, one AssertionError for each.
    """
    wrong = []
    for name, check in STORE_CHECKS.items():
        try:
            _ask(check, make_store, reopen)
        except Exception as error:
            wrong.append(AssertionError(f"{name.replace('_', ' ')}: {error!r}"))
            wrong[-1].__cause__ = error
    if wrong:
        raise ExceptionGroup(f"{len(wrong)} of {len(STORE_CHECKS)} checks of a store fail", wrong)


def _ask(check: Check, make_store: MakeStore, reopen: Reopen | None) -> None:
    current = [make_store()]

    def again(store: CheckpointStore) -> CheckpointStore:
        if reopen is not None:
            current[0] = reopen(store)
        return current[0]

    try:
        check(current[0], again)
    finally:
        current[0].close()


# -- the checks ---------------------------------------------------------------------------------------------------


def a_new_run_is_there_with_its_first_item(store: CheckpointStore, reopen: Reopen) -> None:
    same(list(store.runs()), [], "runs of a new store")
    started(store)
    store = reopen(store)
    same(list(store.runs()), [header(record())], "runs")
    same(store.record("run"), record(), "record")
    same(store.progress("run"), at(1), "progress")
    expected = [ItemRow(1, 1, (0, ()), b"p", 0, None, 1, WorkItemStatus.PENDING, 0.0)]
    same(list(store.snapshot("run").items), expected, "items")


def a_run_that_exists_is_not_made_again(store: CheckpointStore, reopen: Reopen) -> None:
    started(store)
    before = facts(store)
    again = Commit(created=[item(2)], outputs=[OutputRecord((0, ()), 0, "n", b"o")])
    fails(lambda: store.create(record(name="other"), again, at(9)), StoreError, "creating a run twice")
    same(list(store.runs()), [header(record())], "runs")
    same(store.record("run"), record(), "record")
    same(facts(store), before, "the run that was there")
    store.commit("run", Commit(finished=[1]), at(1))


def unknown_runs_are_not_started(store: CheckpointStore, reopen: Reopen) -> None:
    started(store)
    for name in ("nosuch", "", "RUN", "run "):
        reads = store.record, store.progress, store.snapshot, store.events, store.outputs, store.errors, store.finished
        calls: list[Callable[[], object]] = [lambda name=name, read=read: read(name) for read in reads]  # type: ignore[misc]
        calls.append(lambda name=name: store.commit(name, Commit(phase_changed=True), at(1)))  # type: ignore[misc]
        calls.append(lambda name=name: store.replace(record(name)))  # type: ignore[misc]
        for call in calls:
            fails(call, NotStartedError, f"asking for the run {name!r}")
    same(list(store.runs()), [header(record())], "runs")
    same(store.record("run"), record(), "record")


def runs_come_oldest_first_as_they_were_written(store: CheckpointStore, reopen: Reopen) -> None:
    records = [
        record("b", started_at=5.0),
        record("a", started_at=3.0, timeout=2.5, finish=True, input=None, seed=-(2**80), shape={}, places=(), main=()),
        record(TEXT, name=TEXT, key=BYTES, workflow=BYTES, context=b"", input=b"", shape={TEXT: TEXT}),
        record("c", places=(TEXT, "b"), main=(TEXT,), seed=2**63, started_at=1700000000.123456, versions={TEXT: TEXT}),
        record("d", hash_seed=2**32 - 1),
    ]
    for one in records:
        store.create(one, Commit(created=[item(1)]), at(1))
    store = reopen(store)
    same(list(store.runs()), [header(one) for one in records], "runs")
    for one in records:
        same(store.record(one.run_id), one, f"record of {one.run_id!r}")
        same(store.progress(one.run_id), at(1), f"progress of {one.run_id!r}")


def items_come_in_order_as_they_were_written(store: CheckpointStore, reopen: Reopen) -> None:
    orders: list[OrderKey] = [(d, path) for d in (0, 1, 247, 248, 65536) for path in ((), (0,), (0, 0), (1,), (255,))]
    orders += [(1, (number,)) for number in (247, 248, 256, 1 << 16, 1 << 32, 1 << 59, 1 << 60, (1 << 62) + 5)]
    orders += [(1, (1 << 60, 3)), (1, (3, 1 << 60))]
    payloads: list[Payload] = [b"", b"p", BYTES, b"x" * 100_000, (), ((TEXT, b""),), (("a", (("b", BYTES),)),)]
    items = [
        item(n, order, payloads[n % len(payloads)], ERROR if n % 5 == 0 else None)
        for n, order in enumerate(sorted(orders, key=hash), 1)
    ]
    started(store, *items)
    store = reopen(store)
    expected = [
        ItemRow(i.id, i.place, i.order, i.payload, 0, i.error, 1, WorkItemStatus.PENDING, 0.0) for i in sorted(items)
    ]
    same(list(store.snapshot("run").items), expected, "items")


def what_changes_of_an_item_is_as_of_its_last_commit(store: CheckpointStore, reopen: Reopen) -> None:
    one, two = item(1, (0, (0,))), item(2, (0, (1,)), BYTES, ERROR)
    started(store, one, two)
    one.attempt, one.status, one.due = 9, WorkItemStatus.IN_PROGRESS, 99.0  # not committed
    same([row.attempt for row in store.snapshot("run").items], [1, 1], "attempts")
    for attempt, status in enumerate((WorkItemStatus.WAITING_RETRY, WorkItemStatus.PENDING, WorkItemStatus.FAILED), 2):
        two.attempt, two.status, two.due = attempt, status, 1000.0 * attempt
        store.commit("run", Commit(changed=[two]), at(2))
        two.attempt, two.status, two.due = 77, WorkItemStatus.IN_PROGRESS, 77.0
        store = reopen(store)
        row = store.snapshot("run").items[1]
        same(row[:6], (2, 2, (0, (1,)), BYTES, 0, ERROR), "what does not change")
        same((row.attempt, row.status), (attempt, status), "attempt and status")
        if abs(row.due - 1000.0 * attempt) > 1:
            raise AssertionError(f"due: {1000.0 * attempt} was written, {row.due} comes back")


def finished_items_are_forgotten(store: CheckpointStore, reopen: Reopen) -> None:
    items = [item(n, (0, (n,))) for n in range(1, 7)]
    started(store, *items)
    store.commit("run", Commit(changed=[items[1], items[2]], finished=[1, 2]), at(6))
    brief, late = item(7, (1, ())), item(8, (2, ()))
    store.commit("run", Commit(created=[brief, late], changed=[brief], finished=[7, 5]), at(8))
    store = reopen(store)
    store.commit("run", Commit(finished=[3]), at(8))
    same([row.id for row in store.snapshot("run").items], [4, 6, 8], "unfinished items")


def values_wait_at_joins_until_they_fire(store: CheckpointStore, reopen: Reopen) -> None:
    late, early = JoinInput(0, 1, (2, (1,)), TEXT, BYTES), JoinInput(0, 1, (2, (0,)), "n", (("m", b""),))
    other, inner = JoinInput(0, 2, (2, (2,)), "n", b"o"), JoinInput(1, 1, (1, ()), "n", b"i")
    started(store)
    store.commit("run", Commit(finished=[1], arrived=[late, other]), at(1))
    store.commit("run", Commit(created=[item(2)], opened=[ScopeRecord(1, 0, 0, (0, ()), None)]), at(2))
    store.commit("run", Commit(arrived=[early, inner], phase_changed=True), at(2))
    store = reopen(store)
    same(list(store.snapshot("run").arrivals), [inner, early, late, other], "arrivals")
    brief = JoinInput(0, 1, (9, ()), "n", b"")
    store.commit("run", Commit(arrived=[brief], joined=[(0, 1)], created=[item(3)]), at(3))
    store = reopen(store)
    same(list(store.snapshot("run").arrivals), [inner, other], "arrivals after a join has fired")
    same(list(store.snapshot("run").joined), [(0, 1)], "joins that have fired")


def scopes_and_what_is_theirs_are_forgotten_when_closed(store: CheckpointStore, reopen: Reopen) -> None:
    one = ScopeRecord(1, 0, 2, (0, ()), None)
    two, three = ScopeRecord(2, 1, 3, (1, (5,)), BYTES), ScopeRecord(3, 1, 3, (1, (6,)), (("a", b"b"),))
    started(store)
    depths = {(0, 0): 1, (1, 0): 2, (1, 1): 3}
    store.commit("run", Commit(opened=[one, two], joined=[(0, 7), (1, 7)], depths=depths, phase_changed=True), at(1))
    more = {(0, 0): 4, (2, 5): 6}
    store.commit("run", Commit(opened=[three], failed_batches={2: (4, ERROR)}, depths=more, phase_changed=True), at(1))
    store.commit(
        "run", Commit(failed_batches={2: (1, ERROR), 3: (0, ERROR._replace(payload=None))}, finished=[]), at(1)
    )
    store = reopen(store)
    snapshot = store.snapshot("run")
    same(sorted(snapshot.scopes), [one, two, three], "open scopes")
    same(sorted(snapshot.joined), [(0, 7), (1, 7)], "joins that have fired")
    same(dict(snapshot.depths), {**depths, **more}, "depths")
    same(dict(snapshot.failed_batches), {2: (1, ERROR), 3: (0, ERROR._replace(payload=None))}, "failed batches")
    brief = ScopeRecord(4, 0, 2, (3, ()), None)
    store.commit("run", Commit(opened=[brief], depths={(4, 0): 9, (2, 6): 9}, joined=[(4, 7)], closed=[2, 4]), at(1))
    store = reopen(store)
    snapshot = store.snapshot("run")
    same(sorted(snapshot.scopes), [one, three], "open scopes")
    same(sorted(snapshot.joined), [(0, 7), (1, 7)], "joins that have fired")
    same(dict(snapshot.depths), {(0, 0): 4, (1, 0): 2, (1, 1): 3}, "depths")
    same(list(snapshot.failed_batches), [3], "failed batches")


def what_nodes_hold_is_released_when_they_pass(store: CheckpointStore, reopen: Reopen) -> None:
    started(store)
    store.commit("run", Commit(held=[(5, 9), (4, 3), (5, 2)], phase_changed=True), at(1))
    store.commit("run", Commit(held=[(5, 1), (6, 8)], nodes_emitted=[3], phase_changed=True), at(1))
    store = reopen(store)
    same(dict(store.snapshot("run").held), {5: [9, 2, 1], 4: [3], 6: [8]}, "held items, in the order of commits")
    same(set(store.snapshot("run").nodes_emitted), {3}, "nodes that passed something on")
    store.commit("run", Commit(held=[(7, 4)], nodes_emitted=[5, 7], phase_changed=True), at(1))
    store = reopen(store)
    same(dict(store.snapshot("run").held), {4: [3], 6: [8]}, "held items")
    same(set(store.snapshot("run").nodes_emitted), {3, 5, 7}, "nodes that passed something on")


def events_outputs_and_errors_come_in_the_order_of_commits(store: CheckpointStore, reopen: Reopen) -> None:
    events = [EventRecord((9 - n, (n,)), n, TEXT if n % 2 else "n", n % 3, BYTES[n:]) for n in range(9)]
    outputs = [OutputRecord((9 - n, ()), n, "n", (("a", b""),) if n % 2 else BYTES, n or None) for n in range(9)]
    errors = [ERROR._replace(number=n + 1, payload=None if n % 2 else b"", worker=n or None) for n in range(9)]
    started(store)
    for part in (slice(0, 4), slice(4, 5), slice(5, 9)):
        store.commit("run", Commit(events=events[part], outputs=outputs[part], errors=errors[part]), at(1))
        store = reopen(store)
    reads: tuple[tuple[Callable[..., Sequence[object]], Sequence[object]], ...]
    reads = (store.events, events), (store.outputs, outputs)
    for read, expected in reads:
        for since in (0, 1, 4, 5, 8, 9, 10, 1000):
            same(list(read("run", since)), list(expected[since:]), f"{read.__name__} since {since}")
        same(list(read("run")), list(expected), read.__name__)
        for most in (1, 4, 9, 100):
            found: list[object] = []
            while some := read("run", len(found), most):
                found += some
            same(found, list(expected), f"{read.__name__}, {most} at a time")
    same(list(store.errors("run")), errors, "errors")


def what_was_read_stays_as_it_was(store: CheckpointStore, reopen: Reopen) -> None:
    held = Commit(held=[(5, 9)], outputs=[OutputRecord((0, ()), 0, "n", b"o")], phase_changed=True)
    started(store)
    store.commit("run", held, at(1))
    snapshot, outputs = store.snapshot("run"), store.outputs("run")
    items, before = list(snapshot.items), {node: list(items) for node, items in snapshot.held.items()}
    store.commit("run", Commit(finished=[1], held=[(5, 8)], outputs=held.outputs), at(1))
    same((list(snapshot.items), dict(snapshot.held), len(outputs)), (items, before, 1), "what was read before")


def progress_is_that_of_the_last_commit(store: CheckpointStore, reopen: Reopen) -> None:
    started(store)
    for number, phase in enumerate(Phase):
        failure = (None, ERROR, ERROR._replace(payload=None, worker=None, traceback=""))[number % 3]
        metrics = RunMetrics(number, 2**40, number * 3, 7)
        progress = Progress(phase, metrics, (2**40 + number, number), (None, 1700000000.5)[number % 2], failure, number)
        store.commit("run", Commit(phase_changed=True), progress)
        store = reopen(store)
        same(store.progress("run"), progress, "progress")


def completed_steps_are_counted_by_node(store: CheckpointStore, reopen: Reopen) -> None:
    started(store)
    same(dict(store.finished("run")), {}, "completed steps of a new run")
    store.commit("run", Commit(done={"a": 3, TEXT: 1}, phase_changed=True), at(1))
    store.commit("run", Commit(done={"a": 2}, phase_changed=True), at(1))
    store = reopen(store)
    store.commit("run", Commit(done={"b": 2**40, "a": 1}, phase_changed=True), at(1))
    before = store.finished("run")
    store.commit("run", Commit(done={"b": 1}, phase_changed=True), at(1))
    same(dict(before), {"a": 6, TEXT: 1, "b": 2**40}, "completed steps")
    same(dict(store.finished("run")), {"a": 6, TEXT: 1, "b": 2**40 + 1}, "completed steps")


def a_run_goes_on_as_if_it_had_begun_otherwise(store: CheckpointStore, reopen: Reopen) -> None:
    waiting, scope = JoinInput(0, 1, (1, ()), "n", b"v"), ScopeRecord(1, 0, 0, (0, ()), b"b")
    for name in ("first", "run"):
        started(store, item(1), item(2), run_id=name)
    logs = Commit(
        arrived=[waiting],
        opened=[scope],
        joined=[(1, 7)],
        depths={(0, 0): 1, (1, 0): 2},
        nodes_emitted=[3],
        held=[(5, 2)],
        failed_batches={1: (4, ERROR)},
        given={1: StreamOffset(4, 3, 2)},
        events=[EventRecord((0, ()), 0, "n", 0, b"e")],
        outputs=[OutputRecord((0, ()), 0, "n", b"o")],
        errors=[ERROR],
        done={"n": 1},
    )
    store.commit("first", logs, at(2))
    before, other = facts(store, "first"), facts(store, "run")
    store.replace(record("first", name="other", key=b"other", shape={"z": ""}, places=("z",), versions={"python": "4"}))
    store = reopen(store)
    names = [(run.run_id, run.name, tuple(run.places)) for run in store.runs()]
    same(names, [("first", "other", ("z",)), ("run", "flow", ("a", "b"))], "runs")
    same(facts(store, "first"), before, "what the run has done, and has to do")
    row = ItemRow(2, 8, (1, (9,)), BYTES, 1, ERROR, 3, WorkItemStatus.WAITING_RETRY, 2000.0)
    new = store.snapshot("first")._replace(
        items=[row, ItemRow(1, 9, (2, ()), b"", 0, None, 1, WorkItemStatus.PENDING, 0.0)],
        arrivals=[waiting._replace(place=6)],
        scopes=[scope._replace(place=8, order=(0, (1 << 58,)))],
        joined=[(1, 5)],
        depths={(1, 3): 9},
        nodes_emitted=[2],
        held={6: [2, 1]},
        failed_batches={1: (5, ERROR)},
        given={2: StreamOffset(6, 5, 4)},
    )
    store.replace(record("first"), new)
    expected = {
        **before,
        **{what: getattr(new, what) for what in ("arrivals", "scopes", "joined", "depths", "nodes_emitted")},
    }
    expected |= {"items": [new.items[0]._replace(due=0.0), new.items[1]], "due": [2000, 0]}
    expected |= {"held": new.held, "failed_batches": new.failed_batches, "given": new.given}
    store = reopen(store)
    same(facts(store, "first"), expected, "what the run has done, and has to do now")
    same(facts(store, "run"), other, "the other run")
    over = Commit(finished=[2], joined=[(0, 6)], closed=[1], nodes_emitted=[6], created=[item(3)], given={2: None})
    store.commit("first", over, at(3))
    store = reopen(store)
    snapshot = store.snapshot("first")
    same([row.id for row in snapshot.items], [3, 1], "items")
    left = snapshot.arrivals, snapshot.scopes, snapshot.depths, snapshot.held, snapshot.failed_batches, snapshot.given
    same([len(part) for part in left], [0] * 6, "what is left")
    same(list(snapshot.joined), [(0, 6)], "joins that have fired")
    same(set(snapshot.nodes_emitted), {2, 6}, "nodes that passed something on")


def runs_do_not_mix(store: CheckpointStore, reopen: Reopen) -> None:
    for name in (names := ("one", "two")):
        started(store, run_id=name)
    for name in names:
        payload = name.encode()
        commit = Commit(
            created=[item(2, (1, ()), payload)],
            arrived=[JoinInput(0, 1, (1, ()), name, payload)],
            opened=[ScopeRecord(1, 0, 0, (0, ()), payload)],
            depths={(1, 0): len(payload)},
            held=[(4, 2)],
            events=[EventRecord((0, ()), 0, name, 0, payload)],
            outputs=[OutputRecord((0, ()), 0, name, payload)],
            errors=[ERROR._replace(node=name)],
            done={name: 1},
        )
        store.commit(name, commit, at(2))
    before = facts(store, "two")
    store.commit("one", Commit(finished=[1, 2], joined=[(0, 1)], closed=[1], nodes_emitted=[4]), at(2, Phase.COMPLETED))
    store = reopen(store)
    same(facts(store, "two"), before, "the other run")


def any_thread_may_call(store: CheckpointStore, reopen: Reopen) -> None:
    started(store)
    wrong: list[BaseException] = []

    def call() -> None:
        try:
            store.commit("run", Commit(created=[item(2, (1, ()))]), at(2))
            same(len(store.snapshot("run").items), 2, "items")
        except BaseException as error:
            wrong.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    if wrong:
        raise wrong[0]
    same(len(store.snapshot("run").items), 2, "items")


def what_is_prepared_is_written_as_it_was_together_and_once(store: CheckpointStore, reopen: Reopen) -> None:
    """Of a ``GroupStore``; another one is asked nothing here."""
    if not isinstance(store, GroupStore):
        return
    group: GroupStore[Any] = store
    for name in ("run", "other"):
        started(store, run_id=name)
    before = facts(store), facts(store, "other")
    new, changed = item(2, (1, ())), item(1)
    changed.attempt, changed.status = 2, WorkItemStatus.FAILED
    first = group.prepare("run", Commit(created=[new], changed=[changed]), at(2))
    for one in (new, changed):
        one.attempt, one.status, one.due = 9, WorkItemStatus.IN_PROGRESS, 99.0
    outputs = [OutputRecord((0, ()), 0, "n", b"o")]
    last = group.prepare("run", Commit(finished=[2], outputs=outputs, done={"n": 1}), at(2))
    other = group.prepare("other", Commit(outputs=outputs, phase_changed=True), at(1, Phase.PAUSED))
    nosuch = group.prepare("nosuch", Commit(phase_changed=True), at(1))
    same((facts(store), facts(store, "other")), before, "what is only prepared")
    fails(lambda: group.write([first, other, nosuch]), NotStartedError, "writing commits, one of an unknown run")
    same((facts(store), facts(store, "other")), before, "commits with one that cannot be written")
    group.write([first])
    rows = [(row.id, row.attempt, row.status) for row in store.snapshot("run").items]
    same(rows, [(1, 2, WorkItemStatus.FAILED), (2, 1, WorkItemStatus.PENDING)], "items as they were when prepared")
    for _ in range(2):  # the same once more, as after an error of which nobody knows how far it came
        group.write([first, other, last])
    same([row.id for row in store.snapshot("run").items], [1], "items")
    same((list(store.outputs("run")), list(store.outputs("other"))), (outputs, outputs), "outputs")
    same((store.progress("other").phase, dict(store.finished("run"))), (Phase.PAUSED, {"n": 1}), "what is counted")


STORE_CHECKS: Final[Mapping[str, Check]] = {
    check.__name__: check
    for check in (
        a_new_run_is_there_with_its_first_item,
        a_run_that_exists_is_not_made_again,
        unknown_runs_are_not_started,
        runs_come_oldest_first_as_they_were_written,
        items_come_in_order_as_they_were_written,
        what_changes_of_an_item_is_as_of_its_last_commit,
        finished_items_are_forgotten,
        values_wait_at_joins_until_they_fire,
        scopes_and_what_is_theirs_are_forgotten_when_closed,
        what_nodes_hold_is_released_when_they_pass,
        what_items_have_given_is_kept_until_they_are_over,
        events_outputs_and_errors_come_in_the_order_of_commits,
        what_was_read_stays_as_it_was,
        progress_is_that_of_the_last_commit,
        completed_steps_are_counted_by_node,
        a_run_goes_on_as_if_it_had_begun_otherwise,
        withdrawn_events_are_taken_out,
        runs_do_not_mix,
        any_thread_may_call,
        what_is_prepared_is_written_as_it_was_together_and_once,
        *BLOCK_CHECKS,
        a_run_of_the_core_is_as_in_memory,
    )
}
