"""The pages hold together: links, lines, the words of the glossary, and the names on the architecture page."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "floxide_mp"
DOCS = ROOT / "docs"
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md")]
PAGES += sorted(DOCS.rglob("*.md"))
ARCHITECTURE = (DOCS / "architecture.md").read_text()
GLOSSARY = (DOCS / "glossary.md").read_text()
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)

# The pages are written for the tree with its rooms, and for the names that go with it.
needs_rooms = pytest.mark.skipif(
    not (PACKAGE / "coordinator").is_dir(), reason="the modules are not in their rooms yet"
)
needs_names = pytest.mark.skipif(
    "class Scheduler" not in "".join(path.read_text() for path in PACKAGE.glob("coordinator/scheduler.py")),
    reason="the classes do not have their names yet",
)


def prose(page: Path) -> str:
    return FENCED.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """Those that GitHub gives to headings."""
    heads = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", head).lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_are_wrapped(page: Path) -> None:
    """Rows of tables cannot be."""
    lines = enumerate(prose(page).splitlines(), 1)
    assert not [number for number, line in lines if len(line) > 120 and not line.lstrip().startswith("|")]


def test_pages_that_code_points_to_exist() -> None:
    sources = [
        path for room in ("floxide_mp", "tests", "benchmarks", "examples") for path in (ROOT / room).rglob("*.py")
    ]
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources
        for name in re.findall(r"docs/[\w/-]+\.md", path.read_text())
        if not (ROOT / name).is_file()
    }
    assert not missing


def test_decisions_are_numbered_and_listed() -> None:
    pages = sorted((DOCS / "decisions").glob("[0-9]*.md"))
    listed = re.findall(r"^- \[(\d{3})\]\(([\w-]+\.md)\): (.+)$", (DOCS / "decisions" / "README.md").read_text(), re.M)
    assert [name for _, name, _ in listed] == [page.name for page in pages]
    for number, (page, (label, _, title)) in enumerate(zip(pages, listed, strict=True), 1):
        assert label == f"{number:03}"
        assert page.read_text().splitlines()[0] == f"# {label}: {title}"


# -- the glossary -------------------------------------------------------------------------------------------------


def test_the_glossary_has_a_line_for_each_term_in_order() -> None:
    _, _, entries = GLOSSARY.partition("\n- ")
    terms = [re.fullmatch(r"(?:- )?\*\*([^*]+)\*\*: .+\.", line) for line in entries.strip().splitlines()]
    assert all(terms)
    words = [term[1] for term in terms if term]
    assert len(words) > 50
    assert words == sorted(set(words), key=str.lower)


@cache
def names() -> frozenset[str]:
    """Those of all classes, and of all that modules give a name to."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for item in ast.walk(ast.parse(path.read_text())):
            if isinstance(item, ast.ClassDef):
                found.add(item.name)
            elif isinstance(item, ast.Assign | ast.AnnAssign):
                targets = item.targets if isinstance(item, ast.Assign) else [item.target]
                found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return frozenset(found)


@needs_names
def test_the_names_in_the_glossary_exist() -> None:
    assert sorted(set(re.findall(r"\(`([A-Z]\w+)`", GLOSSARY)) - names()) == []


# -- the architecture page ----------------------------------------------------------------------------------------


def test_the_architecture_page_stays_short() -> None:
    assert len(re.findall(r"\S*\w\S*", ARCHITECTURE)) <= 1500


def rooms() -> list[tuple[str, list[str]]]:
    """(room, its modules) of the rows of the map."""
    table = ARCHITECTURE.split("\n## Rooms\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split(" | ")] for line in table.splitlines() if line.startswith("| `")]
    return [(room.strip("|` "), re.findall(r"`([\w/]+)`", modules)) for room, _, modules in rows]


@needs_rooms
def test_the_modules_on_the_architecture_page_exist() -> None:
    named = [(PACKAGE / room / module) for room, modules in rooms() for module in modules]
    assert len(named) > 80
    assert not [str(path) for path in named if not path.with_suffix(".py").is_file() and not path.is_dir()]
    files = re.findall(r"`([\w/]+\.py)(?:::[\w.]+)?`", ARCHITECTURE)
    assert len(files) > 20
    assert not [name for name in files if not (PACKAGE / name).is_file()]


@needs_rooms
def test_every_room_is_on_the_architecture_page() -> None:
    there = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    assert there <= {room for room, _ in rooms()}


@needs_names
def test_the_functions_on_the_architecture_page_exist() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)(?:\.(\w+))?`", ARCHITECTURE)
    assert len(named) > 20
    missing = []
    for path, name, method in named:
        found = [item for item in ast.parse((PACKAGE / path).read_text()).body if getattr(item, "name", None) == name]
        inside = {getattr(item, "name", None) for item in getattr(found[0], "body", ())} if found else set()
        if not found or (method and method not in inside):
            missing.append(f"{path}::{name}.{method}")
    assert not missing
