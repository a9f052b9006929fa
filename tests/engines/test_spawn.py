"""Rows 94, 96, 97, 98 and 125: what workers are started from, by what, when it fails, and what ends them early."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections import UserDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import Coordinator, FloxideError, NodeTimeoutError, RunFailedError, RunStatus
from floxide_mp.engines.processes import engine as engines
from floxide_mp.engines.processes.preparation import Preparation
from floxide_mp.engines.processes.process import QUICK_DEATHS, QUICK_KILLS, Vacancies
from floxide_mp.testing.leftovers import children
from tests import flows_run
from tests.engines import flows_starting
from tests.scripts import ROOT, run_python

LIMIT = 50.0

SQUARE = """
from floxide_mp import Workflow, node
@node
def square(n: int) -> int:
    return n * n
class Square(Workflow):
    square = square
    start = square
"""


def script(text: str, folder: Path, arguments: tuple[str, ...] = (), **options: Any) -> list[str]:
    """The lines that a script prints, which defines ``Square``."""
    (folder / "script.py").write_text(SQUARE + textwrap.dedent(text))
    done = run_python(["script.py", *arguments], None, folder, **options)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


# -- row 94 --------------------------------------------------------------------------------------------------------

CLOSED = """\
import os, sys
for number in {closed}: os.close(number)
from tests.engines import flows_starting as flows
from floxide_mp import Coordinator
with Coordinator(2, store="runs.db") as c:
    found = c.start(flows.PrintsInC, 20).wait(40).outputs
open("answer", "w").write(repr((found, [os.readlink(f"/proc/self/fd/{{n}}") for n in {closed}])))
"""


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)], ids=str)
def test_row_94_standard_streams_that_are_closed(closed: tuple[int, ...], tmp_path: Path) -> None:
    """A node writes to each of them, as C code does that prints; nobody has its number for anything else."""
    done = run_python(["-c", CLOSED.format(closed=closed)], None, tmp_path)
    assert done.returncode == 0, done.stderr
    found, here = eval((tmp_path / "answer").read_text())
    assert here == [os.devnull] * len(closed)
    assert len(found) == 20
    for streams in found:
        assert [streams[number] for number in closed] == [os.devnull] * len(closed)


@pytest.mark.parametrize("number", [1, 2])
def test_row_94_a_file_of_the_programs_with_such_a_number_is_not_handed_on(number: int, tmp_path: Path) -> None:
    text = f"""\
