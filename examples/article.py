"""An article in stages: an outline, a draft of each section, style, and the whole. Sections are worked on side by side.

    python -m floxide_mp examples.article
    python -m floxide_mp examples.article --input '"Bicycle repair"' --workers 2

It is the shape of a pipeline with a language model. Here the writers are plain text functions, so that it runs
without a network; put your model where ``write`` is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from floxide_mp import Arrivals, Join, NextAll, RunResult, Workflow, node

QUESTIONS = ("What is {}?", "How does one begin with {}?", "What goes wrong with {}?")
PHRASES = (
    "it is  very, very useful",
    "most people  utilize it before they understand it",
    "in order to learn what goes wrong ,try it",
)


@dataclass(frozen=True)
class Section:
    number: int
    heading: str
    topic: str
    text: str = ""


def write(prompt: str, number: int) -> str:
    """The writer: a sentence or two on the prompt, of uneven quality."""
    return f"on {prompt}: {PHRASES[number % len(PHRASES)]}. there is more to say"


@node
def outline(topic: str) -> NextAll[Section]:
    return NextAll(Section(n, question.format(topic.lower()), topic) for n, question in enumerate(QUESTIONS))


@node(timeout=60.0)
def draft(section: Section) -> Section:
    return replace(section, text=write(section.topic.lower(), section.number))


@node
def style(section: Section) -> Section:
    """The editor: one word for two, capitals, spaces, a full stop."""
    text = section.text.replace("utilize", "use").replace("in order to", "to").replace("very, very", "very")
    text = re.sub(r"\s*,\s*", ", ", re.sub(r"\s+", " ", text))
    text = re.sub(r"(^|\. )(\w)", lambda begin: begin[1] + begin[2].upper(), text)
    return replace(section, text=f"{text}.")


@Join
def article(sections: Arrivals) -> list[str]:
    """The lines of the whole, when every section is there; they are in the order of the outline."""
    return [line for section in sections for line in (f"## {section.heading}", section.text)]


class Article(Workflow):
    outline, draft, style, article = outline, draft, style, article

    start = outline
    edges = {outline: [draft], draft: [style], style: [article]}

    cli_defaults = {"input": "Parallel programming"}

    @staticmethod
    def cli_report(result: RunResult) -> Iterator[str]:
        yield from result.output
