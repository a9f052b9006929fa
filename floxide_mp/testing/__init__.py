"""How someone else proves that their store does what ours does."""

from .stores import STORE_CHECKS, check_store

__all__ = ["STORE_CHECKS", "check_store"]
