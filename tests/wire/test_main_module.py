"""Scripts as ``__main__``: what workers find of one with a ``__main__`` guard, which they run, and of one without."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from floxide_mp.wire import main_guard
from tests.scripts import ROOT, printed, run_python


def snippets(guarded: bool) -> dict[str, str]:
    """What came of each snippet of ``tests.wire.snippets``, by name: "" or how it differed."""
    done = subprocess.run(
        [sys.executable, "-c", f"from tests.wire.snippets import main; main({guarded})"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "1"},  # one object keeps the hash that it had here
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    warnings = [line.partition(". Workers ")[0] for line in done.stderr.splitlines()]
    # One of them sets a class attribute in its node, and was called as a plain function before.
    changed = [line.partition(" found under ")[2] for line in warnings if " found under " in line]
    assert changed == (["A.version"] if guarded else [])
    lines = [line.split(" | ") for line in done.stdout.splitlines()]
    return {name: told for kind, name, told in lines if kind != "--"}


def test_row_85_what_a_guarded_script_defines_is_in_workers_what_it_is_at_home() -> None:
    told = snippets(guarded=True)
    assert len(told) > 60
    assert {name: how for name, how in told.items() if how} == {}


NODES = """
    from floxide_mp import NextAll, RunFailedError, Workflow, node
    def run(function, value=None, workers=WORKERS):
        class Flow(Workflow):
            work = node(function)
            start = work
        try:
            return Flow().run(value, workers=workers).output
        except RunFailedError as error:
            return f"{type(error.__cause__).__name__}: {error.__cause__}" + "".join(error.__cause__.__notes__[:-1])
