"""Every example prints what it should, without workers and on two, as does every other command of its docstring."""

from __future__ import annotations

import importlib
import re
import shlex
from typing import Any

import pytest

from examples.branching import Check, Doubtful, Paid, pay
from examples.graph import Broken, Release
from floxide_mp import Workflow, WorkflowDefinitionError

from .soak_parallel import ROOT
from .test_examples import example

EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("[!_]*.py"))
ELSEWHERE = {"audit", "graph", "own_loop", "parallel"}  # examples whose output other tests look at

# By what follows "examples." on the command line: the lines on standard output.
RESULTS = {
    "article": [
        "## What is parallel programming?",
        "On parallel programming: it is very useful. There is more to say.",
        "## How does one begin with parallel programming?",
        "On parallel programming: most people use it before they understand it. There is more to say.",
        "## What goes wrong with parallel programming?",
        "On parallel programming: to learn what goes wrong, try it. There is more to say.",
    ],
    """article --input '"Bicycle repair"' --workers 2""": [
        "## What is bicycle repair?",
        "On bicycle repair: it is very useful. There is more to say.",
        "## How does one begin with bicycle repair?",
        "On bicycle repair: most people use it before they understand it. There is more to say.",
        "## What goes wrong with bicycle repair?",
        "On bicycle repair: to learn what goes wrong, try it. There is more to say.",
    ],
    "batch": ['["10403 is divisible by 101"]'],
    "batch --input '[1000036000099, 1000000016000000063]'": [
        '["1000036000099 has no small factor", "1000000016000000063 has no small factor"]'
    ],
    "branching": ['"please look at this claim: 250.00 is more than 100.00"'],
    "branching --input 40": ['"4000 cents are on their way"'],
    "cancellation": ["1000000016000000063 = 1000000007 x 1000000009", "the run is cancelled"],
    "cancellation --input 3000000048000000189": [
        "3000000048000000189 = 3 x 1000000016000000063",
        "the run is cancelled",
    ],
    "checkpoint": [
        "run q1 failed at read (item 3, attempt 1): LookupError: february is not there; input: PosixPath('february')",
        "resumed: 367 after 5 steps",
        "once more: 367, and nothing has run",
        "there is nothing left to resume",
    ],
    "error_fallback": ['{"port": 8080, "hosts": ["a", "b"], "read as": "Python (JSONDecodeError in JSON)"}'],
    r"""error_fallback --input '"{\"port\": 80}"'""": ['{"port": 80, "read as": "JSON"}'],
    "function_nodes": [
        "25.5 °C (warm)",
        "convert took away 32 and multiplied by 0.556",
        "describe had 25.5 to describe",
    ],
    """function_nodes --input '" 14 F"'""": [
        "-10.0 °C (cold)",
        "convert took away 32 and multiplied by 0.556",
        "describe had -10.0 to describe",
    ],
    "generics": ['{"frequent": [["the", 4], ["quick", 2]], "longest": [6, 6, 5]}'],
    """generics --input '"to be or not to be"'""": ['{"frequent": [["to", 2], ["be", 2]], "longest": [3, 2, 2]}'],
    "merge": ["[23, 26, 31, 41, 53, 58, 59, 84, 93, 97]"],
    "merge --input '[3, 1, 2]'": ["[1, 2, 3]"],
    "nested": [
        '{"addresses": ["ann@example.org", "bob@example.org"], "rejected": ["carol at example.org: no address"]}',
        "9 steps, 1 failed",
    ],
    """nested --input '"Ann <ann@example.org>; bob"'""": [
        '{"addresses": ["ann@example.org"], "rejected": ["bob: no address"]}',
        "5 steps, 1 failed",
    ],
    "orchestrated_merge": [
        "the run is completed: [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]",
        "failures on the way: fetch 6, publish 1",
        "asked for: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]",
        "merged: [10]",
        "published: [[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]]",
    ],
    """orchestrated_merge --input '{"chance": 0.6, "seed": 4}'""": [
        "the run is completed: [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]",
        "failures on the way: fetch 21, publish 3",
        "asked for: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]",
        "merged: [10]",
        "published: [[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]]",
    ],
    "order": [
        "order 1 (lamp): reserved at attempt 1",
        "  valid > paid > reserved at attempt 1",
        "order 2 (chair): reserved at attempt 2",
        "  valid > paid > reserved at attempt 2",
        "order 3 (piano): refunded: no piano was found",
        "  valid > paid > refunded: no piano was found",
        "order 4 (lamp): refused: the card is expired",
        "  valid > refused: the card is expired",
        "run order-5 failed at validate (item 1, attempt 1): ValueError: 0 of lamp makes no sense; "
        "input: Order(number=5, item='lamp', quantity=0, card='good')",
    ],
    """order --input '[{"number": 7, "item": "lamp", "card": "expired"}]'""": [
        "order 7 (lamp): refused: the card is expired",
        "  valid > refused: the card is expired",
    ],
    "retry": [
        "attempt 1 of measure: ValueError: -1.0 cannot be",
        "attempt 2 of measure: ValueError: -1.0 cannot be",
        "measured: 21.5 after 2 retries",
    ],
    "retry_option": [
        "front: sent at attempt 1",
        "busy: sent at attempt 3",
        "news: sent at attempt 2",
        "gone: not found",
        "3 attempts had to be repeated",
    ],
    """retry_option --input '["busy", "gone"]'""": [
        "busy: sent at attempt 3",
        "gone: not found",
        "2 attempts had to be repeated",
    ],
    "split": [
        '{"text": "It is a truth.", "words": 4, "verdict": "fine"}',
        '{"text": "Short sentences are read more easily than those that go on and on, are they not?", '
        '"words": 16, "verdict": "long"}',
        '{"text": "They are!", "words": 2, "verdict": "fine"}',
    ],
    """split --input '"One sentence. And another one!"'""": [
        '{"text": "One sentence.", "words": 2, "verdict": "fine"}',
        '{"text": "And another one!", "words": 3, "verdict": "fine"}',
    ],
    "terminal": ['"0-306-40615-2"'],
    """terminal --input '"019852663"'""": ['"0-198-52663-6"'],
    "timeout": ["time is up after 0.5 s", "the best tour so far is no longer than the first"],
    """timeout --input '{"goal": 6.3, "seconds": 30}'""": ["reached: 6.16"],
    "timer": ["64.4 °F", "70.7 °F", "85.1 °F", "86.9 °F !", "75.2 °F"],
    "timer --input '[20.5, 30.5]'": ["68.9 °F", "86.9 °F !"],
}

