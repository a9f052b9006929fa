"""FAULTS rows 4, 23, 24 and DESIGN promise 4: kills at random moments. ``soak_kills`` does more of them."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.faults.soak_audit import audit
from tests.faults.soak_kills import soak

RUNS = int(os.environ.get("FLOXIDE_KILLS", "24"))


@pytest.mark.timeout(60 + 15 * RUNS)
def test_row_23_runs_that_are_killed_and_resumed_at_random_give_the_answer_of_undisturbed_ones(tmp_path: Path) -> None:
    first = random.randrange(10**9)  # others each time; what fails names its seed
    counts, wrong = soak(tmp_path, range(first, first + RUNS))
    if wrong:
        raise wrong[0]
    assert counts["runs"] == RUNS
    assert sum(count for what, count in counts.items() if what.startswith("killed")) > RUNS / 4


@pytest.mark.timeout(300)
def test_row_23_an_audit_is_killed_ten_times(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    seed = random.randrange(10**9)
    for number in range(400):
        (tree / f"{number}.txt").write_bytes(random.Random(number).randbytes(number * 7))
    (tree / "dead").symlink_to("nowhere")  # cannot be read
    print(f"seed {seed}")
    report, counts = audit(tmp_path / "run", str(tree), seed)
    assert report[-1].startswith("  dead: ")
    assert counts["files"] == 400