"""


def told(script: str, folder: Path, workers: int) -> list[str]:
    nodes = textwrap.dedent(NODES).replace("WORKERS", str(workers))
    return printed(nodes + textwrap.dedent(script), folder).splitlines()


@pytest.mark.parametrize("workers", [0, 2])
def test_row_86_what_a_guarded_script_sets_for_the_process(tmp_path: Path, workers: int) -> None:
    """Also where nothing of the run is defined in the script, so that nothing refers to it."""
    (tmp_path / "looks.py").write_text(
        "import codecs, decimal, sys, warnings\n"
        "def look(text):\n"
        "    third = str(decimal.Decimal(text) / 3)\n"
        "    return third, sys.getrecursionlimit(), warnings.filters[0][0], b'a'.decode('house')\n"
    )
    script = """
        import codecs, decimal, sys, warnings
        from looks import look
        decimal.getcontext().prec = 30
        sys.setrecursionlimit(4321)
        warnings.filterwarnings("ignore", category=UserWarning)
        codecs.register(lambda name: codecs.lookup("utf-8") if name == "house" else None)
        if __name__ == "__main__":
            print(run(look, "1"))
    """
    assert told(script, tmp_path, workers) == [f"('0.{'3' * 30}', 4321, 'ignore', 'a')"]


@pytest.mark.parametrize("workers", [0, 1])
def test_row_85_what_is_bound_under_the_guard(tmp_path: Path, workers: int) -> None:
    """A worker does not come there. It gets the definitions, and the values that functions of the script look up."""
    script = """
        import sys
        FACTOR, LIMIT, KEPT = 1, 5, [7]
        def scaled(n): return n * FACTOR + OFFSET + LIMIT, KEPT is sys.modules["__main__"].KEPT, __name__
        def work(n): return Late(scaled(n))
        def configure():
            global LIMIT
            LIMIT = 100
        if __name__ == "__main__":
            import math
            class Late:
                def __init__(self, value): self.value = value
                def __repr__(self): return f"{math.floor(1.5)} {self.value} {OFFSET}"
            FACTOR, OFFSET = 10, 3
            configure()
            print(made := run(work, 2), type(made) is Late)
            print(run(lambda n: (n + FACTOR, LIMIT, globals()["OFFSET"], scaled(n)), 1))
    """
    assert told(script, tmp_path, workers) == [
        "1 (123, True, '__main__') 3 True",
        "(11, 100, 3, (113, True, '__main__'))",
    ]


def test_row_85_what_is_bound_under_the_guard_and_cannot_be_sent(tmp_path: Path) -> None:
    """Neither is it refused, since it may not be needed, nor is what the script had under that name taken for it."""
    script = """
        import os, threading
        LOCK = None
        def look(n):
            with LOCK: return n
        if __name__ == "__main__":
            LOCK = threading.Lock()
            print(run(abs, -1))
            print(run(look, 1))
    """
    first, second = told(script, tmp_path, 1)
    assert first == "1"
    assert second.startswith("NameError: name 'LOCK' is not defined")
    assert 'LOCK is bound under the script\'s `if __name__ == "__main__":`, and cannot be sent to workers' in second


@pytest.mark.parametrize(
    ("at_top", "error"),
    [
        ("parser.parse_args(['--n', 'x'])", r"FloxideError: the script \S+script.py ended with sys.exit\(2\) \(a"),
        ("sys.exit('not here')", r"FloxideError: the script \S+script.py ended with sys.exit\('not here'\) as a"),
        ("{}['a']", r"KeyError: 'a'raised by the script \S+script.py, which each worker runs, to have what it defines"),
        ("run(abs, -1, 1)", "FloxideError: a workflow is run by a module as a worker process imports it"),
    ],
)
def test_row_85_a_script_that_cannot_be_run_in_a_worker(tmp_path: Path, at_top: str, error: str) -> None:
    script = f"""
        import argparse, sys
        parser = argparse.ArgumentParser()
        parser.add_argument("--n", type=int)
        if __name__ == "__mp_main__":
            {at_top}
        if __name__ == "__main__":
            print(run(abs, -1))
    """
    text = textwrap.dedent(NODES).replace("WORKERS", "1") + textwrap.dedent(script)
    (tmp_path / "script.py").write_text(text)
    done = run_python(["script.py"], None, tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.match(error, done.stdout), done.stdout


def test_row_85_a_module_that_is_run_as_the_program(tmp_path: Path) -> None:
    """``python -m package.module``, with imports that are relative to the package."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "rates.py").write_text("USD = 1.5\n")
    script = """
        from .rates import USD
        class Price:
            def __init__(self, n): self.n = n * USD
        if __name__ == "__main__":
            print(type(run(Price, 2)) is Price, run(lambda n: (Price(n).n, __package__), 2))
    """
    text = textwrap.dedent(NODES).replace("WORKERS", "1") + textwrap.dedent(script)
    (tmp_path / "shop" / "prices.py").write_text(text)
    done = run_python(["-W", "error", "-m", "shop.prices"], None, tmp_path)
    assert (done.stdout, done.stderr) == ("True (3.0, 'shop')\n", "")


SPAWNING = """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    def square(n): return Square(n)
    class Square:
        def __init__(self, n): self.n = n * n
        def __repr__(self): return f"Square({self.n})"
    def pooled(n):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(square, n).result(30)
    def ran(n): return run(square, n)
"""


