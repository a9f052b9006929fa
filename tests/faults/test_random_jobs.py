"""A few of the random jobs of ``tests.random_jobs.soak``, which plays a thousand: real programs, really killed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.random_jobs.shapes import MOST_STEPS
from tests.random_jobs.soak import check, job_of

JOBS = int(os.environ.get("FLOXIDE_RANDOM_JOBS", "4"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(123, 123 + JOBS))
def test_a_random_job_has_one_answer_however_it_is_run_and_killed(seed: int, tmp_path: Path) -> None:
    check(tmp_path / "job", seed)


def test_most_random_jobs_can_be_told_beforehand() -> None:
    known = [plain for seed in range(60) if (plain := job_of(seed)[1]) is not None]
    assert len(known) > 40
    assert any(plain.outputs is None for plain in known), "some run fails, since all items of a node are held"
    assert sum(len(plain.log) for plain in known) > 20 * len(known)
    assert max(len(plain.log) for plain in known) <= MOST_STEPS
