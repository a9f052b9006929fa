"""Runs the snippets of ``tests/wire/data/main_module_snippets.txt``, each as if it was a program: inline, and on a
worker.

For a program of its own (``python -c "from tests.wire.snippets import main; main(True)"``), which prints a line for
each: ``ok | NAME |``, ``no | NAME | HOW``, or ``-- | NAME | WHY`` where something that it imports is not installed. All
share one worker, which so has many different ``__main__``s one after the other.
"""

from __future__ import annotations

import runpy
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from floxide_mp import Coordinator, RunFailedError, Workflow, node

SNIPPETS = Path(__file__).parent / "data" / "main_module_snippets.txt"
TAIL = """
if __name__ == "__main__":
    from tests.wire.snippets import Checks
    Checks.now(work, VALUE)
"""


class Checks:
    """``now(work, value)`` is what each snippet calls at its end."""

    now: Callable[[Any, Any], None]


def snippets() -> Iterator[tuple[str, str]]:
    """(name, code) of each."""
    for block in ("\n" + SNIPPETS.read_text()).split("\n#### ")[1:]:
        name, _, code = block.partition("\n")
        yield name, code


def said(make: Callable[[], Any]) -> str:
    try:
        return repr(make())
    except Exception as error:
        cause = error.__cause__ if isinstance(error, RunFailedError) else error
        return f"{type(cause).__name__}: {cause}"


def main(guarded: bool) -> None:
    """Run them all; with a ``__main__`` guard, so that workers run them, too, or so that they go by value."""
    with Coordinator(1) as one, Coordinator(0) as inline, tempfile.TemporaryDirectory() as folder:
        for number, (name, code) in enumerate(snippets()):
            told = []

            def check(work: Any, value: Any, told: list[str] = told) -> None:
                # ``work`` runs as a node of a workflow that is in no module: only the function is the script's.
                flow = Workflow.build("Flow", nodes={"work": node(work)}, start="work")
                told.append(said(lambda: work(value)))
                told.append(said(lambda: inline.start(flow, value).wait(20).output))
                told.append(said(lambda: one.start(flow, value).wait(20).output))

            Checks.now = check
            path = Path(folder) / f"snippet_{number}.py"
            path.write_text(code + (TAIL if guarded else TAIL.replace("if __name__", "if True or __name__")))
            try:
                runpy.run_path(str(path), run_name="__main__")
            except ImportError as error:
                print("--", name, error, sep=" | ")
                continue
            same = len(set(told)) == 1
            print("ok" if same else "no", name, "" if same else f"{told[0]}, not {told[2]}", sep=" | ")