@pytest.mark.parametrize("workers", [0, 1])
def test_row_85_a_node_that_spawns_processes(tmp_path: Path, workers: int) -> None:
    """They have the script as their main module, as those have that the script spawns."""
    script = textwrap.dedent(SPAWNING) + 'if __name__ == "__main__": print(type(run(pooled, 3)) is Square)\n'
    assert told(script, tmp_path, workers) == ["True"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_row_85_a_run_in_a_process_that_was_spawned(tmp_path: Path, method: str) -> None:
    """There the script is ``__mp_main__``."""
    script = textwrap.dedent(SPAWNING) + textwrap.dedent(f"""
        if __name__ == "__main__":
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context({method!r})) as pool:
                made = pool.submit(ran, 3).result(30)
                print(made, type(made) is Square)
    """)
    assert told(script, tmp_path, 1) == ["Square(9) True"]


BEGUN = """
    import os, sys
    from floxide_mp import Context, EventLog, NextAll, Workflow, node
    from dataclasses import dataclass, field
    @dataclass
    class Value:
        n: int
    @dataclass
    class Ctx(Context):
        log: EventLog[Value] = field(default_factory=EventLog)
    @node
    def split(first: Value): return NextAll(Value(n) for n in range(first.n))
    @node
    def work(ctx: Ctx, value: Value):
        if value.n == 1 and not os.path.exists("mended"): raise ValueError("not mended")
        assert type(value) is Value
        ctx.log.append(value)
        return value
    class Flow(Workflow):
        context = Ctx
        split, work = split, work
        start = split
        edges = {split: [work]}
    def show(result): print(result.outputs, list(result.context.log), {type(one) is Value for one in result.outputs})
    if __name__ == "__main__":
        show(Flow().run_with_checkpoint(Value(3), store="runs.db", run_id="r", workers=int(sys.argv[1])))
"""
RESUMING = """
    from begun import Flow, show
    class Value: "another one of that name"
    if True:
        show(Flow().resume(store="runs.db", run_id="r", workers=2))
"""


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["begun.py", "2"], None),
        (["begun.py", "0"], None),
        (["other.py"], None),
        (["guarded.py"], None),
        (["-"], RESUMING.replace('class Value: "another one of that name"', "")),
    ],
    ids=["the script", "the script, inline", "another script", "another, guarded", "standard input"],
)
def test_row_85_a_run_of_a_guarded_script_goes_on(
    tmp_path: Path, command: list[str], text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same script, and in programs that import it. (On the command line, too: ``test_cli_store``.)"""
    monkeypatch.setenv("PYTHONHASHSEED", "1")  # or one that goes on inline warns
    (tmp_path / "begun.py").write_text(textwrap.dedent(BEGUN))
    other = textwrap.dedent(RESUMING)
    (tmp_path / "other.py").write_text(other.replace('class Value: "another one of that name"', ""))
    (tmp_path / "guarded.py").write_text(
        other.replace('class Value: "another one of that name"', "").replace("if True", 'if __name__ == "__main__"')
    )
    begun = run_python(["begun.py", "1"], None, tmp_path)
    assert "ValueError: not mended" in begun.stderr
    (tmp_path / "mended").touch()
    done = run_python(["-W", "error", *command], text and textwrap.dedent(text), tmp_path)
    values = "[Value(n=0), Value(n=1), Value(n=2)]"
    assert (done.stdout, done.stderr) == (f"{values} {values} {{True}}\n", "")


def test_row_85_a_script_that_is_edited_while_it_runs(tmp_path: Path) -> None:
    """Its text is not what this program runs any more, so what it defines goes by value."""
    script = """
        import os
        FACTOR = 2
        def work(n): return n * FACTOR
        if __name__ == "__main__":
            path = os.path.abspath(__file__)
            with open(path) as file: text = file.read()
            with open(path, "w") as file: file.write(text.replace("FACTOR = 2", "FACTOR = 1000"))
            print(run(work, 3))
    """
    text = textwrap.dedent(NODES).replace("WORKERS", "1") + textwrap.dedent(script)
    (tmp_path / "script.py").write_text(text)
    done = run_python(["script.py"], None, tmp_path)
    assert done.stdout == "6\n"
    assert "script.py was changed since this program began: workers get what it defines by value" in done.stderr


# -- without a guard ----------------------------------------------------------------------------------------------

ADVICE = 'put it into a module (or give the script an `if __name__ == "__main__":` guard)'
LIMITS = {  # the table in docs/scripts.md
    *("lock global", "threading.local global", "open file global", "sqlite connection global", "ctypes structure"),
    *("globals() lookup", "eval of a name", "subclasses lookup", "inspect getsource"),
    *("zz decimal precision", "zz locale warnings", "zz pandas extension accessor"),
}


def test_row_85_what_goes_by_value_but_for_known_limits() -> None:
    """What is refused says what to do."""
    told = snippets(guarded=False)
    assert len(told) > 60
    assert {name for name, how in told.items() if how} == LIMITS & set(told)
    refused = [how for how in told.values() if "SerializationError" in how]
    assert len(refused) == 5
    assert all(ADVICE in how for how in refused)


BY_VALUE = """
    import abc, dataclasses, enum, functools, json, pickle, typing
    class Hooked(json.JSONEncoder):
        made = []
        def __init_subclass__(cls, *, name, **more):
            super().__init_subclass__(**more)
            cls.name = name
            Hooked.made.append(name)
    class Meta(abc.ABCMeta):
        def __call__(cls, *arguments): return super().__call__(*arguments), cls.__name__
        def __new__(meta, name, bases, names, *, kind):
            return super().__new__(meta, name, bases, dict(names, kind=kind))
        def __init__(cls, name, bases, names, *, kind): super().__init__(name, bases, names)
    class Left(Hooked, name="left"):
        __slots__ = ("n",)
    class Abstract(metaclass=Meta, kind="abstract"):
        @abc.abstractmethod
        def f(self): ...
    class Concrete(Abstract, metaclass=Meta, kind="concrete"):
        def f(self): return super().f()
    @dataclasses.dataclass(frozen=True)
    class Size:
        height: int
        width: int = 2
        def area(self): return self.height * self.width
    class Paper(Size, enum.Enum):
        A = 3
        B = 4, 5
        C = 3
        def next(self): return Paper.B
    class Access(enum.IntFlag, boundary=enum.STRICT):
        R, W = 4, 2
        RW = 6
    class Name(str, enum.Enum):
        def __new__(cls, text, other):
            made = str.__new__(cls, text)
            made._value_, made.other = text, other
            return made
        X = "x", "other x"
    @functools.singledispatch
    def depth(value): return 0
    @depth.register
    def _(value: list): return 1 + max(map(depth, value), default=0)
    Key = typing.NewType("Key", int)
    class Kept:
        known = {}
        def __new__(cls, name): return cls.known.setdefault(name, object.__new__(cls))
        def __init__(self, name): self.name = name
        def __reduce__(self): return Kept, (self.name,)
    class Sentinel:
        def __reduce__(self): return "NOTHING"
    NOTHING = Sentinel()
    DATA = pickle.dumps([Size(1), Paper.B])
    def work(value):
        return (
            Hooked.made, Left.name, Left.__slots__, Concrete.kind, Concrete()[1], issubclass(Meta, abc.ABCMeta),
            [(p.name, p.area(), p.value, p.next().name) for p in Paper], Paper.C is Paper.A,
            Paper(Size(4, 5)) is Paper.B,
            Access(6) is Access.RW, Access.R | Access.W, Name("x").other, Name.X.upper(), isinstance(Name.X, Name),
            depth([[], [[]]]), Key(3), value[0] is NOTHING, value[1] is Paper.A, pickle.loads(DATA)[1] is Paper.B,
        ), NOTHING, Paper.B, Name.X, [Kept("a"), Kept("a")]
    told, *back = run(work, [NOTHING, Paper.C])
    print(told, back[0] is NOTHING, back[1] is Paper.B, back[2] is Name.X, back[3][0] is back[3][1] is Kept("a"))
"""


def test_row_85_by_value_classes_are_not_made_anew(tmp_path: Path) -> None:
    """Nothing that the script's metaclasses and bases do to a class is done to it twice; aliases are aliases."""
    inline, worker = (told(BY_VALUE, tmp_path, workers) for workers in (0, 1))
    assert inline == worker
    assert inline[0].endswith("True True True True")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("globals()['helper']", "helper is of the program's __main__"),
        ("eval('helper')", "helper is of the program's __main__"),
        ("__import__('pickle').loads(b'c__main__\\nlost\\n.')", "lost is of the program's __main__"),
    ],
)
def test_row_85_what_a_node_by_value_looks_for_in_vain_says_what_to_do(tmp_path: Path, code: str, said: str) -> None:
    script = f"""
        def helper(): pass
        def work(value): return {code!s}
        print(run(work))
    """
    (line,) = told(script, tmp_path, 1)
    assert said in line
    assert ADVICE in line


