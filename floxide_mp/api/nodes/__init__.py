"""Nodes that come with the package. Their meaning in the graph is the core's; here is what a user writes."""

from __future__ import annotations

from .batch import BatchNode
from .composite import CompositeNode
from .join import Arrivals, Join
from .split import SplitNode

__all__ = ["Arrivals", "BatchNode", "CompositeNode", "Join", "SplitNode"]
