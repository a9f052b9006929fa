"""The check of a store that events can be withdrawn. It runs where ``check_store`` is called."""

from __future__ import annotations

from ..core.records import Commit, EventRecord
from ..ports import CheckpointStore
from .store_facts import BYTES, Reopen, at, facts, record, same, started


def withdrawn_events_are_taken_out(store: CheckpointStore, reopen: Reopen) -> None:
    for name in ("run", "other"):
        started(store, run_id=name)
        for number in range(4):
            payload = BYTES if number == 1 else b"e%d" % number
            events = [EventRecord((number % 2, (number,)), index, "n", 0, payload) for index in range(2)]
            store.commit(name, Commit(events=events, phase_changed=True), at(1))
    before, other = facts(store), facts(store, "other")
    store.replace(record(), None, frozenset([(1, (1,)), (0, (2,)), (7, ())]))
    expected = {**before, "events": [event for event in before["events"] if event.order[1] in ((0,), (3,))]}
    same(facts(store), expected, "the run, less the events that were withdrawn")
    store = reopen(store)
    again = [EventRecord((1, (1,)), 0, "n", 0, b"again")]
    store.commit("run", Commit(events=again, phase_changed=True), at(1))
    store = reopen(store)
    expected["events"] += again
    same(facts(store), expected, "the run, with one of them written again")
    same(list(store.events("run", 3)), expected["events"][3:], "events from number 3 on")
    same(store.snapshot("run").events, 5, "how many events there are")
    same(facts(store, "other"), other, "the other run")
    store.replace(record(), store.snapshot("run"), {event.order for event in expected["events"]})
    same(list(reopen(store).events("run")), [], "events, all of which were withdrawn")
