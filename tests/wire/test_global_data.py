"""Global data that the program changes where workers do not see it: a warning that names it, and none for the rest."""

from __future__ import annotations

import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from floxide_mp import Coordinator, Workflow, node
from floxide_mp.wire.global_digests import MOST, WIDE, _digest_at
from tests.scripts import run_python

LIMIT = 40.0
THERE = {  # module -> text
    "options": """
        SIZE, NAMES, UNUSED, LIST = 1, {"b", "a"}, {}, [1]
        class Options:
            fast = False
            kept = [1]
            def __init__(self): self.level = 1
        def sized(n): return n * SIZE
    """,
    "script": """
        import argparse, random, threading, time
        import options
        from floxide_mp import Workflow, node
        from options import Options, sized
        SETTINGS, OTHER, CURRENT, WORDS = {"fast": False}, {}, Options(), set("abcdef")
        LOCK, BEGUN, RNG, ARGUMENTS = threading.Lock(), [7], random.Random(), argparse.Namespace(n=1)
        FACTOR = 1
        class Local:
            depth = 1
            def look(self): return self.depth
        def inner(): return SETTINGS["fast"], Local().look()
        @node
        def work(n):
            with LOCK:
                found = Options.fast, Options.kept, CURRENT.level, len(WORDS), BEGUN, RNG is None, ARGUMENTS.n
                return n * FACTOR, inner(), found, sized(n), options.LIST, sorted(options.NAMES)
        class Flow(Workflow):
            start = work = work
        if __name__ == "__main__":
            OTHER["not looked up"] = FACTOR = 3
            options.UNUSED[1] = 2
            CHANGE
            print(Flow().run(1, workers=2).output[0])
    """,
}


def said(folder: Path, change: str, guarded: bool = True) -> str:
    """What a script says on its error stream that changes something before its workers are started."""
    for name, text in THERE.items():
        text = textwrap.dedent(text).replace("CHANGE", change)
        if not guarded:
            text = text.replace('__name__ == "__main__"', "True").replace("threading.Lock()", "None")
            text = text.replace("with LOCK:", "if True:")
        (folder / f"{name}.py").write_text(text)
    done = run_python(["-W", "error", "script.py"], None, folder)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ('SETTINGS["fast"] = True', "SETTINGS"),
        ("Local.depth = 2", "Local.depth"),
        ("CURRENT.level = 2", "CURRENT"),
        ("ARGUMENTS.n = 2; BEGUN.append(8); WORDS.add('z')", "ARGUMENTS, BEGUN, WORDS"),
        ("Options.fast = True; options.Options.kept.append(2)", "options.Options.fast, options.Options.kept"),
        ("options.SIZE = 10", "options.SIZE"),
        ("options.LIST[0] = 10; options.NAMES.add('c')", "options.LIST, options.NAMES"),
        ("pass", ""),
    ],
)
def test_row_133_what_the_guarded_block_changes_inside_an_object(tmp_path: Path, change: str, names: str) -> None:
    """Once for two workers. Nothing is said of what no node looks up, of a random generator, or of a lock."""
    text = said(tmp_path, change)
    if not names:
        assert text == ""
        return
    (line,) = text.splitlines()
    before, _, after = line.partition(": in a worker another value than in the program is found under ")
    assert before.startswith("run ") and "as input, or as a field of the context" in after
    assert sorted(after.partition(". Workers ")[0].split(", ")) == sorted(names.split(", "))


def test_row_133_what_goes_by_value_is_there_as_it_is_and_modules_are_not(tmp_path: Path) -> None:
    assert said(tmp_path, 'SETTINGS["fast"] = True; Local.depth = 2', guarded=False) == ""
    assert "found under options.SIZE. Workers " in said(tmp_path, "options.SIZE = 10", guarded=False)


LIMITS, SEEN = {"most": 5}, list[int]()


@node
def within(n: int) -> bool:
    SEEN.append(n)
    return n <= LIMITS["most"]


@node
def how_many(n: int) -> int:
    return len(SEEN)


class Within(Workflow):
    within = within
    start = within


class HowMany(Workflow):
    how_many = how_many
    start = how_many


def test_row_133_workers_that_are_there_already(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What the program changes between two runs is named. What steps change in their worker is not."""
    with Coordinator(1) as c:
        assert (c.start(Within, 6).wait(LIMIT).output, c.start(HowMany, 0).wait(LIMIT).output) == (False, 1)
        assert caplog.messages == []
        monkeypatch.setitem(LIMITS, "most", 10)
        assert c.start(Within, 6, run_id="again").wait(LIMIT).output is False
        (message,) = caplog.messages
        assert "run again: in a worker another value" in message and f"under {__name__}.LIMITS. " in message


class Own:
    __slots__ = ("__dict__", "slot")


class OwnDict(dict[str, int]):
    pass


def own(slot: Any, **more: Any) -> Own:
    made = Own()
    made.slot = slot
    vars(made).update(more)
    return made


def digest(monkeypatch: pytest.MonkeyPatch, value: Any) -> int:
    monkeypatch.setitem(globals(), "VALUE", value)
    return _digest_at((__name__, "VALUE"))


def test_row_133_values_that_are_told_from_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    within: list[Any] = [1]
    within.append(within)
    values = [
        *(None, True, 1, 1.0, -(10**5000), "1", b"1", bytearray(b"2"), [1], (1,), {1}, {1: 2}, {2: 1}, {1: {2: [3]}}),
        *(SimpleNamespace(a=1), SimpleNamespace(a=2), own(1), own(2), own(1, a=1), OwnDict(a=1), OwnDict(a=2), within),
        *(list(range(WIDE + 1)), list(range(WIDE + 2)), "a" * 10**6, "a" * 10**6 + "b", [Own], [OwnDict]),
    ]
    numbers = [digest(monkeypatch, value) for value in values]
    assert len(set(numbers)) == len(values) and 0 not in numbers


def test_row_133_equal_values_and_what_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs: list[tuple[Any, Any]] = [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"one", "two", "three"}, {"three", "two", "one"}),
        (own({"x"}, a=1), own({"x"}, a=1)),
        ([object()], [object()]),
    ]
    for one, other in pairs:
        assert digest(monkeypatch, one) == digest(monkeypatch, other) != 0
    large = [[0] * WIDE for _ in range(1 + MOST // WIDE)]
    assert [digest(monkeypatch, value) for value in (object(), large, Own, digest)] == [0] * 4
    assert _digest_at((__name__, "not there")) == _digest_at(("not.there", "x")) == _digest_at((__name__, "Own.x")) == 0


def test_row_133_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    numpy = pytest.importorskip("numpy")
    zeros, ones, large = numpy.zeros((2, 3)), numpy.ones((2, 3)), numpy.zeros(10**6)
    assert digest(monkeypatch, zeros) == digest(monkeypatch, zeros.copy()) != 0
    assert len({digest(monkeypatch, value) for value in (zeros, ones, zeros.reshape(3, 2), large, large[:-1])}) == 5
    assert digest(monkeypatch, numpy.array([object()])) == 0
