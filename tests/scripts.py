"""Programs as a user runs them: in an interpreter of their own, where what they define is of ``__main__``."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIMIT = 50.0


def run_python(
    arguments: list[str], text: str | None, folder: Path, before: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """What becomes of an interpreter in that folder, which reads the text; ``before``: the command that starts it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FOLDER": str(folder)}
    environment.pop("PYTHONSTARTUP", None)
    return subprocess.run(
        [*before, sys.executable, *arguments],
        input=text,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )


def printed(script: str, folder: Path, stdin: bool = False) -> str:
    """What a script prints that fails nowhere and warns of nothing."""
    text = textwrap.dedent(script)
    (folder / "script.py").write_text(text)
    done = run_python(["-W", "error", "-" if stdin else "script.py"], text if stdin else None, folder)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# -- what has something mounted of its own --------------------------------------------------------------------------

NAMESPACE = ("unshare", "--mount", "--propagation", "private")


def _can_mount() -> bool:
    try:
        done = subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


mounting = pytest.mark.skipif(not _can_mount(), reason="needs the right to mount, in a namespace of its own")


def having(mount: str) -> tuple[str, ...]:
    """The command that starts another, once it has mounted something that only that one sees."""
    return (*NAMESPACE, "sh", "-c", f'{mount} && exec "$@"', "sh")


SMALL_SHM = having("mount -t tmpfs -o size=64k none /dev/shm")
