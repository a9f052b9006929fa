"""A picture of a workflow, as text for Mermaid (which GitHub draws) or for Graphviz.

    python -m floxide_mp examples.graph
    python -m floxide_mp examples.graph --input '"dot"' | dot -Tsvg > release.svg

Arms carry their labels, ways taken on failure are dashed and red, and joins and ends have shapes of their own. Nothing
is run for a picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from floxide_mp import Arrivals, Context, Coordinator, Join, RetryPolicy, Workflow, node

LANGUAGES: Final = ("mermaid", "dot")


@dataclass(frozen=True)
class Good:
    version: str


@dataclass(frozen=True)
class Broken:
    reason: str


@node
def tag(version: str) -> str:
    return version


@node(retry=RetryPolicy(max_attempts=2))
def check(version: str) -> Good | Broken:
    return Good(version) if version[0].isdigit() else Broken(f"{version} is no version")


@node
def wheel(good: Good) -> str:
    return f"release-{good.version}.whl"


@node
def archive(good: Good) -> str:
    return f"release-{good.version}.tar.gz"


@Join
def publish(files: Arrivals) -> list[str]:
    return list(files)


@node
def explain(ctx: Context, what: Any) -> str:
    return f"{what}: {ctx.item.error}"


class Release(Workflow):
    tag, check, wheel, archive, publish, explain = tag, check, wheel, archive, publish, explain

    start = tag
    edges = {
        tag: [check],
        check: {Good: [wheel, archive], Broken: []},
        wheel: [publish],
        archive: [publish],
    }
    on_failure = {tag: [explain], check: [explain]}

    cli_defaults = {"workers": 0, "input": "mermaid"}

    @staticmethod
    def cli_input(value: str) -> str:
        if value not in LANGUAGES:
            raise ValueError(f"one of {', '.join(LANGUAGES)} is needed, not {value!r}")
        return value

    @staticmethod
    def cli_run(coordinator: Coordinator, language: str) -> Iterator[str]:
        picture = Release.to_dot() if language == "dot" else Release.to_mermaid()
        yield from picture.splitlines()
