"""The clocks, and nothing else. ``monotonic`` is one clock for all processes of the machine (CLOCK_MONOTONIC);
``process_time`` is the CPU time that this process has used.
"""

from __future__ import annotations

from time import monotonic, monotonic_ns, process_time, sleep, time

__all__ = ["monotonic", "monotonic_ns", "process_time", "sleep", "time"]
