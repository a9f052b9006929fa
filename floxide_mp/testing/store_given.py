"""One check of a store: what items have given whose iterators have more."""

from __future__ import annotations

from ..core.records import Commit
from ..core.types import Given
from ..ports import CheckpointStore
from .store_facts import Reopen, at, item, same, started


def what_items_have_given_is_kept_until_they_are_over(store: CheckpointStore, reopen: Reopen) -> None:
    started(store, *(item(n, (0, (n,))) for n in range(1, 9)))
    store.commit(
        "run", Commit(given={1: Given(3, 2, 1, 5, 6), 2: Given(1, 0, 0), 9: Given(8, 8, 8)}, created=[item(9)]), at(9)
    )
    store = reopen(store)
    expected = {1: Given(3, 2, 1, 5, 6), 2: Given(1, 0, 0), 9: Given(8, 8, 8)}
    same(dict(store.snapshot("run").given), expected, "what items have given")
    before = store.snapshot("run").given
    store.commit("run", Commit(given={1: Given(2**40, 2**41, 7, 2**32 - 1, 1)}), at(9))
    store.commit("run", Commit(given={2: None, 3: Given(5, 6, 7), 4: Given(1, 1, 1)}, finished=[2]), at(9))
    store.commit("run", Commit(given={4: None}, finished=[4]), at(9))
    same(dict(before), expected, "what was read before")
    store = reopen(store)
    expected = {1: Given(2**40, 2**41, 7, 2**32 - 1, 1), 3: Given(5, 6, 7), 9: Given(8, 8, 8)}
    same(dict(store.snapshot("run").given), expected, "what items have given, as of the last commits")
    store.commit("run", Commit(given={1: None, 9: None}, finished=[1, 9]), at(9))
    same(dict(store.snapshot("run").given), {3: Given(5, 6, 7)}, "what items have given that are not over")