import os
os.close({number})
file = open("mine", "w")
assert file.fileno() == {number}
from tests.engines import flows_starting as flows
found = flows.PrintsInC().run(3, workers=1).outputs
open("answer", "w").write(repr({{streams[{number}] for streams in found}}))
"""
    done = run_python(["-c", text], None, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "answer").read_text() == repr({os.devnull})
    assert (tmp_path / "mine").read_text() == ""


# -- row 96: by what ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["sys.frozen = True", "__compiled__ = 'nuitka'", "sys.modules['uwsgi'] = sys"])
def test_row_96_a_program_that_is_its_own_interpreter(how: str, tmp_path: Path) -> None:
    """It is refused before anything is started, with what to do."""
    text = f"""
    import os, sys
    print("begins")
    python, sys.executable = sys.executable, os.path.abspath("script.py")
    {how}
    try:
        Square().run(3, workers=1)
    except Exception as error:
        print(type(error).__name__, f", {{sys.executable}}, is the" in str(error), "set_exec" in str(error))
    import multiprocessing
    multiprocessing.set_executable(python)
    print(Square().run(3, workers=1).output)
    """
    assert script(text, tmp_path) == ["begins", "FloxideError True True", "9"]


@pytest.mark.parametrize("found", ["", None, 5, b"", "/no/such/python", "/etc/passwd", "/dev"])
def test_row_96_there_is_no_interpreter(found: str | bytes | int | None, tmp_path: Path) -> None:
    named = (isinstance(found, str) and found) or f"sys.executable is {found!r}"
    text = f"""
    import sys
    python, sys.executable = sys.executable, {found!r}
    try:
        Square().run(3, workers=1)
    except Exception as error:
        print(type(error).__name__, {named!r} in str(error), error)
    sys.executable = python
    print(Square().run(3, workers=2).output)
    """
    refused, output = script(text, tmp_path)
    assert refused.startswith("FloxideError True workers cannot be started: ")
    assert "multiprocessing.set_executable(path)" in refused
    assert output == "9"


def test_row_96_the_interpreter_is_another_program(tmp_path: Path) -> None:
    text = """
    import logging, sys
    logging.disable()
    sys.executable = "/bin/true"
    try:
        Square().run(3, workers=2)
    except Exception as error:
        print(error)
    """
    (refused,) = script(text, tmp_path)
    assert "/bin/true has not run as a Python interpreter; name the Python" in refused


def test_row_96_a_program_that_runs_itself_again_does_so_once(tmp_path: Path) -> None:
    """A host that we do not know of: what it starts instead of a worker starts nothing in its turn."""
    host = tmp_path / "host"
    host.write_text(f"#!/bin/sh\nexec {sys.executable} {tmp_path}/script.py\n")
    host.chmod(0o700)
    text = f"""
    import logging, os, sys
    logging.disable()
    with open({str(tmp_path / "begun")!r}, "a") as file:
        file.write("begun" + chr(10))
    sys.executable = {str(host)!r}
    try:
        print(Square().run(3, workers=1).output)
    except Exception as error:
        print(error)
    """
    *theirs, refused = script(text, tmp_path)
    assert f"{host} has not run as a Python interpreter" in refused
    assert len(theirs) == QUICK_DEATHS
    assert all(line.startswith("this process was started as a worker of process ") for line in theirs)
    assert (tmp_path / "begun").read_text() == "begun\n" * (1 + QUICK_DEATHS)


def test_row_96_another_version_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.implementation, "cache_tag", "cpython-27")
    with Coordinator(1) as c, pytest.raises(RunFailedError) as failed:
        c.start(flows_run.Echo, 1).wait(LIMIT)
    version = "{}.{}.{}".format(*sys.version_info)
    assert "the last ended with exit code 1: workers would be run by " in str(failed.value)
    assert f", which is Python {version}; name the Python" in str(failed.value)


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("of_96", ": SystemExit: not in my house"),
        ("int_max_str_digits", ": Fatal Python error: config_init_int_max_str_digits: -X int_max_str_digits: invalid"),
    ],
)
def test_row_96_an_interpreter_that_cannot_start_says_why(option: str, why: str, tmp_path: Path) -> None:
    text = f"""
    import logging, os, sys
    logging.disable()
    os.environ["PYTHONPATH"] = os.getcwd() + os.pathsep + os.environ["PYTHONPATH"]
    sys._xoptions[{option!r}] = "many"
    try:
        Square().run(3, workers=1)
    except Exception as error:
        print(error)
    """
    (tmp_path / "sitecustomize.py").write_text("import sys\nif 'of_96' in sys._xoptions: sys.exit('not in my house')")
    (refused,) = script(text, tmp_path)
    assert "the last ended with exit code 1: " in refused and why in refused


@pytest.mark.parametrize("guarded", [False, True])
def test_row_96_an_interpreter_in_bytes_and_no_command_line(guarded: bool, tmp_path: Path) -> None:
    """Whatever a host has put there."""
    text = """
    import os, sys
    if GUARD:
        python = sys.executable
        for sys.executable in (os.fsencode(python), python):
            for sys.argv in (None, 5, ("a", 5)):
                print(Square().run(3, workers=1).output, end=" ")
    """
    assert script(text.replace("GUARD", '__name__ == "__main__"' if guarded else "True"), tmp_path) == ["9 " * 6]


# -- row 96: with which options --------------------------------------------------------------------------------------

OPTIONS = """
import sys
from pathlib import Path
from floxide_mp import Workflow, node
@node
def look(n: int) -> tuple:
    try:
        digits = len(str(10**n))
    except ValueError:
        digits = None
    names = ("optimize", "dev_mode", "utf8_mode", "no_user_site", "safe_path", "bytes_warning", "int_max_str_digits")
    return digits, sorted(sys._xoptions.items()), {name: getattr(sys.flags, name) for name in names}
