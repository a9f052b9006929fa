"""The command line as a user has it: real processes, pipes and signals. Rows are those of FAULTS."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT = 50.0  # seconds, for anything; nothing here takes more than a few

NUMBERS = """
    from floxide_mp import NextAll, Workflow, node

    @node
    def spread(count: int):
        print("spreading")
        return NextAll(range(count or 0))

    @node
    def double(n: int):
        print("doubling")
        return 2 * n

    class Numbers(Workflow):
        spread, double = spread, double
        start = spread
        edges = {spread: [double]}
"""

# Its nodes tell that they are entered by a file with their process's number, and then wait for a file of their own.
SLOW = """
    import os, time
    from pathlib import Path
    from floxide_mp import NextAll, Workflow, node

    @node
    def spread(count: int):
        return NextAll(range(count))

    @node
    def wait(n: int):
        Path(f"entered-{n}.part").write_text(str(os.getpid()))
        Path(f"entered-{n}.part").rename(f"entered-{n}")
        while not Path(f"go-{n}").exists():
            time.sleep(0.01)
        Path(f"left-{n}").touch()

    class Slow(Workflow):
        spread, wait = spread, wait
        start = spread
        edges = {spread: [wait]}
"""


def write(place: Path, name: str, text: str) -> Path:
    path = place / name
    path.write_text(textwrap.dedent(text))
    return path


def environment() -> dict[str, str]:
    # With a hash seed: a run that goes on inline in another program without one is warned of.
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "1"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "floxide_mp", *arguments]


def floxide(place: Path, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        command(*arguments), cwd=place, env=environment(), capture_output=True, text=True, timeout=LIMIT, **options
    )


def refused(place: Path, *arguments: str) -> str:
    """What is said to a user whose command cannot be done."""
    done = floxide(place, *arguments)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2, done.stderr
    assert done.stderr.startswith("floxide-mp: ")
    return done.stderr


def appears(path: Path) -> str:
    end = time.monotonic() + LIMIT
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} does not appear"
        time.sleep(0.01)
    return path.read_text()


def ends(pid: int) -> None:
    """Wait for the end of a process that is no child of this one."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], LIMIT)[0], f"process {pid} lives on"
    finally:
        os.close(descriptor)


