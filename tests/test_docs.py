"""The code in README and docs runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from floxide_mp.core.transitions import diagrams

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").rglob("*.md")))]


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_code_in_pages_runs(page: str, tmp_path: Path) -> None:
    """A block that begins with ``# name.py`` is that file, and later blocks of the page may import it."""
    for number, block in enumerate(blocks(page)):
        named = re.match(r"# (\w+\.py)\n", block)
        path = tmp_path / (named.group(1) if named else f"block_{number}.py")
        path.write_text(block)
        done = subprocess.run(
            [sys.executable, "-W", "error", path],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "PYTHONHASHSEED": "1"},
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert done.stdout.strip()


def test_the_commands_of_the_readme_run_one_after_the_other(tmp_path: Path) -> None:
    """Those in blocks of ``bash``, beside the page's ``# name.py`` files."""
    text = (ROOT / "README.md").read_text()
    for block in blocks("README.md"):
        if named := re.match(r"# (\w+\.py)\n", block):
            (tmp_path / named.group(1)).write_text(block)
    (tmp_path / "floxide_mp").symlink_to(ROOT / "floxide_mp")
    (script,) = re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    done = subprocess.run(
        ["bash", "-ec", f'python() {{ "{sys.executable}" "$@"; }}\n{script}'],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stderr) == (0, "")
    results = [line for line in done.stdout.splitlines() if line.startswith('{"files": ')]
    assert len(results) == 2 and results[0] == results[1]
    assert "run tonight of Digests: completed" in done.stdout
    assert done.stdout.splitlines()[-1] == "ok"


def test_the_state_diagrams_are_those_of_the_tables() -> None:
    drawn = re.findall(r"^```mermaid\n(.*?)^```", (ROOT / "docs" / "states.md").read_text(), re.DOTALL | re.MULTILINE)
    assert drawn == diagrams()


def test_ci_takes_its_commands_from_the_readme() -> None:
    shell = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)[0]
    example, tests = (line for line in shell.splitlines() if line.startswith("python3 "))
    assert example.endswith("python -m floxide_mp examples.parallel")
    assert tests.endswith("python -m pytest")