class Look(Workflow):
    look = look
    start = look
if __name__ == "__main__":
    print(*(Look().run(5000, workers=workers).output for workers in (0, 1)), sep="\\n")
"""


@pytest.mark.parametrize(
    "options",
    [
        ["-X", "int_max_str_digits=0"],
        ["-X", "int_max_str_digits=6000", "-X", "a=b c", "-X", "of_96", "-X", "empty="],
        ["-X", "dev", "-X", "utf8=1", "-X", "no_debug_ranges"],
        ["-X", "utf8=0", "-X", "faulthandler", "-O", "-s", "-P", "-b"],
        ["-E", "-X", "int_max_str_digits=0"],
        ["-I", "-X", "a"],
    ],
    ids=" ".join,
)
def test_row_96_options_of_the_interpreter(options: list[str], tmp_path: Path) -> None:
    """The same on no worker and on one."""
    (tmp_path / "script.py").write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n" + OPTIONS)
    done = run_python([*options, "script.py"], None, tmp_path)
    assert done.returncode == 0, done.stderr
    here, worker = done.stdout.splitlines()
    assert here == worker
    assert here.startswith("(5001, " if "int_max_str_digits" in "".join(options) else "(None, ")


# -- row 96: from what ----------------------------------------------------------------------------------------------


def test_row_96_a_long_search_path(tmp_path: Path) -> None:
    """Longer than an argument or a variable of the environment may be."""
    text = """
    import sys
    sys.path += [f"/opt/packages/{n:04}/{'h' * 64}/site-packages" for n in range(4000)]
    print(Square().run(3, workers=2).output, sum(map(len, sys.path)) > 1 << 18)
    """
    assert script(text, tmp_path) == ["9 True"]


def test_row_96_relative_entries_mean_what_they_meant(tmp_path: Path) -> None:
    for folder in ("library", "elsewhere", "elsewhere/library"):
        (tmp_path / folder).mkdir()
    (tmp_path / "library" / "helper_of_96.py").write_text("def twice(n): return 2 * n\n")
    (tmp_path / "elsewhere" / "library" / "helper_of_96.py").write_text("def twice(n): return -1\n")
    (tmp_path / "in_the_first.py").write_text("def thrice(n): return 3 * n\n")
    text = """
    import os, sys
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != os.getcwd()]
    sys.path += ["", "library"]
    import helper_of_96, in_the_first
    @node
    def work(n: int) -> int:
        import helper_of_96, in_the_first
        return helper_of_96.twice(n) + in_the_first.thrice(n)
    class Work(Workflow):
        work = work
        start = work
    os.chdir("elsewhere")
    print(*(Work().run(4, workers=workers).output for workers in (0, 2)))
    """
    assert script(text, tmp_path) == ["20 20"]


def python_imports_nothing_there(folder: Path) -> bool:
    """Python 3.13.0 fails as it imports ``socket`` in a directory that is gone."""
    text = "import os; os.rmdir(os.getcwd()); import socket"
    (folder / "gone").mkdir()
    return subprocess.run([sys.executable, "-c", text], cwd=folder / "gone", capture_output=True).returncode != 0


def test_row_96_a_directory_that_is_gone(tmp_path: Path) -> None:
    if python_imports_nothing_there(tmp_path):
        pytest.skip("this version of Python cannot")
    text = """
    import os
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir(os.getcwd())
    print(*(Square().run(3, workers=workers).output for workers in (0, 2)))
    """
    assert script(text, tmp_path) == ["9 9"]


def test_row_96_modules_of_nodes_read_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "steps_of_96.py").write_text(
        "import argparse\nparser = argparse.ArgumentParser()\n"
        "parser.add_argument('--rate', type=float, required=True)\n"
        "RATE = parser.parse_args().rate\n" + SQUARE.replace("n * n", "n * RATE")
    )
    text = """
    import steps_of_96
    print(*(steps_of_96.Square().run(4, workers=workers).output for workers in (0, 2)))
    """
    assert script(text, tmp_path, ("--rate", "1.5")) == ["6.0 6.0"]


def test_row_96_the_environment_changes_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is for who asks while another thread removes a variable: listed, and not there."""

    class Raced(UserDict[str, str]):
        def __iter__(self) -> Any:
            return iter([*super().__iter__(), "REMOVED_MEANWHILE"])

    monkeypatch.setattr(os, "environ", Raced(os.environ))
    with Preparation() as preparation:
        assert "REMOVED_MEANWHILE" not in preparation.environment


