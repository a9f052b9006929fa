"""``floxide-mp graph MODULE[:NAME]``: a workflow as a picture. What is in a picture is ``picture``'s.

This is the one place outside the engines that starts a program: Graphviz's ``dot``, which turns text into SVG.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from . import formatting
from .formatting import CliError, Parser
from .loader import load

FORMATS: Final = ("mermaid", "dot", "svg")
PATIENCE: Final = 300.0  # seconds for ``dot``, which takes 15 for a graph of a thousand nodes


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of the command.

    Raises:
        Refused: they make no sense.
    """
    parser = Parser(
        prog=f"{formatting.PROGRAM} graph",
        description="Draw a workflow: arms labelled, failure edges dashed and red. Nothing is run.",
        epilog="Exit codes: 0 drawn, 1 it could not be written, 2 usage, a wrong workflow, or no dot program for svg.",
        allow_abbrev=False,
    )
    parser.add_argument("target", metavar="MODULE[:NAME]", help="module or path to a .py file, and workflow in it")
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="svg needs Graphviz (default: mermaid)")
    parser.add_argument("--output", metavar="FILE", type=Path, help="where to write it (default: standard output)")
    return parser.parse_args(arguments)


def draw(options: argparse.Namespace) -> list[str]:
    """The lines for standard output: none, if the picture went to a file.

    Raises:
        Refused: there is no such workflow, no ``dot``, or the file cannot be written.
        WorkflowDefinitionError: its graph is wrong.
    """
    workflow = load(options.target)
    text = workflow.to_mermaid() if options.format == "mermaid" else workflow.to_dot()
    if options.format == "svg":
        text = _svg(text)
    if options.output is None:
        return text.splitlines()
    try:
        options.output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CliError(formatting.message(f"{options.output} cannot be written: {error.strerror}")) from None
    return []


def _svg(text: str) -> str:
    dot = shutil.which("dot")
    if dot is None:
        hint = "install Graphviz (apt-get install graphviz), or say --format dot or --format mermaid"
        raise CliError(formatting.message("svg is drawn by Graphviz's program dot, which is not installed", hint))
    try:
        done = subprocess.run([dot, "-Tsvg"], input=text.encode(), capture_output=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CliError(formatting.message(f"{dot} cannot draw it: {error}", "say --format dot")) from None
    if done.returncode:
        words = " ".join(done.stderr.decode(errors="replace").split())
        raise CliError(formatting.message(f"{dot} cannot draw it: {words}", "say --format dot"))
    return done.stdout.decode()