def test_row_85_a_workflow_that_takes_much_along_is_warned_of(tmp_path: Path) -> None:
    script = """
        TABLE = b"x" * 40_000_000
        print(run(lambda n: len(TABLE)))
    """
    text = textwrap.dedent(NODES).replace("WORKERS", "1") + textwrap.dedent(script)
    (tmp_path / "script.py").write_text(text)
    done = run_python(["script.py"], None, tmp_path)
    assert done.stdout == "40000000\n"
    assert "the workflow takes 40 MB to each worker; what its nodes share belongs into the context" in done.stderr
    assert "(the largest global here is TABLE)" in done.stderr


# -- guards of other forms, and other ways to run a script -----------------------------------------------------------

SETS = """
import decimal, enum, sys
from floxide_mp import Workflow, node
class Color(enum.Enum):
    R = (1, "r")
    def __init__(self, number, text): self.number = number
decimal.getcontext().prec = 5
@node
def work(color: Color): return color is Color.R, str(decimal.Decimal(1) / 3)
class Flow(Workflow):
    work = work
    start = work
    edges = {}
def main(): print(Flow().run(Color.R, workers=1).output)
"""


@pytest.mark.parametrize(
    "guarded",
    [
        "if not __name__ == '__main__': pass\nelse: main()",
        "if __name__ != '__main__': raise SystemExit\nmain()",
        "if __name__ != '__main__': sys.exit('not a module')\nlate = 1\nmain()",
        "match __name__:\n    case '__main__': main()",
        "__name__ == '__main__' and main()",
        "if __name__ in ('__main__', 'x'): main()",
        "here = __name__ == '__main__'\nif here: main()",
    ],
)
def test_row_86_guards_of_other_forms(guarded: str, tmp_path: Path) -> None:
    assert printed(SETS + guarded, tmp_path) == "(True, '0.33333')\n"


