"""Retry policies: the figures, what is retried, and row 62: policies that make no sense."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_mp import BackoffStrategy, NodeTimeoutError, RetryError, RetryPolicy, RunCancelledError, WorkerDiedError

LINEAR, EXPONENTIAL = BackoffStrategy.LINEAR, BackoffStrategy.EXPONENTIAL


def waits(policy: RetryPolicy, count: int, unit: float = 0.0) -> list[float]:
    return [round(policy.backoff(n, unit), 9) for n in range(1, count + 1)]


def test_linear() -> None:
    policy = RetryPolicy(10, 0.1, 0.45, LINEAR)
    assert waits(policy, 6) == [0.1, 0.2, 0.3, 0.4, 0.45, 0.45]


def test_exponential() -> None:
    assert waits(RetryPolicy(10, 0.05, 0.4, EXPONENTIAL), 6) == [0.05, 0.1, 0.2, 0.4, 0.4, 0.4]


def test_row_115_jitter_is_added_at_the_cap_too() -> None:
    policy = RetryPolicy(10, 0.1, 0.25, LINEAR, jitter=0.1)
    assert waits(policy, 4, unit=0.5) == [0.15, 0.25, 0.3, 0.3]
    assert waits(policy, 4, unit=0.9) == [0.19, 0.29, 0.34, 0.34], "those that wait longest are spread as well"


def test_row_115_a_back_off_that_the_cap_would_cut_is_refused() -> None:
    with pytest.raises(ValueError, match=r"initial_backoff \(300 s\) is longer than max_backoff \(60 s\).*=300"):
        RetryPolicy(max_attempts=5, initial_backoff=300.0)
    assert waits(RetryPolicy(5, 300.0, 300.0), 2) == [300.0, 300.0]


@given(
    st.builds(
        lambda initial_backoff, more, **others: RetryPolicy(
            initial_backoff=initial_backoff, max_backoff=initial_backoff + more, **others
        ),
        max_attempts=st.integers(1, 10),
        initial_backoff=st.floats(0, 1e6),
        more=st.floats(0, 1e6) | st.just(math.inf),
        strategy=st.sampled_from(BackoffStrategy),
        jitter=st.floats(0, 1e6),
    ),
    st.integers(1, 10**6),
    st.floats(0, 1, exclude_max=True),
)
def test_no_wait_is_negative_longer_than_the_cap_or_shorter_than_the_one_before(
    policy: RetryPolicy, failures: int, unit: float
) -> None:
    wait = policy.backoff(failures, unit)
    assert 0 <= wait <= policy.max_backoff + policy.jitter
    assert policy.backoff(failures + 1, unit) >= wait


TIMEOUT, CANCELLED, OTHER = NodeTimeoutError("t"), RunCancelledError("c"), ValueError("v")


@pytest.mark.parametrize(
    ("kinds", "accepted"),
    [
        (RetryError.ALL, {TIMEOUT, CANCELLED, OTHER}),
        (RetryError.TIMEOUT, {TIMEOUT}),
        (RetryError.CANCELLED, {CANCELLED}),
        (RetryError.GENERIC, {OTHER}),
        ((ValueError,), {OTHER}),
        ((ValueError, NodeTimeoutError), {OTHER, TIMEOUT}),
        ((LookupError,), set()),
        ((), set()),
    ],
)
def test_which_errors_are_tried_again(kinds: Any, accepted: set[BaseException]) -> None:
    policy = RetryPolicy(retry_error=kinds)
    assert {e for e in (TIMEOUT, CANCELLED, OTHER) if policy.accepts(e)} == accepted


def test_a_time_out_is_any_timeout_error_and_a_death_is_generic() -> None:
    assert RetryPolicy(retry_error=RetryError.TIMEOUT).accepts(TimeoutError())
    assert RetryPolicy(retry_error=RetryError.GENERIC).accepts(WorkerDiedError("killed"))


@pytest.mark.parametrize(
    "wrong",
    [{"max_attempts": n} for n in (0, -1, True, "3", 2.0, None)]
    + [{name: s} for name in ("initial_backoff", "max_backoff", "jitter") for s in (-0.1, "1", True, None, math.nan)]
    + [{"strategy": s} for s in ("linear", None, BackoffStrategy)]
    + [{"retry_error": k} for k in (ValueError, "all", [ValueError], (int,), (ValueError("v"),), None)],
    ids=repr,
)
def test_row_62_policies_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RetryPolicy(**wrong)


def test_a_policy_travels_and_is_compared_by_value() -> None:
    policy = RetryPolicy(5, 1, 2, LINEAR, (ValueError,), 0.1)
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert hash(policy) == hash(RetryPolicy(5, 1, 2, LINEAR, (ValueError,), 0.1))
