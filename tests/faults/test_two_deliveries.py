"""A module is delivered anew while a run of it is on: workers that are started then have other code than the others."""

from __future__ import annotations

import importlib
import logging
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from floxide_mp import Coordinator, node
from floxide_mp.engines.processes import ProcessEngine
from floxide_mp.wire.code_digest import changed, codes_of
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
        assert "run r: a worker has imported other code than the run goes on with, of its nodes price: " in warning


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
        assert "run again: a worker has imported other code" in warning and "nodes price:" in warning


def test_row_93_what_counts_as_other_code() -> None:
    def one(x: Any) -> Any:
        """Says one thing."""
        return {"a", "b"} == x

    def two(x: Any) -> Any:
        """Says another."""
        return {"a", "b"} == x

    def three(x: Any) -> Any:
        return {"a", "c"} == x

    codes = [codes_of([node(function)])[0] for function in (one, two, three)]
    assert codes[0] == codes[1] != codes[2]
    assert changed(["one", "three", "odd"], [codes[0], codes[0], 0], [codes[1], codes[2], 5]) == ("three",)
    assert codes_of([node(len)]) == (0,), "it has none"
