"""Row 118: control characters of values never reach a terminal; row 116: what is shown of a run fits a page."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from floxide_mp import Coordinator, Join, NextAll, RunFailedError, Workflow, node
from floxide_mp.cli import formatting
from floxide_mp.texts import printable, printable_line

EVIL = "\x1b[2J\x1b]0;owned\x07\x1b[31mfloxide-mp: all is well\r\x9b31m\u202e\x00"


@node
def work(value: str) -> str:
    raise ValueError(f"cannot parse {value}")


@node
def many(n: int) -> NextAll[int]:
    return NextAll(range(n))


@node
def one(number: int) -> int:
    if number % 50 == 49:
        raise ValueError(number)
    return number


class Fails(Workflow):
    work = start = work


class Gathers(Workflow):
    many, one = many, one
    gather = Join()
    start = many
    edges = {many: [one], one: [gather]}


def shown(*arguments: str) -> str:
    command = [sys.executable, "-m", "floxide_mp", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8")
    return done.stdout + done.stderr


def clean(text: str) -> bool:
    return not any(c in text for c in EVIL if not c.isprintable())


def test_row_118_show_and_messages_have_escapes_in_their_place(tmp_path: Path) -> None:
    store = str(tmp_path / "runs.db")
    with pytest.raises(RunFailedError) as caught:
        Fails().run(EVIL, store=store, run_id="a")
    assert clean(str(caught.value))
    for command in (["show", "a"], ["show", "a", "--json"], ["runs"]):
        text = shown(*command, "--store", store)
        assert clean(text)
    assert "\\x1b[2J" in shown("show", "a", "--store", store)


def test_row_118_a_run_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(
        "from floxide_mp import Workflow, node\n"
        "@node\n"
        "def work(value):\n"
        "    if value:\n"
        "        raise ValueError(value)\n"
        f"    return type('Odd', (), {{'__repr__': lambda self: {EVIL!r}}})()\n"
        "class Evil(Workflow):\n"
        "    work = start = work\n"
    )
    import json

    for value in (EVIL, ""):
        command = [sys.executable, "-m", "floxide_mp", "evil", "--input", json.dumps(value), "--workers", "0"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, encoding="utf-8")
        assert clean(done.stdout + done.stderr)
        assert "\\x1b[2J" in done.stdout + done.stderr


def test_row_118_log_lines() -> None:
    record = logging.LogRecord("floxide_mp", logging.WARNING, "", 0, "worker says %s", (EVIL,), None)
    assert clean(formatting.LogLines("%(message)s").format(record))


def test_row_118_what_is_no_order_stays_as_it_is() -> None:
    assert printable("a\tb\nc é 漢 \U0001f600") == "a\tb\nc é 漢 \U0001f600"
    assert printable("\x1b\r\x7f\x85\u2028\udc80") == "\\x1b\\r\\x7f\\x85\\u2028\\udc80"
    assert printable_line("a\nb") == "a\\nb"


def test_row_116_show_counts_what_is_alike(tmp_path: Path) -> None:
    store = str(tmp_path / "runs.db")
    with Coordinator(0, store) as coordinator, pytest.raises(RunFailedError):
        coordinator.start(Gathers, 3000, run_id="a", failure="finish").wait()
    text = shown("show", "a", "--store", store)
    assert "  gather: 2940 values arrived, and it waits" in text
    assert text.count("\n") < 200
    assert "... and 41 more" in text  # of 60 items and a line for the join
    assert "... and 50 more" in text  # of the errors
