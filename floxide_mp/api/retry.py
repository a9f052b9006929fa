"""Retry policies: which errors are tried again, and after how long. Who waits is the coordinator's affair."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from ..errors import NodeTimeoutError, RunCancelledError


class BackoffStrategy(enum.Enum):
    """How the wait grows with the number of failed attempts ``n`` (1, 2, 3 …)."""

    LINEAR = "linear"  # initial_backoff * n
    EXPONENTIAL = "exponential"  # initial_backoff * 2 ** (n - 1)


class RetryError(enum.Enum):
    """Which kinds of error are tried again."""

    ALL = "all"
    CANCELLED = "cancelled"  # RunCancelledError
    TIMEOUT = "timeout"  # NodeTimeoutError, and any other TimeoutError
    GENERIC = "generic"  # neither a time-out nor a cancellation


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when a failed step is tried again.

    Args:
        max_attempts: attempts in all, the first included; at least 1.
        initial_backoff: seconds before the second attempt.
        max_backoff: seconds; no wait is longer, but for its jitter. Not less than ``initial_backoff``.
        strategy: how the wait grows.
        retry_error: a kind, or a tuple of exception types.
        jitter: seconds; up to this much is taken at random and added to each wait, to the longest ones too: what
            waits for one service does not come back in one moment.

    Raises:
        ValueError: for a policy that makes no sense.
    """

    max_attempts: int = 3
    initial_backoff: float = 0.1
    max_backoff: float = 60.0
    strategy: BackoffStrategy = BackoffStrategy.EXPONENTIAL
    retry_error: RetryError | tuple[type[BaseException], ...] = RetryError.ALL
    jitter: float = 0.0

    def __post_init__(self) -> None:
        attempts = self.max_attempts
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            raise ValueError(f"max_attempts must be a whole number of at least 1, not {attempts!r}")
        for name in ("initial_backoff", "max_backoff", "jitter"):
            value = getattr(self, name)
            good = isinstance(value, int | float) and not isinstance(value, bool)
            if not good or value < 0 or math.isnan(value):
                raise ValueError(f"{name} must be seconds, 0 or more, not {value!r}")
        if self.initial_backoff > self.max_backoff:
            first, most = self.initial_backoff, self.max_backoff
            raise ValueError(
                f"initial_backoff ({first:g} s) is longer than max_backoff ({most:g} s), which no wait is longer than: "
                f"give it, too, as in max_backoff={first:g}"
            )
        if not isinstance(self.strategy, BackoffStrategy):
            raise ValueError(f"strategy must be a BackoffStrategy, not {self.strategy!r}")
        kinds = self.retry_error
        if not isinstance(kinds, RetryError) and not (
            isinstance(kinds, tuple) and all(isinstance(k, type) and issubclass(k, BaseException) for k in kinds)
        ):
            raise ValueError(f"retry_error must be a RetryError or a tuple of exception types, not {kinds!r}")

    def accepts(self, error: BaseException) -> bool:
        """Whether this kind of error is tried again at all."""
        kinds = self.retry_error
        if isinstance(kinds, tuple):
            return isinstance(error, kinds)
        if kinds is RetryError.ALL:
            return True
        timeout = isinstance(error, NodeTimeoutError | TimeoutError)
        cancelled = isinstance(error, RunCancelledError)
        if kinds is RetryError.TIMEOUT:
            return timeout
        return cancelled if kinds is RetryError.CANCELLED else not (timeout or cancelled)

    def backoff(self, failures: int, unit: float = 0.0) -> float:
        """Seconds to wait after ``failures`` failed attempts (1 or more).

        ``unit`` in [0, 1) chooses the jitter: the caller owns the randomness, so waits can be replayed.
        """
        if self.strategy is BackoffStrategy.LINEAR:
            wait = self.initial_backoff * failures
        else:
            wait = self.initial_backoff * 2.0 ** min(failures - 1, 1000)
        return min(wait, self.max_backoff) + self.jitter * unit
