"""Retries as an option of the node: ``@node(retry=...)`` says how often, how soon, and after which errors.

    python -m floxide_mp examples.retry_option
    python -m floxide_mp examples.retry_option --input '["busy", "gone"]'

A lost connection is tried again; a page that is not there will not be there a moment later either, so that error
goes to ``on_failure`` at once.
"""

from __future__ import annotations

from collections.abc import Iterator

from floxide_mp import BackoffStrategy, Context, NextAll, RetryPolicy, RunResult, Workflow, node

SITE = {"front": 0, "busy": 2, "news": 1}  # pages, and how many times each loses the connection before it is sent

PATIENT = RetryPolicy(
    max_attempts=3,
    initial_backoff=0.01,  # 10 ms after the first failure, 20 ms after the second
    strategy=BackoffStrategy.LINEAR,
    retry_error=(ConnectionError,),
)


@node
def each(pages: list[str]) -> NextAll[str]:
    return NextAll(pages)


@node(retry=PATIENT)
def fetch(ctx: Context, page: str) -> str:
    if page not in SITE:
        raise LookupError("not found")
    if ctx.item.attempt <= SITE[page]:
        raise ConnectionError("connection lost")
    return f"{page}: sent at attempt {ctx.item.attempt}"


@node
def give_up(ctx: Context, page: str) -> str:
    return f"{page}: {ctx.item.error}"


class Crawl(Workflow):
    each, fetch, give_up = each, fetch, give_up

    start = each
    edges = {each: [fetch]}
    on_failure = {fetch: [give_up]}

    cli_defaults = {"input": ["front", "busy", "gone", "news"]}

    @staticmethod
    def cli_report(result: RunResult) -> Iterator[str]:
        yield from result.outputs
        yield f"{result.metrics.retries} attempts had to be repeated"
