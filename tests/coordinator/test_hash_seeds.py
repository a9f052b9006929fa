"""Row 84: all workers of a run have one hash seed, after deaths and resumes, and whatever other runs have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from floxide_mp import Coordinator
from floxide_mp.coordinator import leases
from floxide_mp.coordinator.leases import TURN, Session, next_seed
from floxide_mp.wire import hash_seed
from floxide_mp.wire.status_page import SIZE, StatusPage
from tests.coordinator import flows_hash_seeds as flows
from tests.scripts import ROOT, run_python

LIMIT = 50.0


def hash_with(seed: int | str) -> int:
    """The hash of "text" in an interpreter with that seed."""
    environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
    done = subprocess.run(
        [sys.executable, "-c", "print(hash('text'))"], env=environment, capture_output=True, text=True
    )
    return int(done.stdout)


@pytest.fixture(autouse=True)
def none_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)


def test_row_84_workers_of_a_coordinator_agree_also_after_a_death() -> None:
    with Coordinator(2) as c:
        found = {(value, seed) for value, seed, _ in c.start(flows.Hashes, 200).wait(LIMIT).outputs}
        before = {worker.pid for worker in c.workers()}
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        outputs = c.start(flows.Hashes, 200).wait(LIMIT).outputs
        assert not {pid for _, _, pid in outputs} & before
        found |= {(value, seed) for value, seed, _ in outputs}
    ((value, seed),) = found
    assert value == hash_with(seed)


def test_row_84_two_coordinators_draw_two_seeds() -> None:
    seeds = {flows.Hashes().run(1, workers=1).outputs[0][1] for _ in range(2)}
    assert len(seeds) == 2


@pytest.mark.parametrize("given", ["0", "4294967295"])
def test_row_84_the_seed_that_the_user_has_is_taken(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", given)
    ((value, seed, _),) = flows.Hashes().run(1, workers=1).outputs
    assert (value, seed) == (hash_with(given), given)


@pytest.mark.parametrize("given", ["random", "", "many", "4294967296"])
def test_row_84_what_is_no_seed_is_not_taken(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", given)
    ((value, seed, _),) = flows.Hashes().run(1, workers=1).outputs
    assert seed != given
    assert value == hash_with(seed)


@pytest.mark.parametrize("option", ["-I", "-E"])
def test_row_84_an_interpreter_that_ignores_the_environment(option: str, tmp_path: Path) -> None:
    """Its workers have the seed, ignore all other variables of Python's, and have them for what they start."""
    text = f"""
import os, sys
sys.path.append({str(ROOT)!r})
from tests.coordinator import flows_hash_seeds as flows
os.environ["PYTHONWARNINGS"] = "error"
found = flows.Hashes().run(300, workers=2).outputs
print(len({{(value, seed) for value, seed, _ in found}}), *found[0][:2])
"""
    done = run_python([option, "-"], text, tmp_path)
    assert done.stderr == ""
    count, value, seed = done.stdout.split()
    assert (count, int(value)) == ("1", hash_with(seed))


def test_row_84_a_set_in_a_generator_that_is_begun_again(tmp_path: Path) -> None:
    with Coordinator(2) as c:
        outputs = c.start(flows.OfASet, str(tmp_path)).wait(LIMIT).outputs
    assert (tmp_path / "died").exists()
    assert sorted(outputs) == sorted(f"text {n}" for n in range(6000))


def begun(store: Path, run_id: str, monkeypatch: pytest.MonkeyPatch, seed: str, count: int = 200) -> int:
    """A run in a store that has that seed, and has not been finished; the hash of "text" there."""
    monkeypatch.setenv("PYTHONHASHSEED", seed)
    with Coordinator(1, store=store) as c:
        c.start(flows.Hashes, count, run_id=run_id).pause()
    monkeypatch.delenv("PYTHONHASHSEED")
    return hash_with(seed)


