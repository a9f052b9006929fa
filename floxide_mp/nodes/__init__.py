"""Nodes that come with the package. Their meaning in the graph is the core's; here is what a user writes."""

from __future__ import annotations

from .join import Arrivals, Join

__all__ = ["Arrivals", "Join"]
