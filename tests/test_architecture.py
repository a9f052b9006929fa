"""The rooms of DESIGN §8: who may import whom, read from the source, imports inside functions included."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "floxide_mp"

WORDS = {
    "errors",
    "transition",
    "retry",
    "merge",
    "event_log",
    "context",
    "node",
    "nodes",
    "route",
    "facts",
    "statuses",
} | {
    "brief",
    "failpoints",
    "standard_streams",
    "stepping",
    "texts",
    "version",
}
LADDER = [  # a room may import its own and those above it
    ("words", WORDS),
    ("core", {"core"}),
    ("graph", {"declaration", "hints", "type_checks", "checks", "flatten", "picture", "workflow"}),
    ("ports", {"ports"}),
    ("stores", {"stores"}),
    ("runtime", {"runtime"}),
    ("engines", {"engines"}),
    ("testing", {"testing"}),
    (
        "people",
        {"assembly", "ctrl_c", "launch", "report", "cli", "job", "targets", "terminal", "store_option", "standing"}
        | {
            *("graph_command", "runs_command", "context_command", "db_command", "__main__", "__init__"),
        },
    ),
]

ALLOWED = {  # module -> files that may import it; everything else of that name is refused
    "pickle": {"runtime/codec.py", "runtime/by_value.py", "runtime/large.py", "runtime/sameness.py"},
    "cloudpickle": {"runtime/by_value.py", "runtime/rebuilt.py"},
    "time": {"runtime/clock.py", "stores/due.py"},
    "multiprocessing": {"engines/processes/"},
    "subprocess": {"engines/processes/", "graph_command.py"},  # the latter runs Graphviz, not nodes
    "sqlite3": {"stores/"},
    "beartype": {"hints.py"},
    "random": set(),
    "asyncio": {"runtime/coroutines.py", "runtime/awaiting.py"},
}
PURE = {"threading", "os", "socket", "signal", "selectors", "logging", "uuid", "secrets", "pickle", "time", "random"}


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Absolute dotted names of everything imported anywhere in a file."""
    package = ("floxide_mp", *path.relative_to(ROOT).parent.parts)
    found = set()
    for item in ast.walk(ast.parse(path.read_text())):
        if isinstance(item, ast.Import):
            found |= {alias.name for alias in item.names}
        elif isinstance(item, ast.ImportFrom):
            base = package[: len(package) - item.level + 1] if item.level else ()
            name = ".".join((*base, *(item.module or "").split("."))).strip(".")
            if item.level and not item.module:  # ``from . import x``: the module x, or else a name of the package
                here = path.parents[item.level - 1]
                for alias in item.names:
                    module = (here / alias.name).is_dir() or (here / f"{alias.name}.py").is_file()
                    found.add(f"{name}.{alias.name}" if module else f"{name}.__init__")
            else:
                found.add(name)
    return found


def room(name: str) -> int:
    for number, (_, members) in enumerate(LADDER):
        if name in members:
            return number
    raise AssertionError(f"{name} is in no room")


def own_room(path: Path) -> int:
    first = path.relative_to(ROOT).parts[0]
    return room(first.removesuffix(".py"))


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_ladder_and_the_allow_list(path: Path) -> None:
    relative = str(path.relative_to(ROOT))
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "floxide_mp" and len(parts) > 1:
            assert room(parts[1]) <= own_room(path), f"{relative} imports {name}"
        allowed = ALLOWED.get(parts[0])
        if allowed is not None:
            assert any(relative.startswith(place) for place in allowed), f"{relative} imports {name}"
        if relative.startswith("core/"):
            assert parts[0] not in PURE, f"the core imports {name}"


def test_no_cycles() -> None:
    names = {
        p: ".".join(("floxide_mp", *p.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        for p in modules()
    }
    graph = {name: {i for i in imports(p) if i in names.values() and i != name} for p, name in names.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for after in graph[name]:
                visit(after, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_no_drawer_for_everything() -> None:
    assert not {"utils.py", "common.py", "helpers.py", "base.py"} & {p.name for p in modules()}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_files_say_what_lives_in_them_and_stay_small(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "no module docstring"
    assert text.count("\n") <= 430


def test_names_that_are_imported_later_are_listed_too() -> None:
    """For completion and ``help``."""
    script = """
import floxide_mp, floxide_mp.testing
print([n for m in (floxide_mp, floxide_mp.testing) for n in m.__all__ if n not in dir(m)])
"""
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "[]\n"
