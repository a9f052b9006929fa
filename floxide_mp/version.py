"""The version of this package, for those who must not import all of it."""

from __future__ import annotations

from typing import Final

__version__: Final = "0.1.0"
