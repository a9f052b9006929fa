"""Workflows that drive the coordinator themselves from the command line, by ``cli_run``."""

from __future__ import annotations

import os
import signal
import textwrap
from pathlib import Path

import pytest

from .test_main import LIMIT, SLOW, appears, ends, floxide, refused, shell, started, write

DRIVEN = """
    from floxide_mp import Workflow, node

    @node
    def half(n: int):
        if n % 2:
            raise ValueError(f"{n} is odd")
        return n // 2

    class Halves(Workflow):
        half = half
        start = half

        @staticmethod
        def cli_input(value):
            return [int(n) for n in value]

        @staticmethod
        def cli_run(coordinator, numbers):
"""


def driven(place: Path, body: str) -> Path:
    """A module ``driven`` whose workflow has ``body`` as its ``cli_run``."""
    path = write(place, "driven.py", DRIVEN)
    path.write_text(path.read_text() + textwrap.indent(textwrap.dedent(body), " " * 8))
    return path


EACH = """
    for n in numbers:
        yield f"{n}: {coordinator.start(Halves, n, run_id=f'half-{n}').wait().output}"
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_workflow_may_drive_the_coordinator_itself(tmp_path: Path, workers: str) -> None:
    driven(tmp_path, EACH)
    done = floxide(tmp_path, "driven", "--input", '["4", 10]', "--workers", workers, "-v")
    assert (done.returncode, done.stdout) == (0, "4: 2\n10: 5\n")
    said = [line.partition(" after ")[0] for line in done.stderr.splitlines()]
    assert said == ["floxide-mp: run half-4 completed", "floxide-mp: run half-10 completed"]
    assert "argument --input: " in refused(tmp_path, "driven", "--input", '["x"]')
    text = refused(tmp_path, "driven", "--input", "[]", "--run-id", "mine")
    assert "argument --run-id: Halves.cli_run names its runs itself" in text


@pytest.mark.parametrize(
    ("body", "out"),
    [("return 'a line'", "a line\n"), ("return ['a', 'b']", "a\nb\n"), ("coordinator.runs()", "")],
    ids=["a line", "a list", "nothing"],
)
def test_cli_run_need_not_be_a_generator(tmp_path: Path, body: str, out: str) -> None:
    driven(tmp_path, body)
    done = floxide(tmp_path, "driven", "--input", "[]", "--workers", "0")
    assert (done.returncode, done.stdout, done.stderr) == (0, out, "")


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_failed_run_that_leaves_cli_run_is_told_like_any_other(tmp_path: Path, workers: str) -> None:
    flow = driven(tmp_path, EACH)
    done = floxide(tmp_path, "driven", "--input", "[4, 5, 6]", "--workers", workers)
    assert (done.returncode, done.stdout) == (1, "4: 2\n")
    assert done.stderr == (
        "floxide-mp: run half-5 failed at half (item 1, attempt 1): ValueError: 5 is odd; input: 5\n"
        "in the worker:\n"
        "Traceback (most recent call last):\n"
        f'  File "{flow}", line 7, in half\n'
        '    raise ValueError(f"{n} is odd")\n'
        "ValueError: 5 is odd\n"
    )


def test_a_cancelled_run_and_one_out_of_time_that_leave_cli_run_are_told_in_a_line(tmp_path: Path) -> None:
    driven(tmp_path, "run = coordinator.start(Halves, 2, run_id='r')\nrun.cancel()\nrun.wait()\n")
    done = floxide(tmp_path, "driven", "--input", "[]", "--workers", "0")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "floxide-mp: run r was cancelled\n")
    driven(tmp_path, "from floxide_mp import RunTimeoutError\nraise RunTimeoutError('run r took longer than 1 s')")
    done = floxide(tmp_path, "driven", "--input", "[]", "--workers", "0")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "floxide-mp: run r took longer than 1 s\n")


@pytest.mark.parametrize(
    ("body", "last"),
    [
        ("yield 1 / 0", "ZeroDivisionError: division by zero"),
        ("yield 'a line'\nraise OSError('cannot go on')", "OSError: cannot go on"),
        ("yield coordinator.run('nosuch').wait()", "floxide_mp.errors.NotStartedError: "),
    ],
    ids=["raises", "raises an OSError", "misuses the coordinator"],
)
def test_a_mistake_in_cli_run_shows_its_traceback(tmp_path: Path, body: str, last: str) -> None:
    flow = driven(tmp_path, body)
    done = floxide(tmp_path, "driven", "--input", "[]", "--workers", "0")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):" and lines[-1].startswith(last)
    assert lines[1].startswith(f'  File "{flow}"')


def test_cli_run_that_makes_a_graph_that_cannot_work(tmp_path: Path) -> None:
    driven(tmp_path, "Workflow.build('Made', nodes={'half': half}, start='hafl')")
    text = floxide(tmp_path, "driven", "--input", "[]", "--workers", "0")
    assert (text.returncode, text.stdout) == (2, "")
    assert "workflow Made cannot work:" in text.stderr and "Traceback" not in text.stderr


DRIVEN_SLOW = (
    SLOW
    + """
        @staticmethod
        def cli_run(coordinator, count):
            coordinator.start(Slow, 0, run_id="over").wait()
            yield "begun"
            coordinator.start(Slow, count, run_id="r").wait()
            yield "done"
"""
)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_lines_of_cli_run_are_there_before_it_goes_on(tmp_path: Path, workers: str) -> None:
    write(tmp_path, "slow.py", DRIVEN_SLOW)
    with started(tmp_path, "slow", "--input", "1", "--workers", workers) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"  # while the step still waits
        appears(tmp_path / "entered-0")
        (tmp_path / "go-0").touch()
        assert process.communicate(timeout=LIMIT) == ("done\n", "")
    assert process.returncode == 0


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_signal_ends_the_runs_of_cli_run_in_order(tmp_path: Path, workers: str) -> None:
    write(tmp_path, "slow.py", DRIVEN_SLOW)
    busy = max(1, int(workers))
    with started(tmp_path, "slow", "--input", "9", "--workers", workers) as process:
        pids = [int(appears(tmp_path / f"entered-{n}")) for n in range(busy)]
        os.killpg(process.pid, signal.SIGTERM)
        assert process.stderr is not None
        process.stderr.readline()
        for n in range(busy):
            (tmp_path / f"go-{n}").touch()
        out, err = process.communicate(timeout=LIMIT)
    for pid in pids:
        ends(pid)
    assert (process.returncode, out) == (143, "begun\n")
    left = 9 - busy
    assert err == f"floxide-mp: run r was stopped by SIGTERM: {1 + busy} steps are done, {left} are left\n"


def test_row_28_a_reader_that_leaves(tmp_path: Path) -> None:
    # The lines would never end: that it ends at all shows that it was not driven on.
    driven(tmp_path, "run = coordinator.start(Halves, 2)\nwhile True:\n    yield str(run.wait().output)\n")
    done = shell(tmp_path, "floxide driven --input '[]' --workers 1 | head -2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n1\n", "")