# The same for those that fail, as they say: the first line on standard error.
FAILURES = {
    "retry --input 9": "floxide-mp: run reading failed at measure (item 1, attempt 5): ValueError: -1.0 cannot be; "
    "input: 9",
}


@pytest.mark.parametrize("line", RESULTS)
def test_the_result_is_the_same_inline_and_on_two_workers(line: str) -> None:
    for workers in ("0", "2"):
        done = example(*shlex.split(f"examples.{line}"), "--workers", workers)
        assert (done.returncode, done.stderr) == (0, "")
        printed = re.sub(r"PosixPath\('[^']*/", "PosixPath('", done.stdout)  # a temporary folder
        assert printed.splitlines() == RESULTS[line]


@pytest.mark.parametrize("line", FAILURES)
def test_the_failure_is_the_same_inline_and_on_two_workers(line: str) -> None:
    for workers in ("0", "2"):
        done = example(*shlex.split(f"examples.{line}"), "--workers", workers)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.splitlines()[0] == FAILURES[line]


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_says_how_it_is_run_and_is_listed(name: str) -> None:
    text = importlib.import_module(f"examples.{name}").__doc__ or ""
    command = rf"^ *python -m floxide_mp examples\.({name}\b.*?)(?: {{4,}}#.*| \| .*)?$"
    commands = re.findall(command, text, re.MULTILINE)
    assert commands and commands[0] == name
    assert f"\n| [{name}]({name}.py) |" in (ROOT / "examples" / "README.md").read_text()
    if name not in ELSEWHERE:
        assert [line for line in (*RESULTS, *FAILURES) if line.split()[0] == name] == commands


def test_graph_prints_its_own_picture() -> None:
    for workers in ("0", "2"):
        mermaid = example("examples.graph", "--workers", workers)
        dot = example("examples.graph", "--input", '"dot"', "--workers", workers)
        assert (mermaid.stdout, mermaid.stderr) == (Release.to_mermaid(), "")
        assert (dot.stdout, dot.stderr) == (Release.to_dot(), "")
    refused = example("examples.graph", "--input", '"svg"')
    assert refused.stderr == "floxide-mp: argument --input: one of mermaid, dot is needed, not 'svg'\n"


@pytest.mark.parametrize("workers", [0, 2])
def test_what_graph_draws_runs_too(workers: int) -> None:
    assert Release().run("1.2", workers=workers).outputs == [["release-1.2.whl", "release-1.2.tar.gz"]]
    broken, files = Release().run("next", workers=workers).outputs
    assert (broken, files) == (Broken("next is no version"), [])


def test_branching_without_one_of_its_ways_is_refused() -> None:
    parts: dict[str, Any] = {"nodes": {"check": Check(limit=1.0), "pay": pay}, "start": "check"}
    assert Workflow.build("Both", **parts, edges={"check": {Paid: ["pay"], Doubtful: []}})
    with pytest.raises(WorkflowDefinitionError, match="Doubtful"):
        Workflow.build("Forgetful", **parts, edges={"check": {Paid: ["pay"]}})