def test_row_96_a_worker_that_replaces_another_starts_from_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the program has changed: its results would hang on who dies."""
    first, later = tmp_path / "first", tmp_path / "later"
    first.mkdir()
    later.mkdir()
    monkeypatch.chdir(first)
    monkeypatch.setenv("OF_96", "first")
    monkeypatch.setattr(sys, "argv", ["first", "--option"])
    with Coordinator(1) as c:
        before = c.start(flows_starting.Surroundings).wait(LIMIT).output
        monkeypatch.chdir(later)
        monkeypatch.setenv("OF_96", "later")
        monkeypatch.setattr(sys, "argv", ["later"])
        (worker,) = c.workers()
        os.kill(worker.pid, signal.SIGKILL)
        assert c.start(flows_starting.Surroundings).wait(LIMIT).output == before
    assert before == (str(first), "first", ["first", "--option"])


# -- row 97 --------------------------------------------------------------------------------------------------------


def test_row_97_a_module_that_runs_its_workflow_as_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "module_of_97.py").write_text(
        f"with open({str(tmp_path / 'imported')!r}, 'a') as file:\n    file.write('imported\\n')\n"
        + SQUARE
        + "OUTPUT = Square().run(3, workers=1).output\n"
    )
    text = """
    try:
        import module_of_97
    except Exception as error:
        print(type(error).__name__, 'if __name__ == "__main__":' in str(error), str(error).count("RunFailedError"))
    """
    assert script(text, tmp_path) == ["RunFailedError True 0"]
    assert (tmp_path / "imported").read_text() == "imported\n" * 2


def test_row_97_a_module_that_ends_with_sys_exit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the worker only, whose command line has what it does not know."""
    (tmp_path / "exits_of_97.py").write_text(
        "import os, sys\nif os.getpid() != int(os.environ['HOME_OF_97']): sys.exit('usage: none')\n" + SQUARE
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("HOME_OF_97", str(os.getpid()))
    import exits_of_97  # type: ignore[import-not-found]

    with pytest.raises(RunFailedError, match=r"ended with sys.exit\('usage: none'\) as a worker imported it"):
        exits_of_97.Square().run(3, workers=1)


def test_row_97_a_node_may_run_a_workflow() -> None:
    assert flows_starting.Nested().run(3, workers=1).output == [3]


# -- row 98 --------------------------------------------------------------------------------------------------------


def test_row_98_a_shortage_of_descriptors_that_passes(caplog: pytest.LogCaptureFixture) -> None:
    """While it lasts, no worker can be replaced; the run waits for one, and then has two."""
    with Coordinator(2) as c:
        assert c.start(flows_run.Echo, 1).wait(LIMIT).outputs
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(highest, 3), before[1]))
        try:
            with caplog.at_level(logging.WARNING):
                for worker in c.workers():
                    os.kill(worker.pid, signal.SIGKILL)
                while not any("Too many open files" in message for message in caplog.messages):
                    os.sched_yield()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert c.start(flows_run.Echo, 2).wait(LIMIT).outputs
        while len(c.workers()) < 2:
            os.sched_yield()


def short_at_first(
    monkeypatch: pytest.MonkeyPatch, fails: int, meanwhile: Callable[[], None] = lambda: None
) -> list[int]:
    """So many starts fail; the list has the numbers of the workers that were tried."""
    tried: list[int] = []
    spawn_of_ours = engines.spawn

    def spawn(worker_id: int, *arguments: Any) -> Any:
        tried.append(worker_id)
        if len(tried) <= fails:
            meanwhile()
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return spawn_of_ours(worker_id, *arguments)

    monkeypatch.setattr(engines, "spawn", spawn)
    return tried


