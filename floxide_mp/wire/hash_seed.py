"""The seed of ``hash(text)`` that the processes of a run have in common: drawn in the coordinator's process, and
compared in each that works on the run.

Python draws a seed for each process, unless ``PYTHONHASHSEED`` gives it: so the order of a set of texts, or a text's
part by ``hash(text) % n``, would be another in each worker. Whether a process has the one that its run began with shows
in what a fixed text hashes to, the *probe*. What the environment says need not hold: it may have been changed since.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from typing import Final

NAME: Final = "PYTHONHASHSEED"
_MOST: Final = 2**32 - 1  # the largest that Python takes
_TEXT: Final = "what the hash of a text is in this process"
_ROUNDS: Final = {"siphash13": (1, 3), "siphash24": (2, 4)}
_WORD: Final = 2**64 - 1


def given() -> int | None:
    """The seed that the user has in the environment; None: there is none, or it is "random"."""
    text = os.environ.get(NAME, "")
    return int(text) if text.isascii() and text.isdigit() and int(text) <= _MOST else None


def drawn() -> int:
    """The seed that the user has in the environment, or a new one by chance: a whole number from 0 to 2**32 - 1."""
    seed = given()
    return int.from_bytes(os.urandom(4), "little") if seed is None else seed


def probe() -> int:
    """What tells the hashes of this process from those of others: half of one, which leaves the secret a secret."""
    return hash(_TEXT) & _MOST


@lru_cache(16)
def probe_of(seed: int) -> int | None:
    """The probe of a process with that seed; None: this Python hashes texts in another way."""
    rounds = _ROUNDS.get(sys.hash_info.algorithm)
    if rounds is None or sys.hash_info.width != 64 or sys.byteorder != "little":
        return probe() if given() == seed else None
    key = bytearray()
    state = seed
    for _ in range(16):
        state = (state * 214013 + 2531011) & _MOST
        key.append((state >> 16) & 0xFF if seed else 0)
    value = _siphash(bytes(key), _TEXT.encode(), *rounds)
    return (value if value != _WORD else _WORD - 1) & _MOST  # no hash is -1


def expected(seed: int | None, began: int | None) -> int | None:
    """The probe that processes should have that work on a run of that seed, or that ``began`` without; None: any."""
    return began if began is not None or seed is None else probe_of(seed)


def warning(run_id: str, seed: int | None, began: int | None) -> str | None:
    """What to say where this process has other hashes than the run began with; None: it has the same."""
    if expected(seed, began) in (None, probe()):
        return None
    what = "hash(text) and the order of sets are not in all of its processes as they were where it began"
    return f"run {run_id!r}: {what}, so a step that hangs on them may be wrong; {advice(seed, began)}"


def advice(seed: int | None, began: int | None) -> str:
    """What to do about it."""
    if began is None and seed is not None:
        how = f"start the program, and with it its own loops and pools, with {NAME}={seed} in the environment"
        return f"{how}, or leave it to the coordinator's own workers, which have that seed"
    return (
        f"it began in a process without {NAME}, whose hashes no other process can have: if it matters, start it again "
        f"under another run_id, the program and with it its own loops and pools with {NAME}=0 in the environment"
    )


def _siphash(key: bytes, data: bytes, each: int, last: int) -> int:
    """SipHash (Aumasson, Bernstein), as Python takes it for texts."""
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]
    data += bytes(-(len(data) + 1) % 8) + bytes((len(data) & 0xFF,))
    for at in range(0, len(data), 8):
        word = int.from_bytes(data[at : at + 8], "little")
        v[3] ^= word
        _mix(v, each)
        v[0] ^= word
    v[2] ^= 0xFF
    _mix(v, last)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def _mix(v: list[int], rounds: int) -> None:
    for _ in range(rounds):
        for a, b, turn, half in ((0, 1, 13, True), (2, 3, 16, False), (0, 3, 21, False), (2, 1, 17, True)):
            v[a] = (v[a] + v[b]) & _WORD
            v[b] = ((v[b] << turn) | (v[b] >> (64 - turn))) & _WORD ^ v[a]
            if half:
                v[a] = ((v[a] << 32) | (v[a] >> 32)) & _WORD
