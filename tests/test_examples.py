"""The examples do what they say, run as a user runs them."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.audit import Audit, Request
from examples.parallel import BranchB, Counter, Ctx, Job, Parallel
from floxide_mp import RunFailedError

from .soak_parallel import EXPECTED, ROOT, once


def example(*arguments: str, timeout: float = 55) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONHASHSEED": "1"}  # without one, loops of one's own are warned of theirs
    return subprocess.run(
        [sys.executable, "-m", "floxide_mp", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


def test_parallel_ten_times_in_a_row(tmp_path: Path) -> None:
    for _ in range(10):
        once(tmp_path)


def test_parallel_inline_prints_the_same() -> None:
    done = example("examples.parallel", "--workers", "0")
    assert EXPECTED.fullmatch(done.stdout), done.stdout


def test_parallel_told_to_fail() -> None:
    done = example("examples.parallel", "--input", '{"fail": true}')
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "floxide-mp: run run1 failed at branch_b (item 4, attempt 1): FloxideError: branch_b was told to fail; "
        "input: Job(fail=True)\n"
    )


def test_own_loop_prints_the_lines_of_the_seed_example() -> None:
    """And each of its two processes has one branch."""
    for _ in range(5):
        done = example("examples.own_loop")
        assert EXPECTED.fullmatch(done.stdout), done
        assert {line.split()[1] for line in done.stdout.splitlines()[:2]} == {"0", "1"}
        assert done.stderr == ""


def test_own_loop_beside_other_workers() -> None:
    done = example("examples.own_loop", "--workers", "2")
    anyone = EXPECTED.pattern.replace("[01]", r"\d")  # the loops' numbers are behind those of the worker processes
    assert re.fullmatch(anyone, done.stdout), done.stdout
    assert done.stderr == ""


def test_row_149_own_loop_told_to_fail() -> None:
    done = example("examples.own_loop", "--input", '{"fail": true}')
    assert (done.returncode, done.stdout) == (1, "")
    called, said = done.stderr.splitlines()
    assert re.fullmatch(r"worker [01]: branch_b of run run1, attempt 1: branch_b was told to fail", called)
    where = "floxide-mp: run run1 failed at branch_b (item 4, attempt 1)"
    assert said == f"{where}: FloxideError: branch_b was told to fail; input: Job(fail=True)"


def test_parallel_refuses_an_input_that_it_does_not_know() -> None:
    done = example("examples.parallel", "--input", '{"fial": true}')
    assert done.returncode == 2
    assert "argument --input: " in done.stderr and "'fial'" in done.stderr


@pytest.mark.parametrize("workers", [0, 2])
def test_parallel_from_a_program(workers: int) -> None:
    result = Parallel().run(Job(), ctx=Ctx(Counter(100)), workers=workers)
    assert result.outputs == ["branch_a_success", "branch_b_success"]
    assert result.context.local_counter == Counter(127)
    assert set(result.workers) <= set(range(max(1, workers)))
    with pytest.raises(RunFailedError) as failed:
        Parallel(branch_b=BranchB()).run(Job(fail=True), workers=workers)
    assert (failed.value.node, str(failed.value.__cause__)) == ("branch_b", "branch_b was told to fail")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files of several kinds, two of them alike, some that are left out, and some that cannot be read."""
    make: dict[str, Callable[[Path], object]] = {
        "b/one.txt": lambda p: p.write_text("one\ntwo\n"),
        "a/copy.txt": lambda p: p.write_text("one\ntwo\n"),
        "a/code.py": lambda p: p.write_text("print()\n" * 1000),
        "README": lambda p: p.write_text("no end of line"),
        "empty.txt": lambda p: p.touch(),
        "empty too.txt": lambda p: p.touch(),
        "dead link": lambda p: p.symlink_to("nowhere"),
        "loop.txt": lambda p: p.symlink_to("loop.txt"),
        "__pycache__/code.pyc": lambda p: p.write_text("left out"),
        "pipe": lambda p: os.mkfifo(p),
    }
    for name, write in make.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "tree" / "socket"))
    return tmp_path / "tree"


def test_audit_of_a_small_directory(tree: Path) -> None:
    inline, workers = (example("examples.audit", "--input", f'"{tree}"', "--workers", count) for count in ("0", "2"))
    assert inline.returncode == workers.returncode == 0, workers.stderr
    assert inline.stdout == workers.stdout
    assert inline.stderr == workers.stderr == ""
    table, rest = inline.stdout.split("\n")[:5], inline.stdout.split("\n")[5:]
    assert [line.split()[:4] for line in table[1:]] == [
        ["(none)", "1", "0", "14"],
        [".py", "1", "1,000", "8,000"],
        [".txt", "4", "4", "16"],
        ["all", "6", "1,004", "8,030"],
    ]
    digest = hashlib.sha256(b"one\ntwo\n").hexdigest()
    assert rest == [
        "1 files are there more than once, which takes 8 bytes",
        f"  {digest[:12]} a/copy.txt = b/one.txt",
        "2 files could not be read",
        "  dead link: No such file or directory",
        "  loop.txt: Too many levels of symbolic links",
        "",
    ]


def test_audit_of_a_part_of_the_standard_library() -> None:
    here = os.path.dirname(ast.__file__)
    ask = f'{{"directory": "{here}", "limit": 120}}'
    inline, workers = (example("examples.audit", "--input", ask, "--workers", count) for count in ("0", "2"))
    assert inline.returncode == workers.returncode == 0, workers.stderr
    assert inline.stdout == workers.stdout
    assert " 120 " in inline.stdout.partition("\nall")[2].partition("\n")[0]


def test_audit_fails_where_the_error_is_not_the_files(tree: Path) -> None:
    from floxide_mp import node

    @node
    def measure(file: object) -> object:
        raise ValueError("a mistake")

    with pytest.raises(RunFailedError, match=r"unreadable .*a mistake"):
        Audit(measure=measure).run(Request(str(tree)))


def test_audit_of_no_directory() -> None:
    done = example("examples.audit", "--input", '"/nowhere"')
    assert (done.returncode, done.stderr) == (2, "floxide-mp: argument --input: there is no directory /nowhere\n")
