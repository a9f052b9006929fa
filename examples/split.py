"""A fan-out: ``SplitNode`` makes several values of one, and each goes on by itself.

    python -m floxide_mp examples.split
    python -m floxide_mp examples.split --input '"One sentence. And another one!"'

There is no join: each sentence ends in an output of its own. Outputs are in the order of the sentences, whichever
worker was faster.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from floxide_mp import SplitNode, Workflow, node

TEXT = "It is a truth. Short sentences are read more easily than those that go on and on, are they not? They are!"


@dataclass(frozen=True)
class Sentence:
    text: str
    words: int


def sentences(text: str) -> list[str]:
    return re.findall(r"[^.!?\s][^.!?]*[.!?]*", text)


@node
def count(sentence: str) -> Sentence:
    return Sentence(sentence, len(sentence.split()))


@node
def judge(sentence: Sentence) -> dict[str, Any]:
    return {**asdict(sentence), "verdict": "long" if sentence.words > 12 else "fine"}


class Readability(Workflow):
    split = SplitNode(sentences)
    count = count
    judge = judge

    start = split
    edges = {split: [count], count: [judge]}

    cli_defaults = {"input": TEXT}