@contextmanager
def started(place: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command line in a process group of its own, as a shell starts it."""
    with subprocess.Popen(
        command(*arguments),
        cwd=place,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


# -- what it does -------------------------------------------------------------------------------------------------


def test_outputs_are_lines_in_order_and_everything_else_is_on_standard_error(tmp_path: Path) -> None:
    write(tmp_path, "numbers_flow.py", NUMBERS)
    inline, workers = (floxide(tmp_path, "numbers_flow", "--input", "5", "--workers", count) for count in ("0", "2"))
    assert inline.returncode == workers.returncode == 0
    assert inline.stdout == workers.stdout == "0\n2\n4\n6\n8\n"
    assert sorted(inline.stderr.splitlines()) == sorted(workers.stderr.splitlines()) == ["doubling"] * 5 + ["spreading"]


def test_an_output_is_json_or_else_its_repr_on_one_line(tmp_path: Path) -> None:
    write(
        tmp_path,
        "kinds.py",
        """
        from floxide_mp import NextAll, Workflow, node

        @node
        def values():
            return NextAll([None, {"a": [1, "é"]}, "two\\nlines", float("nan"), {3}, b"x", "\\udcff"])

        class Kinds(Workflow):
            values = values
            start = values
        """,
    )
    done = floxide(tmp_path, "kinds", "--workers", "0", encoding="utf-8")
    assert done.stdout.splitlines() == [
        "null", '{"a": [1, "é"]}', r'"two\nlines"', "nan", "{3}", "b'x'", r'"\udcff"'
    ]  # fmt: skip


def test_a_file_is_run_by_its_path_and_its_workers_can_import_it(tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    place.mkdir()
    write(place, "helper.py", "def half(n): return n / 2")
    write(
        place,
        "flow.py",
        """
        import helper
        from floxide_mp import Workflow, node

        class Value:
            def __init__(self, n): self.n = n
            def __repr__(self): return f"{__name__}.Value({self.n})"

        @node
        def first(n):
            return Value(helper.half(n))

        class One(Workflow):
            first = first
            start = first

        class Two(One):
            pass
        """,
    )
    done = floxide(tmp_path, "elsewhere/flow.py:Two", "--input", "3", "--workers", "1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "flow.Value(1.5)\n", "")


def test_the_console_script_finds_modules_in_the_current_directory(tmp_path: Path) -> None:
    write(tmp_path, "numbers_flow.py", NUMBERS)
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    script = write(bin_directory, "floxide-mp", "import sys\nfrom floxide_mp.cli.main import main\nsys.exit(main())\n")
    done = subprocess.run(
        [sys.executable, script, "run", "numbers_flow", "--input", "2", "--workers", "1"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "0\n2\n"), done.stderr


def test_a_workflow_may_say_how_it_is_run_from_here(tmp_path: Path) -> None:
    write(
        tmp_path,
        "told.py",
        """
        import os
        from floxide_mp import Workflow, node

        @node
        def where(ctx, value):
            return ctx.item.run_id, value, os.getpid()

        class Told(Workflow):
            where = where
            start = where
            cli_defaults = {"workers": 0, "run_id": "given", "input": 4}

            @staticmethod
            def cli_input(value):
                if value < 0:
                    raise ValueError("a number of 0 or more is needed")
                return value + 1

            @staticmethod
            def cli_report(result):
                run_id, value, pid = result.output
                yield f"{run_id} {value}"
                yield str(pid == os.getpid())
        """,
    )
    assert floxide(tmp_path, "told").stdout == "given 5\nTrue\n"
    said = floxide(tmp_path, "told", "--run-id", "mine", "--input", "7", "--workers", "1")
    assert said.stdout == "mine 8\nFalse\n"
    assert "argument --input: a number of 0 or more is needed" in refused(tmp_path, "told", "--input", "-1")


def test_a_failed_run_names_where_and_shows_the_workers_traceback(tmp_path: Path) -> None:
    flow = write(
        tmp_path,
        "failing.py",
        """
        from floxide_mp import Workflow, node

        @node
        def divide(n):
            return 1 / n

        class Failing(Workflow):
            divide = divide
            start = divide
        """,
    )
    for workers in ("0", "1"):
        done = floxide(tmp_path, "failing", "--input", "0", "--workers", workers, "--run-id", "r", "-q")
        assert (done.returncode, done.stdout) == (1, "")
        first, *rest = done.stderr.splitlines()
        where = "run r failed at divide (item 1, attempt 1)"
        assert first == f"floxide-mp: {where}: ZeroDivisionError: division by zero; input: 0"
        assert rest[:3] == [
            "in the worker:",
            "Traceback (most recent call last):",
            f'  File "{flow}", line 6, in divide',
        ]
        assert rest[-1] == "ZeroDivisionError: division by zero"


def test_a_report_that_fails_shows_only_the_users_frames(tmp_path: Path) -> None:
    write(
        tmp_path,
        "reporting.py",
        """
        from floxide_mp import Workflow, node

        @node
        def one():
            return 1

        class Reporting(Workflow):
            one = one
            start = one

            @staticmethod
            def cli_report(result):
                yield "a line"
                raise OSError("cannot report")

        class Odd:
            def __repr__(self):
                raise OSError("cannot report")

        @node
        def odd():
            return Odd()

        class Unprintable(Workflow):
            odd = odd
            start = odd
        """,
    )
    for name, out in (("Reporting", "a line\n"), ("Unprintable", "")):
        done = floxide(tmp_path, f"reporting:{name}", "--workers", "0")
        assert (done.returncode, done.stdout) == (1, out)
        assert done.stderr.endswith("OSError: cannot report\n")
        assert done.stderr.count("Traceback") == 1 and str(ROOT) not in done.stderr


def test_loudness(tmp_path: Path) -> None:
    write(
        tmp_path,
        "dying.py",
        """
        import os
        from floxide_mp import Workflow, node

        @node
        def die_once(ctx, value):
            if ctx.item.attempt == 1:
                os.abort()

        class Dying(Workflow):
            die_once = die_once
            start = die_once
        """,
    )
    quiet, normal, verbose = (floxide(tmp_path, "dying", "--workers", "1", *more) for more in (["-q"], [], ["-v"]))
    assert quiet.returncode == normal.returncode == verbose.returncode == 0
    assert quiet.stderr == ""
    assert "SIGABRT" in normal.stderr and "completed" not in normal.stderr
    assert "completed after" in verbose.stderr and "1 tried again" in verbose.stderr


def test_help_and_version(tmp_path: Path) -> None:
    shown = floxide(tmp_path, "--help")
    assert shown.returncode == 0 and "MODULE[:NAME]" in shown.stdout
    assert floxide(tmp_path, "--version").stdout.startswith("floxide-mp ")
    assert "--help" in refused(tmp_path)
    assert "unrecognized arguments: --nonsense" in refused(tmp_path, "numbers_flow", "--nonsense")


# -- wrong input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["-1", "x", "1.5", "True", "", "٣"])
def test_row_62_workers_that_make_no_sense(tmp_path: Path, workers: str) -> None:
    text = refused(tmp_path, "examples.parallel", f"--workers={workers}")
    assert f"argument --workers: a whole number is needed, 0 (no processes) or more, not {workers!r}" in text


def test_row_62_defaults_that_make_no_sense(tmp_path: Path) -> None:
    text = NUMBERS + "        cli_defaults = {'workers': True}\n"
    write(tmp_path, "numbers_flow.py", text)
    assert "workers must be a whole number" in refused(tmp_path, "numbers_flow")
    write(tmp_path, "numbers_flow.py", text.replace("workers", "wrokers"))
    assert "cli_defaults is a dict with keys of input, run_id, workers" in refused(tmp_path, "numbers_flow")


def test_row_63_run_ids_that_make_no_sense(tmp_path: Path) -> None:
    write(tmp_path, "numbers_flow.py", NUMBERS)
    for run_id in ("", "two\nlines", "x" * 201):
        assert "run_id must be a line" in refused(tmp_path, "numbers_flow", "--workers", "0", "--run-id", run_id)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON: Expecting"),
        ("", "not JSON"),
        ("word", "a text needs quotes of its own: --input '\"word\"'"),
        ("two words.json", "a text needs quotes of its own: --input '\"two words.json\"'"),
        ("@nosuch.json", "nosuch.json cannot be read: No such file or directory"),
        ("[" * 9999, "not JSON"),
    ],
    ids=["half", "empty", "bare word", "bare text", "no file", "deep"],
)
def test_input_that_is_not_json(tmp_path: Path, text: str, said: str) -> None:
    assert f"argument --input: {said}" in refused(tmp_path, "examples.parallel", "--input", text).replace(
        "not JSON: Expecting value: line 1 column 1 (char 0); ", ""
    )


def test_input_from_a_file_and_from_standard_input(tmp_path: Path) -> None:
    write(tmp_path, "numbers_flow.py", NUMBERS)
    write(tmp_path, "input.json", "5")
    given = floxide(tmp_path, "numbers_flow", "--input", "5", "--workers", "0")
    assert floxide(tmp_path, "numbers_flow", "--input", "@input.json", "--workers", "0").stdout == given.stdout
    assert floxide(tmp_path, "numbers_flow", "--input", "-", "--workers", "0", input="5").stdout == given.stdout
    write(tmp_path, "input.json", "{")
    assert "argument --input: input.json: not JSON: Expecting" in refused(
        tmp_path, "numbers_flow", "--input", "@input.json"
    )


def test_row_64_a_command_that_is_not_there(tmp_path: Path) -> None:
    write(tmp_path, "orders.py", NUMBERS)
    for words in (["cancel", "d"], ["shwo", "r", "--store", "runs.db"]):
        text = refused(tmp_path, *words)
        assert f"there is no command {words[0]!r}" in text and "commands: run, resume, runs, show, " in text
    assert "did you mean 'show'?" in text
    assert "unrecognized arguments: d" in refused(tmp_path, "orders", "d")


def test_row_64_modules_that_are_not_there(tmp_path: Path) -> None:
    write(tmp_path, "orders.py", NUMBERS)
    assert "there is no module 'nosuch'" in refused(tmp_path, "nosuch")
    assert "there is no module 'order'; did you mean 'orders'?" in refused(tmp_path, "order")
    assert "there is no module 'examples.paralel'; did you mean 'parallel'?" in refused(tmp_path, "examples.paralel")
    assert "say orders:Numbers" in refused(tmp_path, "orders.Numbers")
    assert "there is no file ./orders\n  did you mean ./orders.py?" in refused(tmp_path, "./orders")
    assert "there is no file other.py" in refused(tmp_path, "other.py")
    for name in ("", ".orders", "a..b"):
        assert "is not a module's name" in refused(tmp_path, name)


def test_row_64_files_that_cannot_be_imported_under_their_name(tmp_path: Path) -> None:
    for name in ("json.py", "cloudpickle.py"):
        write(tmp_path, name, NUMBERS)
        # Not from its own directory: ``python -m`` would make it shadow the real one, as it does in any program.
        assert f"there is another module {name[:-3]!r}\n  rename the file" in refused(ROOT, str(tmp_path / name))
    write(tmp_path, "a.b.py", NUMBERS)
    assert "its name must be NAME.py" in refused(tmp_path, "a.b.py")
    write(tmp_path, "twice.py", NUMBERS)
    (tmp_path / "twice").mkdir()
    write(tmp_path / "twice", "__init__.py", "")
    assert "twice means" in refused(tmp_path, "./twice.py")


def test_a_workflow_that_is_a_part_of_another_needs_no_name_beside_it(tmp_path: Path) -> None:
    whole = """
    class Whole(Workflow):
        numbers = CompositeNode(Numbers)
        start = numbers
    """
    text = textwrap.dedent(NUMBERS).replace("import", "import CompositeNode,") + textwrap.dedent(whole)
    write(tmp_path, "nested.py", text)
    assert floxide(tmp_path, "nested", "--input", "2", "--workers", "0").stdout == "0\n2\n"
    write(tmp_path, "nested.py", text + "\nclass More(Numbers): pass\n")
    assert "say nested:More or nested:Numbers or nested:Whole" in refused(tmp_path, "nested")


def test_row_64_modules_without_the_workflow(tmp_path: Path) -> None:
    write(tmp_path, "empty.py", "from floxide_mp import Workflow")
    assert "empty defines no workflow\n  a workflow is a class deriving from Workflow" in refused(tmp_path, "empty")
    write(tmp_path, "orders.py", NUMBERS)
    write(tmp_path, "foreign.py", "from orders import Numbers")
    assert "foreign defines no workflow\n  it imports orders:Numbers" in refused(tmp_path, "foreign")
    write(tmp_path, "two.py", NUMBERS + "\n    class More(Numbers): pass\n")
    assert "has 2 workflows, so a name is needed\n  say two:More or two:Numbers" in refused(tmp_path, "two")
    text = refused(tmp_path, "two:Mor")
    assert "two has no 'Mor'; did you mean 'More'?\n  workflows in it: More, Numbers" in text
    assert "spread in two is no workflow but a FunctionNode" in refused(tmp_path, "two:spread")


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("import json\n\ndef f():\n    json.loads('')\n\nf()\n", "json.decoder.JSONDecodeError: Expecting value"),
        ("import nosuchthing\n", "ModuleNotFoundError: No module named 'nosuchthing'"),
        ("def f(:\n", "SyntaxError: invalid syntax"),
    ],
    ids=["raises", "imports what is not there", "syntax"],
)
def test_row_64_an_error_in_the_module_is_the_users_own_traceback_alone(tmp_path: Path, text: str, last: str) -> None:
    file = write(tmp_path, "broken.py", text)
    for target in ("broken", "broken.py"):
        done = floxide(tmp_path, target)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines()[-1].startswith(last)
        assert f'File "{file}"' in done.stderr
        assert str(ROOT) not in done.stderr and "importlib" not in done.stderr


def test_row_64_a_module_that_exits_and_a_graph_that_cannot_work(tmp_path: Path) -> None:
    write(tmp_path, "exits.py", "import sys\nsys.exit(0)\n")
    assert "importing exits ended with sys.exit(0)" in refused(tmp_path, "exits")
    file = write(tmp_path, "wrong.py", NUMBERS.replace("[double]", "['dubble']"))
    done = floxide(tmp_path, "wrong")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    line = 1 + file.read_text().splitlines().index("class Numbers(Workflow):")
    assert done.stderr.startswith(f"floxide-mp: {file}:{line}: workflow Numbers cannot work:\n  - ")
    assert "dubble" in done.stderr


# -- signals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_row_26_a_signal_lets_running_nodes_end_and_starts_nothing_more(
    tmp_path: Path, number: signal.Signals, code: int, workers: str
) -> None:
    write(tmp_path, "slow.py", SLOW)
    busy = max(1, int(workers))
    with started(tmp_path, "slow", "--input", "9", "--workers", workers, "--run-id", "r") as process:
        pids = [int(appears(tmp_path / f"entered-{n}")) for n in range(busy)]
        os.killpg(process.pid, number)
        assert process.stderr is not None
        first = process.stderr.readline()
        for n in range(busy):
            (tmp_path / f"go-{n}").touch()
        out, err = process.communicate(timeout=LIMIT)
    for pid in pids:
        ends(pid)
    assert process.returncode == code
    assert out == ""
    assert first == f"floxide-mp: {number.name}: running steps have 2 s to end; once more ends everything at once\n"
    left = 9 - busy
    assert err == f"floxide-mp: run r was stopped by {number.name}: {1 + busy} steps are done, {left} are left\n"
    assert not (tmp_path / f"entered-{busy}").exists()
    assert sorted(p.name for p in tmp_path.glob("left-*")) == [f"left-{n}" for n in range(busy)]


@pytest.mark.parametrize("workers", ["0", "1"])
def test_row_26_a_run_that_completes_in_its_grace_is_completed(tmp_path: Path, workers: str) -> None:
    write(tmp_path, "slow.py", SLOW)
    with started(tmp_path, "slow", "--input", "1", "--workers", workers) as process:
        appears(tmp_path / "entered-0")
        os.killpg(process.pid, signal.SIGTERM)
        assert process.stderr is not None
        process.stderr.readline()
        (tmp_path / "go-0").touch()
        assert process.communicate(timeout=LIMIT) == ("null\n", "")
    assert process.returncode == 0


@pytest.mark.parametrize("workers", ["0", "6"])
def test_row_26_nodes_that_do_not_end_are_ended_in_a_few_lines(tmp_path: Path, workers: str) -> None:
    write(tmp_path, "slow.py", SLOW)
    busy = max(1, int(workers))
    with started(tmp_path, "slow", "--input", "9", "--workers", workers) as process:
        pids = [int(appears(tmp_path / f"entered-{n}")) for n in range(busy)]
        os.killpg(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=LIMIT)
    for pid in pids:
        ends(pid)
    assert (process.returncode, out) == (143, "")
    assert len(err.splitlines()) <= 5 and "Traceback" not in err


@pytest.mark.parametrize("workers", ["0", "2"])
def test_row_26_the_second_signal_ends_everything_at_once(tmp_path: Path, workers: str) -> None:
    # That it was the second signal and not the grace period: the first line of that comes, no other does.
    write(tmp_path, "slow.py", SLOW)
    with started(tmp_path, "slow", "--input", "9", "--workers", workers) as process:
        pids = [int(appears(tmp_path / f"entered-{n}")) for n in range(max(1, int(workers)))]
        os.killpg(process.pid, signal.SIGINT)
        assert process.stderr is not None
        process.stderr.readline()
        os.killpg(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=LIMIT)
    for pid in pids:
        ends(pid)
    assert (process.returncode, out, err) == (143, "", "")


def test_row_26_while_the_module_is_imported(tmp_path: Path) -> None:
    write(tmp_path, "stuck.py", "import pathlib, time\npathlib.Path('here').touch()\ntime.sleep(1000)\n")
    with started(tmp_path, "stuck") as process:
        appears(tmp_path / "here")
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(timeout=LIMIT) == ("", "")
    assert process.returncode == 130


def test_row_26_while_workers_start(tmp_path: Path) -> None:
    stuck = """
    if "floxide_mp.engines.processes.child" in sys.modules:  # in a worker
        Path("here.part").write_text(str(os.getpid()))
        Path("here.part").rename("here")
        time.sleep(1000)
    """
    write(tmp_path, "slow.py", "import sys\n" + textwrap.dedent(SLOW + stuck))
    with started(tmp_path, "slow", "--input", "1", "--workers", "1") as process:
        pid = int(appears(tmp_path / "here"))
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT)
    ends(pid)
    assert (process.returncode, out) == (130, "")
    assert len(err.splitlines()) <= 5 and "Traceback" not in err


def test_row_26_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    write(tmp_path, "slow.py", SLOW)
    script = 'trap "" HUP; exec "$@"'  # what nohup does
    with subprocess.Popen(
        ["sh", "-c", script, "sh", *command("slow", "--input", "1", "--workers", "1")],
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        appears(tmp_path / "entered-0")
        process.send_signal(signal.SIGHUP)
        (tmp_path / "go-0").touch()
        out, _ = process.communicate(timeout=LIMIT)
    assert (process.returncode, out) == (0, "null\n")


# -- standard streams ---------------------------------------------------------------------------------------------


def shell(place: Path, script: str) -> subprocess.CompletedProcess[str]:
    line = " ".join(command())
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; floxide() {{ {line} \"$@\"; }}; {script}"],
        cwd=place, env=environment(), capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip


QUIET = NUMBERS.replace('print("spreading")', "pass").replace('print("doubling")', "pass")


@pytest.mark.parametrize(
    ("script", "out"),
    [
        ("floxide numbers_flow --input 30000 --workers 1 | head -1", "0\n"),
        ("floxide numbers_flow --input 30000 --workers 1 2>&1 | head -1", "0\n"),
        ("floxide --help | true", ""),
        ("floxide numbers_flow --input 3 --workers 1 >&-", ""),
        ("floxide numbers_flow --input 3 --workers 0 >&-", ""),
        ("floxide numbers_flow --input 2 --workers 1 2>&-", "0\n2\n"),
        ("floxide numbers_flow --input 2 --workers 1 <&-", "0\n2\n"),
        ("floxide numbers_flow --input 2 --workers 1 <&- >&- 2>&-", ""),
    ],
)
def test_row_28_a_reader_that_leaves_and_closed_streams(tmp_path: Path, script: str, out: str) -> None:
    write(tmp_path, "numbers_flow.py", QUIET)
    done = shell(tmp_path, script)
    assert (done.returncode, done.stdout, done.stderr) == (0, out, "")


def test_row_28_nobody_reads_the_errors(tmp_path: Path) -> None:
    done = shell(tmp_path, "floxide nosuch 2>&1 | true; echo ${PIPESTATUS[0]}; floxide nosuch 2>&-; echo $?")
    assert (done.stdout, done.stderr) == ("2\n2\n", "")


def test_row_28_results_that_cannot_be_written_are_no_success(tmp_path: Path) -> None:
    write(tmp_path, "numbers_flow.py", QUIET)
    done = shell(tmp_path, "floxide numbers_flow --input 2 --workers 1 > /dev/full")
    assert done.returncode == 1
    assert done.stderr == "floxide-mp: the results cannot be written: No space left on device\n"


def test_row_28_the_terminal_goes_away(tmp_path: Path) -> None:
    """A pseudo-terminal that is closed: the session gets SIGHUP, and both its streams are dead."""
    write(tmp_path, "slow.py", SLOW)
    ours, theirs = os.openpty()
    script = "import fcntl, termios, os, sys; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", script, *command("slow", "--input", "1", "--workers", "1")],
        cwd=tmp_path, env=environment(), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        pid = int(appears(tmp_path / "entered-0"))
        os.close(ours)
        assert process.wait(LIMIT) == 129
        ends(pid)
    finally:
        process.kill()
        process.wait()


def test_what_is_shown_is_what_json_says(tmp_path: Path) -> None:
    write(tmp_path, "numbers_flow.py", QUIET)
    done = floxide(tmp_path, "numbers_flow", "--input", "300", "--workers", "2")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [2 * n for n in range(300)]
