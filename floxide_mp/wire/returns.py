"""What may not be returned by a node, or given as the input of a run, and what to write instead. The former is found in
the process that runs the step, the latter in the caller's.
"""

from __future__ import annotations

from collections import UserString
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from io import BytesIO, StringIO
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Final

from ..core.types import Payload
from ..errors import SerializationError
from ..texts import quoted
from . import codec

_TEXTS: Final = str | bytes | bytearray | memoryview | UserString


def several(name: str, values: Any, redact: bool = False) -> Iterable[Any]:
    """The values of a ``NextAll``, if it was given several: a text is one, not its letters, as a named tuple is, not
    its fields; and what is iterated over by names (a dict, a table) has not said whether its names, its values or its
    rows are meant.

    Args:
        name: of the node.
        values: what was given.
        redact: whether an error must not say them.

    Raises:
        TypeError: it was not; the text says what to write.
    """
    kind = type(values)
    if isinstance(values, AsyncIterable):
        raise TypeError(
            f"{name} returned NextAll of an async iterator ({kind.__name__}), whose values nobody would await; collect "
            "them in an `async def` node: return NextAll([value async for value in ...])"
        )
    if isinstance(values, Mapping):
        raise TypeError(
            f"{name} returned NextAll of a {kind.__name__}, which is iterated over by its keys; write what is meant: "
            "NextAll(d.items()), NextAll(d.values()), NextAll(list(d)), or NextAll([d]) for the whole as one value"
        )
    if hasattr(kind, "columns") or hasattr(kind, "column_names"):  # pandas, Polars, Dask, Arrow
        raise TypeError(
            f"{name} returned NextAll of a {kind.__name__}, which is iterated over by its columns; write what is "
            "meant: its rows, as NextAll(df.to_dict('records')) or NextAll(df.itertuples(index=False)) in pandas, or "
            "NextAll([df]) for the whole as one value"
        )
    if isinstance(values, tuple) and hasattr(kind, "_fields"):
        raise TypeError(
            f"{name} returned NextAll of a {kind.__name__}, a named tuple, which is iterated over by its fields; write "
            "what is meant: NextAll([value]) for the whole as one value, or NextAll(list(value)) for its fields"
        )
    # An array without dimensions, and a number of NumPy, have what iterables have, and raise.
    iterable = (hasattr(kind, "__iter__") or hasattr(kind, "__getitem__")) and getattr(values, "ndim", 1) != 0
    if iterable and not isinstance(values, _TEXTS):
        return values  # type: ignore[no-any-return]
    one, meant = quoted(values, redact), "value" if redact else quoted(values)
    raise TypeError(f"{name} returned NextAll({one}); it takes an iterable of values: for this one, NextAll([{meant}])")


def check_class(name: str, result: Any, transitions: frozenset[type]) -> None:
    """That a result is no class of what a node returns.

    Args:
        transitions: these classes.

    Raises:
        TypeError: it is; the text says what to write.
    """
    if result in transitions:
        write = "Hold()" if result.__name__ == "Hold" else f"{result.__name__}(...)"
        raise TypeError(f"{name} returned the class {result.__name__}, not an object of it: write return {write}")


def check_parts(name: str, result: list[Any] | tuple[Any, ...], transitions: frozenset[type], redact: bool) -> None:
    """That nothing in a list is what only a node returns, or its class.

    Args:
        transitions: these classes.
        redact: whether an error must not say values.

    Raises:
        TypeError: something is; the text says what to write.
    """
    for part in result:
        if type(part) in transitions or (type(part) is type and part in transitions):
            shown = f"the class {part.__name__}" if type(part) is type else quoted(part, redact)
            raise TypeError(
                f"{name} returned a {type(result).__name__} with {shown} in it; to fan out, return NextAll([...])"
            )


def check_generator(name: str, kind: type) -> None:
    """That a result is no generator.

    Raises:
        TypeError: it is; the text says what to write.
    """
    if kind is GeneratorType:
        raise TypeError(f"{name} returned a generator; to fan out into its values, return NextAll(...) of it")
    if kind is AsyncGeneratorType:
        raise TypeError(
            f"{name} is an async generator function (`async def` with `yield`), or returned what one gives; collect "
            "the values in an `async def` node that returns: return NextAll([value async for value in ...])"
        )


def check_input(value: Any) -> None:
    """That the input of a run is a value, not something that gives values once.

    Raises:
        SerializationError: it is; the text says what to give.
    """
    builtin = type(value).__module__ in ("builtins", "itertools", "_io", "sqlite3", "_csv", "_asyncio")
    if builtin and isinstance(value, Iterator | AsyncIterator) and not isinstance(value, BytesIO | StringIO):
        raise SerializationError(
            f"the input is a {type(value).__name__}, which gives its values once, in this process; give list(...) of "
            "it, or a source(...), into which values are sent one by one"
        )


def explain_list(failure: BaseException, payload: Payload) -> None:
    """Where a node could not do with a list that was its input, the node before is likely to have meant its values."""
    if issubclass(type(failure), TypeError) and "list" in str(failure) and isinstance(codec.decode(payload), list):
        failure.add_note(
            "the input of this node was a list: one that a node returns goes on as one value; to fan out into its "
            "values, the node before returns NextAll(...) of it"
        )