def test_row_98_a_shortage_at_the_first_start_that_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = short_at_first(monkeypatch, 3)
    with Coordinator(2) as c:
        assert tried == [0, 0, 0, 0, 1]
        assert len(c.workers()) == 2
        assert c.start(flows_run.Echo, 2).wait(LIMIT).outputs


def test_row_98_a_shortage_at_the_first_start_that_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "AT_FIRST", 0.25)
    tried = short_at_first(monkeypatch, 1000)
    with pytest.raises(FloxideError, match=r"no worker process can be started: .*Resource temporarily unavailable"):
        Coordinator(2)
    assert len(tried) > 1


def test_row_98_ctrl_c_in_a_shortage_at_the_first_start(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = short_at_first(monkeypatch, 1000, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        Coordinator(2)
    assert tried == [0]


@pytest.mark.parametrize(
    "trouble", [MemoryError(), RuntimeError("can't start new thread"), ValueError("a bug")], ids=repr
)
def test_row_98_whatever_a_start_fails_with(
    trouble: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is no end of the supervisor."""
    left = [trouble] * 3

    def spawn(*arguments: Any) -> Any:
        if left:
            raise left.pop()
        return spawn_of_ours(*arguments)

    spawn_of_ours = engines.spawn
    with Coordinator(1) as c:
        monkeypatch.setattr(engines, "spawn", spawn)
        (worker,) = c.workers()
        os.kill(worker.pid, signal.SIGKILL)
        assert c.start(flows_run.Echo, 2).wait(LIMIT).outputs
    assert not left
    assert "the supervisor failed" not in caplog.messages


def test_row_98_runs_do_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """And later ones have workers, when there can be some again."""

    def spawn(*arguments: Any) -> Any:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(engines, "WITHOUT", 0.3)
    spawn_of_ours = engines.spawn
    with Coordinator(1) as c:
        monkeypatch.setattr(engines, "spawn", spawn)
        (worker,) = c.workers()
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(RunFailedError, match=r"workers cannot start: .*Resource temporarily unavailable"):
            c.start(flows_run.Echo, 2).wait(LIMIT)
        monkeypatch.setattr(engines, "spawn", spawn_of_ours)
        while not c.workers():
            os.sched_yield()
        while not c._scheduler.started(c._scheduler._numbers):
            os.sched_yield()
        assert c.start(flows_run.Echo, 2).wait(LIMIT).outputs


def test_row_98_workers_that_died_as_they_start_may_live_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, a file server that is away: what they import cannot be read, for a while."""
    (tmp_path / "sitecustomize.py").write_text(
        f"import os\nif os.path.exists({str(tmp_path / 'broken')!r}): os._exit(3)\n"
    )
    (tmp_path / "broken").touch()
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    with Coordinator(2) as c:
        with pytest.raises(RunFailedError, match=r"workers cannot start: .* died in a row"):
            c.start(flows_run.Echo, 2).wait(LIMIT)
        (tmp_path / "broken").unlink()
        while c.start(flows_run.Echo, 2).info().status is RunStatus.FAILED:
            os.sched_yield()
        assert c.start(flows_run.Echo, 2).wait(LIMIT).outputs
        while len(c.workers()) < 2:
            os.sched_yield()


def test_row_98_when_the_next_start_is_tried() -> None:
    missing = Vacancies()
    assert missing.due is None
    missing.places[0] = 7
    assert missing.due == 0.0, "at once"
    waits = []
    for _ in range(8):
        missing.failed(100.0)
        waits.append(missing.due and round(missing.due - 100.0, 1))
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    missing.filled(0)
    assert missing.due is None
    missing.places[0] = 7
    missing.failed(200.0)
    assert missing.due == 200.1, "the next shortage begins anew"


def test_row_98_when_workers_cannot_start() -> None:
    missing = Vacancies()
    missing.places[0] = 7
    for _ in range(QUICK_DEATHS - 1):
        missing.died(False, 100.0)
    assert (missing.hopeless, missing.due) == (False, 0.0)
    missing.died(False, 100.0)
    assert (missing.hopeless, missing.due) == (True, 100.1)
    missing.used()
    for _ in range(QUICK_KILLS - 1):
        missing.died(True, 200.0)
    assert (missing.hopeless, missing.due) == (False, 201.0)
    missing.died(True, 300.0)
    assert missing.hopeless


# -- row 26 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["-m", "floxide_mp"], ["-mfloxide_mp"], ["floxide-mp"]], ids=str)
def test_row_26_ctrl_c_while_the_command_line_is_imported(command: list[str], tmp_path: Path) -> None:
    """Here, as the first module is looked for that this package needs, be it of Python: no traceback, as of a program
    that it ends.
    """
    (tmp_path / "sitecustomize.py").write_text("""\
import os, sys
class Interrupts:
    began = False
    def find_spec(self, name, path=None, target=None):
        if name == "floxide_mp":
            self.began = True
        elif self.began and name not in ("__future__", "floxide_mp.ctrl_c"):
            os.kill(os.getpid(), 2)
sys.meta_path.insert(0, Interrupts())
""")
    (tmp_path / "floxide-mp").write_text("from floxide_mp.cli.main import main; main()")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    arguments = [sys.executable, *command, "--version"]
    done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_row_26_a_program_that_imports_the_package_keeps_its_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "another").mkdir()
    (tmp_path / "another" / "__init__.py").write_text("import floxide_mp")
    (tmp_path / "another" / "__main__.py").write_text(
        "import signal\nprint(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    )
    assert run_python(["-m", "another"], None, tmp_path).stdout == "True\n"


# -- row 125 -------------------------------------------------------------------------------------------------------


def test_row_125_a_node_in_another_group_is_ended_by_its_time_out() -> None:
    with Coordinator(1) as c, pytest.raises(RunFailedError) as failed:
        c.start(flows_starting.LeavesItsGroupForASecond, "").wait(LIMIT)
    assert isinstance(failed.value.__cause__, NodeTimeoutError)


KILLED = """\
import os, signal, sys
from floxide_mp import Coordinator
from tests.engines import flows_starting as flows
c = Coordinator(1)
{what}
print(*(worker.pid for worker in c.workers()), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def ends_with_its_program(what: str, folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}", "FOLDER": str(folder)}
    command = [sys.executable, "-c", KILLED.format(what=what)]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        pids = [int(pid) for pid in program.stdout.readline().split()]
        assert program.wait(LIMIT) == -signal.SIGKILL
    assert pids
    for pid in pids:
        while alive(pid):
            os.sched_yield()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_row_125_a_node_in_another_group_ends_with_its_program(tmp_path: Path) -> None:
    ends_with_its_program(
        "c.start(flows.LeavesItsGroup, os.environ['FOLDER'] + '/left')\n"
        "while not os.path.exists('left'): os.sched_yield()",
        tmp_path,
    )


def test_row_125_a_worker_that_hangs_before_any_code_of_ours_ends_with_its_program(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal\nif 'FLOXIDE_WORKER_OF' in os.environ:\n    open('hangs', 'w').close()\n    signal.pause()\n"
    )
    ends_with_its_program("while not os.path.exists('hangs'): os.sched_yield()", tmp_path)


def test_row_125_a_worker_that_imports_for_long_ends_with_its_program(tmp_path: Path) -> None:
    (tmp_path / "slow_of_125.py").write_text(
        "import os, time\nif os.getpid() != int(os.environ['HOME_OF_125']):\n"
        "    open('imports', 'w').close()\n    time.sleep(600)\n" + SQUARE
    )
    ends_with_its_program(
        "os.environ['HOME_OF_125'] = str(os.getpid())\nc.close()\nc = Coordinator(1)\nimport slow_of_125\n"
        "c.start(slow_of_125.Square, 3)\nwhile not os.path.exists('imports'): os.sched_yield()",
        tmp_path,
    )


def test_row_96_a_worker_that_cannot_be_started_leaves_nothing() -> None:
    before = children()
    multiprocessing.set_executable("/no/such/python")
    try:
        with pytest.raises(FloxideError, match="/no/such/python cannot be run: No such file or directory"):
            flows_run.Echo().run(1, workers=2)
        with pytest.raises(FloxideError, match="/no/such/python cannot be run"):
            Coordinator(2)
    finally:
        multiprocessing.set_executable(sys.executable)
    assert children() == before
