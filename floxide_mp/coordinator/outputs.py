"""Outputs of a run, in the process that asks for them: their payloads, and how each of them is opened."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, TypeAlias

from ..core.records import OutputChunk, OutputRecord
from ..core.types import Payload
from ..wire import codec

Sealed: TypeAlias = tuple[Payload, str]
"""An output that is not opened yet, and the node that returned it."""


def payloads(output: OutputRecord | OutputChunk) -> list[Payload]:
    """What is in a record of outputs."""
    return output.payloads if isinstance(output, OutputChunk) else [output.payload]


def opened(payload: Payload, run_id: str, which: str, node: str) -> Any:
    """An output. What it raises when it is opened has a note of where it is from."""
    try:
        return codec.decode(payload)
    except Exception as error:
        error.add_note(
            f"{which} of run {run_id}, which {node} returned, cannot be opened here: the run and its other outputs are "
            "whole, and the iterator of run.stream() goes on behind it if it is asked again; once what this one needs "
            "can be imported again (a module or class under its old name), it opens"
        )
        raise


class OutputStream(Iterator[Any]):
    """What ``Run.stream`` returns. Whoever wants to may pass over an output that cannot be opened: unlike a
    generator's, the next ``next()`` gives the output behind it. Whatever else is raised ends it.

    Args:
        run_id: whose.
        sealed: the outputs as they are committed; ends with the run.
    """

    def __init__(self, run_id: str, sealed: Generator[Sealed, None, None]) -> None:
        self._run_id, self._sealed = run_id, sealed
        self._seen = 0

    def __next__(self) -> Any:
        payload, node = next(self._sealed)
        self._seen += 1
        try:
            which = f"output {self._seen - 1} of the stream (counted from 0)"
            return opened(payload, self._run_id, which, node)
        except Exception:
            raise
        except BaseException:  # Ctrl-C: who goes on after it would miss this output without a word
            self.close()
            raise

    def close(self) -> None:
        """Whoever is done with it before its end may say so; it gives nothing any more."""
        self._sealed.close()
