"""A module is delivered anew while a run of it is on: workers that are started then have other code than the others."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from floxide_mp import Coordinator, Node, node, when
from floxide_mp.engines.processes import ProcessEngine
from floxide_mp.wire.code_digest import changed, codes_of
from floxide_mp.wire.reached import reached
from tests.flows_run import Gate

LIMIT = 40.0
MODULE = """
    from pathlib import Path
    from floxide_mp import NextAll, Workflow, node
    from tests.flows_run import enter, until

    def tax(x):
        {comment}
        return x * {rate}

    @node
    def gen(place): return NextAll([(place, n) for n in range(3)])

    @node(timeout=600.0)
    def price(given):
        place, n = given
        if n == 1:
            enter(Path(place) / "gate")
            until((Path(place) / "gate" / "open").exists)
        return tax(n)

    class Prices(Workflow):
        gen, price = gen, price
        start, edges = gen, {{gen: [price]}}
"""

Deliver = Callable[..., ModuleType]


@pytest.fixture
def deliver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deliver:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setitem(sys.modules, "prices_93", ModuleType("prices_93"))

    def made(rate: int, comment: str = "'''doc'''", fresh: bool = True) -> ModuleType:
        (tmp_path / "prices_93.py").write_text(textwrap.dedent(MODULE.format(rate=rate, comment=comment)))
        importlib.invalidate_caches()
        if not fresh:
            return sys.modules["prices_93"]
        sys.modules.pop("prices_93", None)
        return importlib.import_module("prices_93")

    return made


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING and "other code" in r.getMessage()]


@pytest.mark.parametrize("same", [False, True], ids=["another version", "another comment"])
def test_row_93_a_version_that_is_delivered_while_a_run_is_on(
    same: bool, deliver: Deliver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prices, gate = deliver(2), Gate(tmp_path)
    with Coordinator(1, engine=partial(ProcessEngine, max_tasks_per_worker=3)) as c:
        run = c.start(prices.Prices, str(tmp_path), run_id="r")
        gate.entered(1)
        deliver(2 if same else 3, "'''doc'''\n        # a comment\n", fresh=False)
        gate.open()
        outputs = run.wait(LIMIT).outputs
    if same:
        assert (outputs, warnings(caplog)) == ([0, 2, 4], [])
    else:
        (warning,) = warnings(caplog)
        assert (
            "run r: a worker has imported other code than the run goes on with, of its nodes price (prices_93.tax): "
            in warning
        )


def test_row_93_a_module_that_is_reloaded_where_the_workers_have_it_from_before(
    deliver: Deliver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prices, gate = deliver(2), Gate(tmp_path)
    gate.open()
    with Coordinator(1) as c:
        assert c.start(prices.Prices, str(tmp_path)).wait(LIMIT).outputs == [0, 2, 4]
        assert warnings(caplog) == []
        c.start(deliver(5).Prices, str(tmp_path), run_id="again").wait(LIMIT)
        (warning,) = warnings(caplog)
        assert "run again: a worker has imported other code" in warning and "nodes price (prices_93.tax):" in warning


HELPERS = {  # module -> text
    "deep_93": """
        def inner(): return 1
        def spare(): return 1
        class Base:
            def inherited(self): return 1
            def overridden(self): return 1
        def deco(fn):
            def called(*args): return fn(*args)
            return called
        def scaled(by):
            def deco(fn):
                def called(*args): return fn(*args) * by
                return called
            return deco
    """,
    "lazy_93": "def late(): return 1",
    "util_93": """
        import deep_93, functools
        def same(): return 1
        def plain(): return 1
        def outer(): return deep_93.inner()
        class Shape(deep_93.Base):
            def __init__(self): self.side = 1
            @property
            def area(self): return 1
            @classmethod
            def unit(cls): return 1
        class Held:
            def __call__(self): return 1
        class Jitted:
            __slots__ = ("__dict__",)
            def __init__(self, function): self.__wrapped__ = function
            def __call__(self): return self.__wrapped__()
        Jitted.__module__ = "a_library"
        @Jitted
        def jitted(): return 1
        held = Held()
        half = functools.partial(same)
        @functools.lru_cache()
        def kept(): return 1
        current = same
    """,
    "flow_93": """
        import deep_93, util_93
        from util_93 import Shape
        from floxide_mp import Join, NextAll, Workflow, node
        by_default = lambda x=1: x
        keyword = lambda *, x=(1, "a"): x
        @deep_93.deco
        def decorated(): return 1
        @deep_93.deco
        def inside(): return 1
        @deep_93.scaled(1)
        def scaled(): return 1
        def lazily():
            import lazy_93
            return lazy_93.late()
        @node
        def fan(n): return NextAll([n])
        STEPS
        class Flow(Workflow):
            fan, both = fan, Join(sorted)
            NODES
            start = fan
    """,
}
CASES = {  # node -> what its code calls, the module that is delivered anew, what is there and will be, the function
    "function": ("util_93.plain()", "util_93", "def plain(): return 1", "def plain(): return 2", "util_93.plain"),
    "helpers_helper": ("util_93.outer()", "deep_93", "def inner(): return 1", "def inner(): return 2", "deep_93.inner"),
    "init": ("Shape()", "util_93", "self.side = 1", "self.side = 2", "util_93.Shape.__init__"),
    "of_base": ("Shape().inherited()", "deep_93", "inherited(self): return 1", "inherited(self): return 2", "Base.inh"),
    "taken_over": ("Shape().area", "util_93", "def area(self): return 1", "def area(self): return 2", "Shape.area"),
    "override": (
        "Shape().overridden()",
        "util_93",
        "class Held:",
        "    def overridden(self): return 2\nclass Held:",
        "util_93.Shape.overridden",
    ),
    "of_class": ("Shape.unit()", "util_93", "def unit(cls): return 1", "def unit(cls): return 2", "util_93.Shape.unit"),
    "of_object": ("util_93.held()", "util_93", "__call__(self): return 1", "__call__(self): return 2", "Held.__call__"),
    "cached": ("util_93.kept()", "util_93", "def kept(): return 1", "def kept(): return 2", "util_93.kept"),
    "bound_anew": ("util_93.current()", "util_93", "current = same", "current = outer", "util_93.current"),
    "default": ("by_default()", "flow_93", "lambda x=1", "lambda x=2", "flow_93.by_default"),
    "keyword_default": ("keyword()", "flow_93", '(1, "a")', '(2, "a")', "flow_93.keyword"),
    "wrapper": ("decorated()", "deep_93", "return fn(*args)\n", "return fn(*args) * 2\n", "flow_93.decorated"),
    "wrapped": ("inside()", "flow_93", "def inside(): return 1", "def inside(): return 2", "flow_93.inside"),
    "closure": ("scaled()", "flow_93", "deep_93.scaled(1)", "deep_93.scaled(2)", "flow_93.scaled"),
    "partial": ("util_93.half()", "util_93", "partial(same)", "partial(outer)", "util_93.half"),
    "a_librarys": ("util_93.jitted()", "util_93", "def jitted(): return 1", "def jitted(): return 2", "util_93.jitted"),
    "lazy": ("lazily()", "lazy_93", "def late(): return 1", "def late(): return 2", ""),
    "untouched": ("util_93.same()", "util_93", "def same(): return 1", "def same(): return 1  # comment", ""),
}


@pytest.fixture
def deliver_helpers(deliver: Deliver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """Write all modules, with what is delivered anew for some cases; import them if ``fresh``."""
    for name in HELPERS:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))

    def made(*cases: str, fresh: bool = True) -> ModuleType:
        texts = {name: textwrap.dedent(text) for name, text in HELPERS.items()}
        steps = [f"@node\ndef {name}(n): return repr({call})" for name, (call, *_) in CASES.items()]
        nodes = [f"{name} = {name}" for name in CASES]
        nodes += [f"edges = {{fan: [{', '.join(CASES)}], **dict.fromkeys([{', '.join(CASES)}], [both])}}"]
        flow = texts["flow_93"].replace("STEPS", "\n".join(steps)).replace("NODES", "\n    ".join(nodes))
        texts["flow_93"] = flow.replace("[both])", "both)")
        for case in cases:
            _, module, before, after, _ = CASES[case]
            assert texts[module].count(before) == 1, case
            texts[module] = texts[module].replace(before, after)
        for name, text in texts.items():
            (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        for name in HELPERS if fresh else ():
            sys.modules.pop(name, None)
        return importlib.import_module("flow_93")

    return made


def test_row_93_code_in_other_modules_is_delivered_anew(
    deliver_helpers: Callable[..., ModuleType], caplog: pytest.LogCaptureFixture
) -> None:
    """All of it at once, before the worker that replaces a killed one imports it: each node is named."""
    flow = deliver_helpers()
    with Coordinator(1) as c:
        before = c.start(flow.Flow, 1).wait(LIMIT).output
        assert warnings(caplog) == []
        deliver_helpers(*CASES, fresh=False)
        (worker,) = c.workers()
        os.kill(worker.pid, signal.SIGKILL)
        assert c.start(flow.Flow, 1, run_id="again").wait(LIMIT).output != before
        assert c.start(flow.Flow, 1, run_id="once more").wait(LIMIT).output != before
    told, once_more = warnings(caplog)
    assert told.startswith("run again: ") and once_more.startswith("run once more: ")
    named = told.partition("of its nodes ")[2].partition(": a module was changed")[0]
    assert {part.partition(" (")[0] for part in named.split("), ")} == CASES.keys() - {"lazy", "untouched"}


@pytest.mark.parametrize("case", CASES)
def test_row_93_the_function_is_named(case: str, deliver_helpers: Callable[..., ModuleType]) -> None:
    def parts(flow: ModuleType) -> tuple[list[str], list[Node], list[None]]:
        return [case], [getattr(flow, case)], [None]

    _, nodes, keys = parts(deliver_helpers())
    before = codes_of(reached(nodes, keys))
    assert changed(*parts(deliver_helpers()), before) == ()
    found = changed(*parts(deliver_helpers(case)), before)
    function = CASES[case][-1]
    assert (found == ()) if not function else (len(found) == 1 and function in found[0]), found


def test_row_93_a_helper_module_that_is_reloaded(deliver_helpers: Callable[..., ModuleType]) -> None:
    flow = deliver_helpers()
    before = codes_of(reached([flow.function]))
    deliver_helpers("function", fresh=False)
    assert codes_of(reached([flow.function])) == before
    importlib.reload(sys.modules["util_93"])
    assert changed(["function"], [flow.function], [None], before) == ("function (util_93.plain)",)
    now = codes_of(reached([flow.function]))
    sys.modules["util_93"].plain.__code__ = (lambda: 3).__code__  # as IPython's autoreload does
    assert changed(["function"], [flow.function], [None], now) == ("function (util_93.plain)",)


def test_row_93_what_counts_as_other_code() -> None:
    def one(x: Any) -> Any:
        """Says one thing."""
        return {"a", "b"} == x

    def two(x: Any) -> Any:
        """Says another."""
        return {"a", "b"} == x

    def three(x: Any) -> Any:
        return {"a", "c"} == x

    def counts() -> Callable[[], int]:
        count = 0

        def counting() -> int:
            nonlocal count
            count += 1
            return count

        return counting

    def only(made: Node, keys: tuple[Any, ...] | None = None) -> set[int]:
        return set(codes_of(reached([made], [keys])).values())

    codes = [only(node(function)) for function in (one, two, three)]
    assert codes[0] == codes[1] != codes[2]
    assert only(node(len)) == set(), "it has none"
    (counting, other) = (counts(), counts())
    assert counting() == 1
    assert only(node(counting)) == only(node(other)), "what code itself changes is not of the code"
    arms = (when(one, guard=two, take=lambda x: x), three)
    assert only(node(len), arms) > codes[0] | codes[2] and len(only(node(len), arms)) == 3
