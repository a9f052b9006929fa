"""FAULTS rows 14, 15, 65, 69, 70, 72, 73, 76: memory, processes and CPUs are at an end, and what keeps to their limits.

The kernel's out-of-memory killer can be let loose in a control group only: where tests may make one, name the folder,
as in ``FLOXIDE_CGROUP=/sys/fs/cgroup/memory``; elsewhere that one test is skipped.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import Coordinator, RunFailedError, WorkerDiedError
from floxide_mp.coordinator.cpus import usable_cpus
from floxide_mp.engines.processes import ProcessEngine, exit_status
from floxide_mp.engines.processes.process import spawn

from ..scripts import ROOT, SMALL_SHM, mounting, run_python
from . import flows_limits as flows
from .test_worker_dies import pids

MB = flows.MB


def peak() -> int:
    """The most bytes of memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# -- row 14 --------------------------------------------------------------------------------------------------------


def test_row_14_killed_while_the_kernel_is_short_of_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The kills are real, the kernel's count of them is not: it grows as it would."""
    counted = iter(range(1_000_000))
    monkeypatch.setattr(exit_status, "_kills", lambda: next(counted))
    size = peak() + 100 * MB
    with Coordinator(2) as c:
        run = c.start(flows.Killed, [0, size, 0], failure="finish")
        with pytest.raises(RunFailedError) as failed:
            run.wait(50)
        assert run.checkpoint().outputs == (0, 0)
        errors = run.errors()
    assert [error.attempt for error in errors] == [1, 2, 3], "tried again, then failed"
    assert isinstance(failed.value.__cause__, WorkerDiedError)
    assert failed.value.__cause__.exit_code == -9
    for line in (*caplog.messages, *(error.message for error in errors)):
        head, used, tail = line.partition(" was killed by SIGKILL, used about ")
        assert used, line
        assert head.startswith("worker ")
        number, _, rest = tail.partition(" MB, ")
        assert size / MB <= int(number.replace(",", "")) < size / MB + 200
        assert rest.startswith("likely out of memory, while it ran work (run ")
    assert len(caplog.messages) == 3


def test_row_14_what_a_worker_used_is_not_what_its_coordinator_used() -> None:
    """The kernel says of a process that has had less memory than its parent that it has had as much."""
    process = spawn(0, 1)
    process.kill()
    end = process.reap()
    process.close()
    assert not end.exact
    assert end.text(True) == f"was killed by SIGKILL, used at most {end.peak / MB:,.0f} MB, likely out of memory,"
    assert end.text(False) == "was ended by SIGKILL"


