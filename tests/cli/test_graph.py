"""``python -m floxide_mp graph``: the pictures of a workflow as files and on standard output."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.cli.test_main import NUMBERS, ROOT, floxide, refused, shell, write
from tests.flows_graphs import Sums

FLOW = "tests.flows_graphs:Sums"


def on_path(monkeypatch: pytest.MonkeyPatch, place: Path, script: str | None) -> None:
    """Have only this program called dot, or none, found."""
    if script is not None:
        (place / "dot").write_text(f"#!/bin/sh\n{script}\n")
        (place / "dot").chmod(0o755)
    monkeypatch.setenv("PATH", str(place))


def test_mermaid_unless_another_format_is_asked_for() -> None:
    for more, text in ([], Sums.to_mermaid()), (["--format", "dot"], Sums.to_dot()):
        done = floxide(ROOT, "graph", FLOW, *more)
        assert (done.returncode, done.stdout, done.stderr) == (0, text, "")


def test_a_file_gets_it_and_what_the_module_prints_does_not_come_between(tmp_path: Path) -> None:
    write(tmp_path, "numbers_flow.py", NUMBERS + "    print('imported')\n")
    done = floxide(tmp_path, "graph", "numbers_flow.py", "--output", "picture.mmd")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "imported\n")
    said = floxide(tmp_path, "graph", "numbers_flow", "--format", "mermaid")
    assert said.stdout == (tmp_path / "picture.mmd").read_text()
    assert said.stdout.startswith("flowchart LR\n")


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_svg_is_drawn_by_graphviz(tmp_path: Path) -> None:
    done = floxide(ROOT, "graph", FLOW, "--format", "svg", "--output", str(tmp_path / "sums.svg"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = (tmp_path / "sums.svg").read_text()
    assert "</svg>" in text and "squares: Squares" in text


def test_svg_is_what_dot_makes_of_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(monkeypatch, tmp_path, 'test "$1" = -Tsvg && while read -r line; do echo "<svg>$line</svg>"; done')
    done = floxide(ROOT, "graph", FLOW, "--format", "svg")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == '<svg>digraph "Sums" {</svg>'


def test_svg_without_graphviz_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(monkeypatch, tmp_path, None)
    text = refused(ROOT, "graph", FLOW, "--format", "svg")
    assert "which is not installed\n  install Graphviz (apt-get install graphviz)" in text


def test_a_dot_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(monkeypatch, tmp_path, "echo 'syntax error' >&2; exit 3")
    assert "cannot draw it: syntax error\n" in refused(ROOT, "graph", FLOW, "--format", "svg")
    (tmp_path / "dot").write_bytes(b"\0")
    assert "cannot draw it: " in refused(ROOT, "graph", FLOW, "--format", "svg")


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "wrong.py", NUMBERS.replace("[double]", "['dubble']"))
    done = floxide(tmp_path, "graph", "wrong")
    assert (done.returncode, done.stdout) == (2, "") and "did you mean 'double'?" in done.stderr
    assert "there is no module 'nosuch'" in refused(tmp_path, "graph", "nosuch")
    assert "floxide-mp graph --help says more" in refused(tmp_path, "graph")
    assert "invalid choice: 'png'" in refused(tmp_path, "graph", "wrong", "--format", "png")
    text = refused(ROOT, "graph", FLOW, "--output", f"{tmp_path}/nowhere/x")
    assert "nowhere/x cannot be written: No such file or directory" in text


def test_readers_that_leave_and_disks_that_are_full() -> None:
    done = shell(ROOT, f"floxide graph {FLOW} | true; floxide graph {FLOW} > /dev/full; echo $?")
    assert (done.stdout, done.stderr) == (
        "1\n",
        f"floxide-mp: the results cannot be written: {os.strerror(28)}\n",
    )
