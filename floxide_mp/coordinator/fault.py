"""``Fault``: what breaks a run, as it is kept of it. Drawn up in the coordinator's process where no lock is held: what
was raised may be anybody's, and is opened and asked for its text here.
"""

from __future__ import annotations

import traceback
from typing import NamedTuple

from ..core.types import ErrorRecord
from ..errors import StoreError
from ..wire import codec


class Fault(NamedTuple):
    """What breaks a run: the error, and the record of it, which is drawn up where no lock is held."""

    error: BaseException
    record: ErrorRecord


def fault_of(error: BaseException) -> Fault:
    """Opens and asks the error, which may be anybody's."""
    # The text of a store's error says it all: where in this package it was raised helps nobody.
    text = "" if isinstance(error, StoreError) else "".join(traceback.format_exception(error))
    return Fault(error, codec.encode_error(error, text))
