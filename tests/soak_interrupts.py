"""Ctrl-C before 20,000 bytecodes, drawn at random, of start, wait, stream, source, close and the rest, inline and on
processes: ``python tests/soak_interrupts.py 20000 [SEED] [CASE ...]``. What fails names case and bytecodes. Instead of
one in ten, another signal, whose handler raises something else.
"""

from __future__ import annotations

import gc
import logging
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.interrupting import cases, interrupt

WEIGHTS = {"0": 10, "1": 1}  # inline there is no process to be started


def main() -> None:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where a shell has put this into the background
    logging.getLogger("floxide_mp").setLevel(logging.CRITICAL)
    print(f"seed {seed}", flush=True)
    gc.collect()
    gc.freeze()  # each check collects: what was imported is not looked at
    with tempfile.TemporaryDirectory() as folder:
        chosen = [case for case in cases(Path(folder)) if not sys.argv[3:] or case[0] in sys.argv[3:]]
        weights = [WEIGHTS["0" if "-0" in name else "1"] for name, _ in chosen]
        for (name, make), weight in zip(chosen, weights, strict=True):
            began = time.monotonic()
            count = max(1, times * weight // sum(weights))
            others = count // 10
            seen = interrupt(make(), count - others, random.Random(f"{seed} {name}"))
            seen += interrupt(make(), others, random.Random(f"{seed} {name} other"), signal.SIGUSR1)
            print(f"{name:24} {count:6} times, {dict(seen)}, {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