@pytest.mark.parametrize("way", ["prompt", "archive"])
def test_row_86_a_guarded_script_at_a_prompt_or_in_an_archive(way: str, tmp_path: Path) -> None:
    text = SETS + "if __name__ == '__main__': main()"
    (tmp_path / "__main__.py").write_text(text)
    if way == "archive":
        with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
            archive.write(tmp_path / "__main__.py", "__main__.py")
        (tmp_path / "__main__.py").unlink()
    arguments = ["app.pyz"] if way == "archive" else ["-i", "__main__.py"]
    done = run_python(arguments, "", tmp_path)
    assert done.stdout == "(True, '0.33333')\n"
    assert done.stderr.strip(" >\n") == ""


def test_row_86_what_is_defined_at_the_prompt_behind_a_script_goes_by_value(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        SETS + "FACTOR = 1\ndef scaled(): return FACTOR\nif __name__ == '__main__': main()"
    )
    text = """
FACTOR = 7
print(Workflow.build("W", nodes={"a": node(lambda _: scaled())}, start="a", edges={})().run(1, workers=1).output)
"""
    done = run_python(["-i", "script.py"], text, tmp_path)
    assert done.stdout == "(True, '0.33333')\n7\n"


@pytest.mark.parametrize("module", ["cProfile", "profile", "trace"])
def test_row_86_a_guarded_script_that_another_program_runs_is_warned_of_once(module: str, tmp_path: Path) -> None:
    text = (
        SETS.replace(", enum", "").replace("(enum.Enum)", "").replace("Color.R", "1").replace("color: Color", "color")
    )
    (tmp_path / "script.py").write_text(text + "if __name__ == '__main__': main(), main()")
    more = ["--listfuncs"] if module == "trace" else []
    done = run_python(["-m", module, *more, "script.py"], None, tmp_path)
    assert done.stderr.count("script.py is run by " + module) == 1, done.stderr


def test_row_86_a_guard_that_is_not_recognised_is_warned_of_once(tmp_path: Path) -> None:
    text = (
        SETS.replace(", enum", "").replace("(enum.Enum)", "").replace("Color.R", "1").replace("color: Color", "color")
    )
    (tmp_path / "script.py").write_text(text + "for _ in [1] * (__name__ == '__main__'): main(), main()")
    done = run_python(["script.py"], None, tmp_path)
    assert done.stderr.count("script.py does with __name__ is not recognised as a guard") == 1
    assert done.returncode == 0


@pytest.mark.parametrize("name", ["pickle", "random"])
def test_a_script_in_the_place_of_a_standard_module_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text("from floxide_mp import *\n@node\ndef work(n): return n\n")
    done = run_python([f"{name}.py"], None, tmp_path)
    assert f"{name}.py is imported in place of the module {name} of the standard library" in done.stderr


