"""The rooms and the border between the processes: who may import whom, read from the source, imports inside functions
included."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "floxide_mp"

LADDER = [  # a room may import its own and those above it; of several names that fit, the longest decides
    (
        "words",
        {
            "errors",
            "types",
            "failpoints",
            "version",
            "texts",
            "clock",
            "sigint",
            "standard_streams",
            "api",
        },
    ),
    ("core", {"core"}),
    ("graph", {"graph", "api.workflow"}),
    ("contract", {"messages", "ports"}),
    ("wire", {"wire"}),
    ("stores", {"stores"}),
    ("worker", {"worker"}),
    ("coordinator", {"coordinator"}),
    ("engines", {"engines"}),
    ("testing", {"testing"}),
    ("people", {"api.defaults", "api.launch", "cli", "ctrl_c", "__main__", "__init__"}),
]
BORDER = {  # what lives in one process imports nothing of what lives in another: what both need is above both
    "worker": {"coordinator", "stores"},
    "coordinator": {"worker"},
}

ALLOWED = {  # module -> files that may import it; everything else of that name is refused
    "pickle": {"wire/codec.py", "wire/by_value.py", "wire/oob_pickle.py", "coordinator/sameness.py"},
    "cloudpickle": {"wire/by_value.py", "wire/rebuilt.py"},
    "time": {"clock.py", "stores/sqlite/clock_conversion.py"},
    "multiprocessing": {"engines/processes/"},
    "subprocess": {"engines/processes/", "cli/graph.py"},  # the latter runs Graphviz, not nodes
    "sqlite3": {"stores/sqlite/"},
    "beartype": {"graph/type_compat.py"},
    "random": set(),
    "asyncio": {"worker/coroutines.py", "coordinator/awaiting.py"},
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
            here = ROOT.parent.joinpath(*name.split("."))
            for alias in item.names:  # ``from .x import y``: the module y of the package x, or a name of the module x
                if (here / alias.name).is_dir() or (here / f"{alias.name}.py").is_file():
                    found.add(f"{name}.{alias.name}")
                else:
                    found.add(f"{name}.__init__" if name == "floxide_mp" else name)
    return found


def room(name: str) -> int:
    """The number of the room that a module below the package is in."""
    while name:
        for number, (_, members) in enumerate(LADDER):
            if name in members:
                return number
        name = name.rpartition(".")[0]
    raise AssertionError("in no room")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_ladder_and_the_allow_list(path: Path) -> None:
    relative = str(path.relative_to(ROOT))
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "floxide_mp" and len(parts) > 1:
            assert room(".".join(parts[1:])) <= room(name_of(path)), f"{relative} imports {name}"
        allowed = ALLOWED.get(parts[0])
        if allowed is not None:
            assert any(relative.startswith(place) for place in allowed), f"{relative} imports {name}"
        if relative.startswith("core/"):
            assert parts[0] not in PURE, f"the core imports {name}"


@pytest.mark.parametrize("room", BORDER)
def test_the_border_between_the_processes(room: str) -> None:
    found = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / room).rglob("*.py")
        for name in imports(path)
        if name.split(".")[:1] == ["floxide_mp"] and name.split(".")[1:2] and name.split(".")[1] in BORDER[room]
    }
    assert not found
    assert (ROOT / room).is_dir()


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
    assert text.count("\n") <= 450


def test_names_that_are_imported_later_are_listed_too() -> None:
    """For completion and ``help``."""
    script = """
import floxide_mp, floxide_mp.testing
print([n for m in (floxide_mp, floxide_mp.testing) for n in m.__all__ if n not in dir(m)])
"""
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "[]\n"
