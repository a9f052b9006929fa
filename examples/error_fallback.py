"""A second way for what fails: ``on_failure`` leads to a node that gets the failed node's input.

    python -m floxide_mp examples.error_fallback                          # no JSON, but Python can read it
    python -m floxide_mp examples.error_fallback --input '"{\\"port\\": 80}"'

The error itself is ``ctx.item.error``. What fails here has no second way, so input that nobody can read fails the run.
"""

from __future__ import annotations

import ast
import json
from typing import Any

from floxide_mp import Context, Workflow, node

Settings = dict[str, Any]


@node
def strict(text: str) -> Settings:
    return {**json.loads(text), "read as": "JSON"}


@node
def lenient(ctx: Context, text: str) -> Settings:
    """What people write by hand: single quotes, a comma too many."""
    return {**ast.literal_eval(text), "read as": f"Python ({type(ctx.item.error).__name__} in JSON)"}


class ReadSettings(Workflow):
    strict = strict
    lenient = lenient

    start = strict
    on_failure = {strict: [lenient]}

    cli_defaults = {"input": "{'port': 8080, 'hosts': ['a', 'b'],}"}