def test_row_14_a_shortage_is_over_two_looks_later(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = [3]
    monkeypatch.setattr(exit_status, "_kills", lambda: counts[0])
    shortage = exit_status.OomDetector()
    assert not shortage.lately()
    counts[0] = 4
    assert shortage.lately()
    shortage.check()  # between the kill and the news of it
    assert shortage.lately()
    shortage.check()
    assert not shortage.lately()


def test_row_14_the_kernels_count_is_read() -> None:
    listed = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    if "oom_kill" not in listed:
        pytest.skip("this kernel does not tell")
    assert exit_status._kills() >= int(listed["oom_kill"])


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group whose processes may have 200 MB together."""
    if "FLOXIDE_CGROUP" not in os.environ:
        pytest.skip("needs a control group: FLOXIDE_CGROUP")
    group = Path(os.environ["FLOXIDE_CGROUP"], f"floxide-test-{os.getpid()}")
    group.mkdir()
    try:
        first = group / "memory.limit_in_bytes"
        (first if first.exists() else group / "memory.max").write_text(str(200 * MB))
        yield group
    finally:
        group.rmdir()


IN_A_SMALL_GROUP = """\
import os, sys
from pathlib import Path
Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
from floxide_mp import Coordinator
from tests.faults import flows_limits as flows
with Coordinator(2) as c:
    run = c.start(flows.Grows, [1, 1000 * flows.MB, 2], failure="finish")
    try:
        run.wait(50)
    except Exception as error:
        print(error.__cause__)
    print(run.checkpoint().outputs, [error.attempt for error in run.errors()])
"""


def test_row_14_killed_by_the_kernel_for_want_of_memory(small_group: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(IN_A_SMALL_GROUP)
    done = run_python(["script.py", str(small_group)], None, tmp_path)
    assert done.returncode == 0, done.stderr
    said, rest = done.stdout.splitlines()
    assert " was killed by SIGKILL, used about 1" in said
    assert " MB, likely out of memory, while it ran work (run " in said
    assert rest == "(1, 2) [1, 2, 3]"


# -- row 15 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workflow", "attempts"), [(flows.Hungry, [1]), (flows.HungryTwice, [1, 2]), (flows.Heavy, [1])]
)
def test_row_15_an_ordinary_error(workflow: Any, attempts: list[int]) -> None:
    """Where there is a limit for each process, no memory is an exception: nobody dies of it."""
    with Coordinator(2) as c:
        before = pids(c)
        run = c.start(workflow, [10, 300 * MB, 20], failure="finish")
        with pytest.raises(RunFailedError, match="MemoryError") as failed:
            run.wait(50)
        assert isinstance(failed.value.__cause__, MemoryError)
        assert [(error.type_name, error.attempt) for error in run.errors()] == [("MemoryError", n) for n in attempts]
        assert len(run.checkpoint().outputs) == 2
        assert pids(c) == before


# -- row 65 --------------------------------------------------------------------------------------------------------


def test_row_65_a_wide_fan_out_takes_bounded_memory() -> None:
    """A million in ``benchmarks.flat``; here, what each item takes."""
    text = """
import resource
from floxide_mp import Coordinator
from tests.faults.flows_limits import Wide
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
def peaks(c):
    found = []
    for worker in c.workers():
        with open(f"/proc/{worker.pid}/status") as file:
            found += [int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM")]
    return [peak(), *found]
with Coordinator(2) as c:
    c.start(Wide, 1000).wait()
    before = peaks(c)
    print(c.start(Wide, 200_000).wait().output)
    print(*((after - first) // 200_000 for first, after in zip(before, peaks(c))))
"""
    done = run_python(["-"], text, Path.cwd())
    count, rest = done.stdout.splitlines()
    assert count == "200000"
    coordinator, *workers = map(int, rest.split())
    assert coordinator < 1200, "bytes an item; some 730 as this was written"
    assert max(workers) < 800, "some 400"


# -- row 69 --------------------------------------------------------------------------------------------------------

FEW_PROCESSES = """\
import logging, os, resource, signal
logging.basicConfig()
from floxide_mp import Coordinator, FloxideError
from tests.faults import flows_limits as flows
has = sum(int(line.split()[1]) for pid in os.listdir("/proc") if pid.isdigit() and os.stat(f"/proc/{{pid}}").st_uid
    == os.getuid() for line in open(f"/proc/{{pid}}/status") if line.startswith("Threads"))
resource.setrlimit(resource.RLIMIT_NPROC, (has + {more}, has + {more}))
try:
    with Coordinator(6) as c:
        print("workers", len(c.workers()))
        print(c.start(flows.Grows, [1, 2, 3, 4] * 50).wait(50).outputs == [1, 2, 3, 4] * 50)
        os.kill(c.workers()[0].pid, signal.SIGKILL)
        print(c.start(flows.Grows, [5, 6]).wait(50).outputs)
except FloxideError as error:
    print("named", error)
"""


def few_processes(more: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """As a user whom the limit binds, who may still read what is root's."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv, to become a user with no other processes")
    user = str(20_000 + os.getpid())
    reading = ["--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override"]
    (folder / "script.py").write_text(FEW_PROCESSES.format(more=more))
    return subprocess.run(
        ["setpriv", "--reuid", user, "--clear-groups", *reading, sys.executable, "script.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
    )


@pytest.mark.parametrize("more", [1, 2, 3, 4, 5, 8, 12, 13])
def test_rows_69_120_few_processes(more: int, tmp_path: Path) -> None:
    """Each worker is a process here and a thread of its coordinator, whose supervisor is another."""
    done = few_processes(more, tmp_path)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    if more < 3:
        (line,) = said
        assert line.startswith("named no worker process can be started: ")
        return
    count = min(6, (more - 1) // 2)
    assert said == [f"workers {count}", "True", "[5, 6]"]
    assert (f"only {count} of 6 workers can be started: " in done.stderr) == (count < 6)


# -- row 70 --------------------------------------------------------------------------------------------------------


@mounting
def test_row_70_a_small_dev_shm_does_not_matter(tmp_path: Path) -> None:
    """Values larger than it: nothing of ours is there."""
    text = """
import os
from floxide_mp import Coordinator
from tests.faults import flows_limits as flows
print(os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize, os.listdir("/dev/shm"))
with Coordinator(2) as c:
    print([len(made) for made in c.start(flows.Large, [8 * flows.MB] * 4).wait(50).outputs], os.listdir("/dev/shm"))
"""
    done = run_python(["-"], text, tmp_path, SMALL_SHM)
    assert done.stdout.splitlines() == ["65536 []", f"{[8 * MB] * 4} []"], done.stderr


# -- row 72 --------------------------------------------------------------------------------------------------------

POOLS = [
    *(f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "NUMBA", "TBB")),
    "VECLIB_MAXIMUM_THREADS",
]


def test_row_72_libraries_have_one_thread_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in POOLS:
        monkeypatch.delenv(name, raising=False)
    assert flows.Environment().run(POOLS, workers=1).output == dict.fromkeys(POOLS, "1")


def test_row_72_the_users_own_setting_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in POOLS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert flows.Environment().run(POOLS, workers=1).output == {**dict.fromkeys(POOLS, "1"), "OMP_NUM_THREADS": "3"}


# -- row 73 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "most"), [(40, 7), (2000, 150), (12, 1)])
def test_row_73_a_worker_is_replaced_after_so_many_tasks(
    count: int, most: int, caplog: pytest.LogCaptureFixture
) -> None:
    with Coordinator(2, engine=partial(ProcessEngine, max_tasks_per_worker=most)) as c:
        run = c.start(flows.Who, list(range(count)))
        who = Counter(run.wait(50).outputs)
        assert run.metrics().retries == 0
        assert run.errors() == []
        assert run.metrics().completed == who.total() + 1 == count + 1
    assert max(who.values()) <= most
    assert caplog.messages == [], "nothing to be warned of"


def test_row_73_a_worker_that_leaks_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    with Coordinator(2, engine=partial(ProcessEngine, max_worker_rss=150 * MB)) as c:
        run = c.start(flows.Leaks, [40 * MB] * 12)
        who = Counter(run.wait(50).outputs)
        assert run.metrics().retries == 0
        assert who.total() == 12
    assert max(who.values()) <= 4, "the fourth is too much"
    assert len(who) < 12
    assert caplog.messages == []


def test_row_73_less_than_a_worker_needs_is_one_item_each(caplog: pytest.LogCaptureFixture) -> None:
    """No storm: nobody is replaced who has done nothing."""
    with Coordinator(2, engine=partial(ProcessEngine, max_worker_rss=16 << 20)) as c:
        outputs = c.start(flows.Who, list(range(8))).wait(50).outputs
        assert len(set(outputs)) == len(outputs) == 8
    assert caplog.messages == []


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "4"])
@pytest.mark.parametrize("name", ["max_tasks_per_worker", "max_worker_rss"])
def test_rows_62_73_limits_that_make_no_sense(name: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a whole number"):
        Coordinator(1, engine=partial(ProcessEngine, **{name: wrong}))
    with pytest.raises(ValueError, match="of bytes from 16,777,216 on"):
        Coordinator(1, engine=partial(ProcessEngine, max_worker_rss=512))  # megabytes, somebody thought


# -- row 76 --------------------------------------------------------------------------------------------------------


def test_row_76_the_number_of_workers_obeys_affinity(tmp_path: Path) -> None:
    text = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from floxide_mp import Coordinator
with Coordinator() as c:
    print(len(c.workers()))
"""
    assert run_python(["-"], text, tmp_path).stdout == "1\n"


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        ("0::/", {"cpu.max": "100000 100000"}, 1),
        ("0::/a/b", {"cpu.max": "max 100000", "a/cpu.max": "150000 100000", "a/b/cpu.max": "900000 100000"}, 1),
        ("0::/a", {"a/cpu.max": "30000 100000"}, 1),
        ("0::/../elsewhere", {"cpu.max": "100000 100000"}, 1),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {"cpu.max": "99900000 100000"}, None),
        ("0::/", {"cpu.max": "what is this"}, None),
        ("0::/", {}, None),
        ("4:memory:/m\n1:cpu,cpuacct:/a\n0::/", {"cpu/a/cpu.cfs_quota_us": "50000"}, 1),
        ("1:cpu:/docker/x\n", {"cpu/cpu.cfs_quota_us": "100000"}, 1),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1"}, None),
        ("1:cpuset:/\n", {"cpu/cpu.cfs_quota_us": "100000"}, None),
    ],
)
def test_row_76_the_number_of_workers_obeys_quotas(
    membership: str, files: dict[str, str], quota: int | None, tmp_path: Path
) -> None:
    for name, content in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
        if name.endswith("cpu.cfs_quota_us"):
            path.with_name("cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "membership").write_text(membership)
    affinity = len(os.sched_getaffinity(0))
    found = usable_cpus(tmp_path / "membership", tmp_path / "groups")
    assert found == (affinity if quota is None else min(affinity, quota))


def test_row_76_where_nothing_is_told_affinity_counts(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path / "none", tmp_path) == len(os.sched_getaffinity(0))


def test_row_135_a_limit_of_the_size_of_files_is_named(tmp_path: Path) -> None:
    script = f"""
        import resource, signal
        from floxide_mp import Coordinator, FloxideError, SQLiteStore
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        for store in (lambda: None, lambda: SQLiteStore({str(tmp_path / "runs.db")!r})):
            try:
                Coordinator(1, store=store())
            except FloxideError as error:
                print("1,000 bytes (RLIMIT_FSIZE, `ulimit -f`)" in str(error))
    """
    assert run_python(["-"], textwrap.dedent(script), tmp_path).stdout.split() == ["True", "True"]


def test_row_136_a_program_that_closes_descriptors_of_its_coordinator(tmp_path: Path) -> None:
    script = """
        import os
        from floxide_mp import Coordinator, FloxideError
        from floxide_mp import Workflow, node
        Echo = Workflow.build("Echo", {"only": node(lambda value: value)}, "only")
        coordinator = Coordinator(1)
        print(coordinator.start(Echo, 1).wait(30).outputs)
        os.closerange(3, 1000)
        try:
            coordinator.start(Echo, 2).wait(30)
        except FloxideError as error:
            print(error, flush=True)
        os._exit(0)
    """
    first, told = run_python(["-"], textwrap.dedent(script), tmp_path).stdout.splitlines()
    assert first == "[1]"
    assert "has closed a file descriptor of the coordinator, which it had not opened itself (os.closerange" in told


def test_row_137_an_older_cloudpickle_is_named(tmp_path: Path) -> None:
    package = tmp_path / "cloudpickle"
    package.mkdir()
    (package / "__init__.py").write_text("__version__ = '2.2.1'\nfrom .cloudpickle import *\n")
    (package / "cloudpickle.py").write_text("_extract_code_globals = _make_skeleton_class = _make_skeleton_enum = 1\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-c", "import floxide_mp.wire.rebuilt"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert f"needs cloudpickle 3.0 or later, and version 2.2.1 is installed ({package}/__init__.py)" in done.stderr
