"""The clocks, and nothing else. ``monotonic`` is one clock for all processes of the machine (CLOCK_MONOTONIC)."""

from __future__ import annotations

from time import monotonic, monotonic_ns, sleep, time

__all__ = ["monotonic", "monotonic_ns", "sleep", "time"]