@pytest.mark.parametrize("workers", [1, 2])
def test_row_84_a_run_keeps_its_seed_when_it_is_resumed(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "runs.db"
    expected = begun(store, "first", monkeypatch, "5")
    monkeypatch.setenv("PYTHONHASHSEED", "6")  # for new runs
    with Coordinator(workers, store=store) as c:
        assert c.start(flows.Hashes, 10, run_id="second").wait(LIMIT).outputs[0][1] == "6"
        outputs = c.resume(flows.Hashes, "first").wait(LIMIT).outputs
        assert len(outputs) == 200
        assert {value for value, _, _ in outputs} == {expected}
        assert c.start(flows.Hashes, 10, run_id="third").wait(LIMIT).outputs[0][1] == "6"


def test_row_84_a_coordinator_has_the_seed_of_the_last_run_of_its_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody need be replaced to go on."""
    store = tmp_path / "runs.db"
    begun(store, "first", monkeypatch, "5")
    with Coordinator(1, store=store) as c:
        (worker,) = c.workers()
        outputs = c.resume(flows.Hashes, "first").wait(LIMIT).outputs
        assert {seed for _, seed, _ in outputs} == {"5"}
        assert worker.pid in {pid for _, _, pid in outputs}
    found = flows.Hashes().run_with_checkpoint(7, store=store, run_id="second", workers=1)
    assert found.outputs[0][1] == "5"


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_row_84_runs_of_several_seeds_at_once(workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "runs.db"
    expected = {run_id: begun(store, run_id, monkeypatch, seed) for run_id, seed in zip("abc", "123", strict=True)}
    with Coordinator(workers, store=store) as c:
        runs = [c.resume(flows.Hashes, run_id) for run_id in expected]
        for run in runs:
            outputs = run.wait(LIMIT).outputs
            assert len(outputs) == 200
            assert {value for value, _, _ in outputs} == {expected[run.run_id]}


def test_row_84_nobody_waits_for_the_end_of_a_run_with_another_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker, and a run that would keep it for a minute."""
    monkeypatch.setattr(leases, "TURN", 0.1)
    store = tmp_path / "runs.db"
    begun(store, "short", monkeypatch, "5", 10)
    monkeypatch.setenv("PYTHONHASHSEED", "6")
    with Coordinator(1, store=store) as c:
        long = c.start(flows.Slow, 3000)
        assert len(c.resume(flows.Hashes, "short").wait(LIMIT).outputs) == 10
        assert long.info().status.value != "completed"
        before = long.metrics().completed
        while long.metrics().completed == before:  # it goes on
            c.start(flows.Hashes, 1).wait(LIMIT)
        long.cancel()


def test_row_84_a_run_that_a_proxy_starts_has_the_seed_of_the_workers() -> None:
    with Coordinator(1) as c:
        (worker,) = c.workers()
        run_id = flows.Hashes().start_distributed(None, 5, c.proxy())
        outputs = c.run(run_id).wait(LIMIT).outputs
        assert {pid for _, _, pid in outputs} == {worker.pid}, "nobody was replaced for it"


def test_row_84_a_run_begun_inline_has_a_seed_for_later(tmp_path: Path) -> None:
    store = tmp_path / "runs.db"
    with Coordinator(0, store=store) as c:
        run = c.start(flows.Hashes, 50, run_id="first")
        run.pause()
    with Coordinator(2, store=store) as c:
        assert len({seed for _, seed, _ in c.resume(flows.Hashes, "first").wait(LIMIT).outputs}) == 1


# -- processes with other hashes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_row_84_what_a_text_hashes_to_with_a_seed_is_known_without_a_process(seed: int) -> None:
    text = "from floxide_mp.wire import hash_seed; print(hash_seed.probe())"
    environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
    done = subprocess.run([sys.executable, "-c", text], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert int(done.stdout) == hash_seed.probe_of(seed)


PROGRAM = """
import sys
from pathlib import Path
from tests.coordinator import flows_hash_seeds as flows
from floxide_mp import RunFailedError
folder, name, workers = sys.argv[1:]
Path(folder, "pid").write_text(str(__import__("os").getpid()))
try:
    store = Path(folder, "runs.db")
    flow = getattr(flows, name)()
    outputs = flow.run_with_checkpoint(folder, store=store, run_id="run", workers=int(workers)).outputs
    print(len(outputs), len(set(outputs)))
except RunFailedError as error:
    print(error)
"""


def ran(folder: Path, name: str, workers: int, seed: int | None = None) -> tuple[str, str]:
    """What the program printed, and what it logged."""
    with pytest.MonkeyPatch.context() as patch:
        if seed is not None:
            patch.setenv("PYTHONHASHSEED", str(seed))
        done = run_python(["-", str(folder), name, str(workers)], PROGRAM, folder)
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize("workers", [(2, 0), (0, 2), (0, 0)])
def test_row_84_a_set_that_is_begun_again_with_other_hashes_is_refused(
    workers: tuple[int, int], tmp_path: Path
) -> None:
    first, later = workers
    assert ran(tmp_path, "EndsProgram", first) == ("", "")
    printed, logged = ran(tmp_path, "EndsProgram", later)
    assert "run 'run': the NextAll of end_program had given" in printed
    assert logged.count("run 'run': hash(text) and the order of sets are not") == 1
    if first:  # what is to be done about it helps
        seed = int(printed.partition("PYTHONHASHSEED=")[2].split()[0])
        assert ran(tmp_path, "EndsProgram", later, seed) == ("6000 6000", "")
    else:
        assert "start it again under another run_id" in printed


def test_row_84_a_refused_set_goes_on_in_workers_of_its_seed(tmp_path: Path) -> None:
    ran(tmp_path, "EndsProgram", 1)
    assert "others when begun again" in ran(tmp_path, "EndsProgram", 0)[0]
    assert ran(tmp_path, "EndsProgram", 1) == ("6000 6000", "")


@pytest.mark.parametrize("workers", [(2, 0), (0, 2)])
def test_row_84_an_iterator_that_does_not_go_by_hashes_goes_on(workers: tuple[int, int], tmp_path: Path) -> None:
    ran(tmp_path, "EndsProgramInOrder", workers[0])
    printed, logged = ran(tmp_path, "EndsProgramInOrder", workers[1])
    assert printed == "6000 6000"
    assert logged.count("hash(text) and the order of sets are not") == 1


def test_row_84_a_run_that_has_done_nothing_yet_has_no_hashes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Coordinator(0, store=tmp_path / "runs.db") as c:
        c.start(flows.Parts, 9, run_id="run").pause()
    with Coordinator(1, store=tmp_path / "runs.db") as c:
        assert len(c.resume(flows.Parts, "run").wait(LIMIT).outputs) == 9
    assert caplog.text == ""


def test_row_84_inline_programs_of_one_seed_go_on(tmp_path: Path) -> None:
    ran(tmp_path, "EndsProgram", 0, seed=5)
    assert ran(tmp_path, "EndsProgram", 0, seed=5) == ("6000 6000", "")


ELSEWHERE = """
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from floxide_mp import Coordinator
from floxide_mp.engines.executor import ExecutorEngine
from tests.coordinator import flows_hash_seeds as flows

def pool(context):
    with ProcessPoolExecutor(2, context) as pool, Coordinator(2, engine=partial(ExecutorEngine, pool)) as c:
        return c.start(flows.Parts, 20, run_id="run").wait(50).outputs

def loops(context):
    with Coordinator(WORKERS) as c:
        flows.Parts().start_distributed(None, 20, c, "run")
        processes = [context.Process(target=flows.loop, args=(c.proxy(), 8 + n, "run")) for n in range(2)]
        for process in processes: process.start()
        for process in processes: process.join()
        return c.run("run").wait(50).outputs

if __name__ == "__main__":
    where, method = sys.argv[1:]
    print(len(globals()[where](get_context(method))))
"""


def elsewhere(where: str, method: str, folder: Path, workers: int = 0) -> tuple[str, str]:
    (folder / "program.py").write_text(ELSEWHERE.replace("WORKERS", str(workers)))
    done = run_python(["program.py", where, method], None, folder)
    return done.stdout, done.stderr


@pytest.mark.parametrize("where", ["pool", "loops"])
def test_row_84_processes_of_the_users_own_with_other_hashes_are_warned_of_once(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed, logged = elsewhere(where, "spawn", tmp_path)
    assert printed == "20\n"
    assert logged.count("\n") == logged.count("run 'run': hash(text) and the order of sets are not") == 1
    assert "PYTHONHASHSEED=0 in the environment" in logged
    monkeypatch.setenv("PYTHONHASHSEED", "0")  # as it says
    assert elsewhere(where, "spawn", tmp_path) == ("20\n", "")


@pytest.mark.parametrize("where", ["pool", "loops"])
def test_row_84_forked_processes_have_the_hashes_of_the_program(where: str, tmp_path: Path) -> None:
    assert elsewhere(where, "fork", tmp_path) == ("20\n", "")


# -- who makes room ------------------------------------------------------------------------------------------------


def sessions(*seeds: int | None) -> list[Session]:
    made = [Session(n, n, StatusPage(memoryview(bytearray(SIZE))), 0, hash_seed=seed) for n, seed in enumerate(seeds)]
    for session in made:
        session.calls, session.began = 5, 0.0
    return made


LATER = TURN + 1


def test_row_84_an_idle_worker_makes_room_for_work_that_nobody_takes() -> None:
    workers = sessions(1, 1)
    assert next_seed(workers[0], True, 0.0, {}, workers) is None
    assert next_seed(workers[0], True, 0.0, {1: 5}, workers) is None
    assert next_seed(workers[0], True, 0.0, {2: 1}, workers) == 2
    workers[0].next_seed = 2
    assert next_seed(workers[1], True, 0.0, {2: 1}, workers) is None, "one is coming for the one item"
    assert next_seed(workers[1], True, 0.0, {2: 2}, workers) == 2


def test_row_84_a_worker_that_waits_for_it_is_enough() -> None:
    workers = sessions(1, 2)
    workers[1].waiting = True
    assert next_seed(workers[0], True, 0.0, {2: 1}, workers) is None
    workers[1].waiting = False
    assert next_seed(workers[0], True, 0.0, {2: 1}, workers) == 2


def test_row_84_a_busy_worker_makes_room_after_its_turn() -> None:
    workers = sessions(1)
    assert next_seed(workers[0], False, TURN / 2, {1: 9, 2: 1}, workers) is None
    assert next_seed(workers[0], False, LATER, {1: 9, 2: 1}, workers) == 2
    assert next_seed(workers[0], False, LATER, {1: 9}, workers) is None
    workers[0].began = None  # its start may take longer than that
    assert next_seed(workers[0], False, LATER, {1: 9, 2: 1}, workers) is None


def test_row_84_busy_workers_make_room_until_all_seeds_have_as_many() -> None:
    workers = sessions(1, 1, 1, 1)
    ready = {1: 99, 2: 99}
    for worker in workers:
        worker.next_seed = next_seed(worker, False, LATER, ready, workers)
    assert [worker.next_seed for worker in workers] == [2, 2, None, None]


def test_row_84_of_more_seeds_than_workers_none_waits_for_ever() -> None:
    workers = sessions(1, 2)
    assert next_seed(workers[0], False, LATER, {1: 9, 2: 9, 3: 9}, workers) == 3
    workers = sessions(3, 2)
    assert next_seed(workers[1], False, LATER, {1: 9, 2: 9, 3: 9}, workers) == 1


def test_row_84_loops_of_the_users_own_take_all() -> None:
    workers = sessions(None, 1)
    assert next_seed(workers[0], True, LATER, {2: 9}, workers) is None