# -- the syntax tree --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "guarded", "late"),
    [
        ('if __name__ == "__main__":\n a = 1', True, {"a"}),
        ("if '__main__' == __name__ and x:\n  import a.b, c as d\n  for e, (f, *g) in h: i.j = 1", True, set("adefg")),
        ("try:\n if __name__ == '__main__':\n  with a as b:\n   def c(): d = 1\nexcept E: pass", True, {"b", "c"}),
        ("if x or __name__ == '__main__': a = 1", False, set()),
        ("a = 1\nif __name__ != '__main__': raise SystemExit\nb = 2\nclass C: d = 3", True, {"b", "C"}),
        ("if __name__ != '__main__':\n  import sys\n  sys.exit()\nb = 2", True, {"b"}),
        ("if __name__ != '__main__': print()\na = 1", False, set()),
        ("if __name__ != '__main__': a = 1\nelse: b = 1", True, {"b"}),
        ("if not __name__ == '__main__': pass\nelse: a = 1", True, {"a"}),
        ("if not (x or __name__ != '__main__'): a = 1", True, {"a"}),
        ("if x: pass\nelif __name__ == '__main__': a = 1\nelse: b = 1", True, {"a"}),
        ("if __name__ in ('__main__', 'x'): a = 1", True, {"a"}),
        ("if __name__ in ('__main__', '__mp_main__'): a = 1", False, set()),
        ("if __name__ not in ['__main__']: raise SystemExit\na = 1", True, {"a"}),
        ("match __name__:\n  case '__main__' | 'x': a = 1\n  case _: b = 1", True, {"a"}),
        ("__name__ == '__main__' and main()", True, set()),
        ("__name__ != '__main__' or (a := main())", True, {"a"}),
        ("x and main() and __name__ == '__main__'", False, set()),
        ("main() if __name__ == '__main__' else None", True, set()),
        ("main_ = __name__ == '__main__'\nif main_: a = 1", True, {"a"}),
        ("main_ = __name__ == '__main__'\nmain()", False, set()),
        ("def main():\n  if __name__ == '__main__': a = 1", False, set()),
        ("match x:\n  case 1:\n    if __name__ == '__main__': a = 1", True, {"a"}),
        ("a = 1", False, set()),
        ("if __name__ == '__main__':\n match a:\n  case [b, *c]: 1\n  case {'d': e, **f}: (g:=1)", True, set("bcefg")),
    ],
)
def test_what_is_a_guard_and_what_it_binds(text: str, guarded: bool, late: set[str]) -> None:
    assert main_guard.looked_at(text.encode(), "script.py")[:2] == (guarded, late)


def test_the_code_of_a_script_without_what_is_under_its_guard() -> None:
    text = """if True:
        asked = __name__ == '__main__', __name__ != '__main__', __name__
        class A:
            here = __name__ == '__main__'
        def at_run_time(): return __name__ == '__main__'
        if __name__ == '__main__': raise SystemExit
    """
    found: dict[str, object] = {"__name__": "__main__"}
    exec(main_guard.without(text.encode(), "script.py"), found)
    assert found["asked"] == (False, True, "__main__")
    assert found["A"].here is False  # type: ignore[attr-defined]
    assert found["at_run_time"]() is True  # type: ignore[operator]


def test_row_143_a_large_global_belongs_into_the_context(tmp_path: Path) -> None:
    """A program that is read from a pipe has no script that workers could run: what its nodes need goes by value."""
    script = """
        from floxide_mp import Workflow, node
        TABLE = bytes(33 << 20)
        W = Workflow.build("W", {"only": node(lambda value: len(TABLE))}, "only")
        print(W().run(1, workers=1).output)
    """
    done = run_python(["-"], textwrap.dedent(script), tmp_path)
    assert done.stdout == f"{33 << 20}\n"
    assert "the workflow takes 35 MB to each worker" in done.stderr
    assert "belongs into the context, as Fixed(...)" in done.stderr and "largest global here is TABLE" in done.stderr
