"""Values that come one by one while the run is on: a ``source`` is a channel that a run takes its inputs from.

    python -m floxide_mp examples.timer
    python -m floxide_mp examples.timer --input '[20.5, 30.5]'

A thread sends a reading every now and then, as a timer or a socket would. Each becomes an item of the start node. A
full channel makes the sender wait; the run ends after the channel is closed, when the last item is done. (By
``readings.run(Station)`` each value would be a run of its own.)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress

from floxide_mp import Coordinator, FloxideError, Sender, Workflow, node, source

EVERY = 0.02  # seconds


@node
def fahrenheit(celsius: float) -> float:
    return celsius * 9 / 5 + 32


@node
def describe(degrees: float) -> str:
    return f"{degrees:.1f} °F{' !' if degrees > 86 else ''}"


def thermometer(sender: Sender[float], readings: list[float]) -> None:
    with suppress(FloxideError), sender:  # closes the channel at the end; sending raises when the run is over
        for reading in readings:
            time.sleep(EVERY)
            sender.send(reading)


class Station(Workflow):
    fahrenheit, describe = fahrenheit, describe

    start = fahrenheit
    edges = {fahrenheit: [describe]}

    cli_defaults = {"input": [18.0, 21.5, 29.5, 30.5, 24.0]}

    @staticmethod
    def cli_run(coordinator: Coordinator, values: list[float]) -> Iterator[str]:
        sender, readings = source(capacity=3)
        thread = threading.Thread(target=thermometer, args=(sender, values))
        thread.start()
        run = coordinator.start(Station, readings)
        yield from run.wait().outputs
        thread.join()
