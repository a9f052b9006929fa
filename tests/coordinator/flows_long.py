"""A run on disk that is long enough to be closed in the middle of, however late that is."""

from __future__ import annotations

from floxide_mp import NextAll, Workflow, node

from ..flows_durable import COUNT, work


class Long(Workflow):
    split = node(lambda folder: NextAll([(folder, number) for number in range(100 * COUNT)]))
    work = node(work.function)
    start = split
    edges = {split: [work]}
