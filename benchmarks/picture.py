"""The picture of ``benchmarks.metg``: efficiency against task length, in SVG, written by hand. No measuring here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from benchmarks.patterns import Point

COLOURS = (  # told apart on white, also by most of those who see few colours
    "#d62728", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#bcbd22", "#ff7f0e", "#7f7f7f", "#393b79",
    "#637939", "#843c39", "#7b4173", "#e7ba52",
)  # fmt: skip
OURS = "#1f77b4"


class Line(NamedTuple):
    """How a contender is drawn. ``label``: what the legend says."""

    label: str
    colour: str
    width: float = 1.5
    dash: str = ""


class Panel(NamedTuple):
    """One diagram: points by contender; contenders are drawn in this order, the last on top."""

    title: str
    points: Mapping[str, Sequence[Point]]


class Box(NamedTuple):
    """The area within a panel's axes, in pixels."""

    left: float
    top: float
    width: float
    height: float


def lines(ours: Mapping[str, str], others: Mapping[str, str]) -> dict[str, Line]:
    """A line for each label: ours thick, the first whole and the others dashed."""
    found = {name: Line(label, OURS, 3, "" if n == 0 else "7 3") for n, (name, label) in enumerate(ours.items())}
    for n, (name, label) in enumerate(others.items()):
        found[name] = Line(label, COLOURS[n % len(COLOURS)], dash="" if n < len(COLOURS) else "2 2")
    return found


def svg(title: str, panels: Sequence[Panel], drawn: Mapping[str, Line], small: int = 5) -> str:
    """The first panel large, with the legend beside it; the others, ``small`` in a row, under it."""
    everything = [point for panel in panels for points in panel.points.values() for point in points]
    first = math.floor(
        math.log10(min(p.duration for p in everything)) + 0.1
    )  # a task is not exactly as long as was asked for
    last = math.ceil(math.log10(max(p.duration for p in everything)) - 0.2)
    scale = first, max(last, first + 1)
    rows = math.ceil((len(panels) - 1) / small)
    height = max(470, 80 + 20 * len(drawn)) + 225 * rows
    body = [_text(20, 28, title, size=17, anchor="start", weight="bold")]
    body += _panel(panels[0], Box(70, 70, 600, 330), scale, drawn, large=True)
    body += _legend(drawn, 700, 78)
    for number, panel in enumerate(panels[1:]):
        row, column = divmod(number, small)
        box = Box(70 + 180 * column, height - 225 * (rows - row) + 40, 156, 130)
        body += _panel(panel, box, scale, drawn, labelled=column == 0)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="1000" height="{height}" viewBox="0 0 1000 {height}" '
    head += 'font-family="Helvetica, Arial, sans-serif">'
    return "\n".join([head, f'<rect width="1000" height="{height}" fill="white"/>', *body, "</svg>"]) + "\n"


def _panel(
    panel: Panel,
    box: Box,
    scale: tuple[int, int],
    drawn: Mapping[str, Line],
    large: bool = False,
    labelled: bool = True,
) -> Iterator[str]:
    """Title, axes and curves."""
    first, last = scale
    size = 13 if large else 10

    def x(duration: float) -> float:
        return box.left + box.width * (math.log10(duration) - first) / (last - first)

    def y(efficiency: float) -> float:
        return box.top + box.height * (1 - min(max(efficiency, 0.0), 1.05))

    yield _text(box.left + box.width / 2, box.top - 10, panel.title, size=size + 1, weight="bold")
    for exponent in range(first, last + 1):
        at = x(10.0**exponent)
        yield _rule(at, box.top, at, box.top + box.height, "#ddd")
        if large or (exponent - first) % 2 == 0:
            yield _text(at, box.top + box.height + size + 4, _seconds(exponent), size=size)
    for percent in range(0, 101, 25):
        at = y(percent / 100)
        yield _rule(box.left, at, box.left + box.width, at, "#555" if percent == 50 else "#ddd", dash=percent == 50)
        if large or (labelled and percent % 50 == 0):
            yield _text(box.left - 6, at + size / 3, f"{percent} %", size=size, anchor="end")
    yield _rule(box.left, box.top + box.height, box.left + box.width, box.top + box.height, "#333")
    yield _rule(box.left, box.top, box.left, box.top + box.height, "#333")
    if large:
        middle = box.top + box.height / 2
        yield _text(box.left + box.width / 2, box.top + box.height + 38, "length of a task (logarithmic)", size=size)
        turned = f'transform="rotate(-90 22 {middle:.1f})"'
        yield _text(22, middle, "efficiency: tasks × length / workers / time", size=size, more=turned)
    for name, points in panel.points.items():
        line = drawn[name]
        path = " ".join(f"{x(p.duration):.1f},{y(p.efficiency):.1f}" for p in sorted(points))
        dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
        stroke = f'stroke="{line.colour}" stroke-width="{line.width if large else line.width * 0.8:.1f}"'
        yield f'<polyline points="{path}" fill="none" {stroke}{dash}><title>{escape(line.label)}</title></polyline>'
        for point in points if large else ():
            place = f'cx="{x(point.duration):.1f}" cy="{y(point.efficiency):.1f}"'
            yield f'<circle {place} r="{1.2 + line.width / 2:.1f}" fill="{line.colour}"/>'


def _legend(drawn: Mapping[str, Line], left: float, top: float) -> Iterator[str]:
    for number, line in enumerate(drawn.values()):
        at = top + 20 * number
        yield _rule(left, at, left + 28, at, line.colour, line.width, line.dash)
        weight = "bold" if line.colour == OURS else "normal"
        yield _text(left + 36, at + 4.5, line.label, size=12.5, anchor="start", weight=weight)


def _seconds(exponent: int) -> str:
    unit, power = ("s", 0) if exponent >= 0 else ("ms", -3) if exponent >= -3 else ("µs", -6)
    return f"{10 ** (exponent - power):,g} {unit}"


def _text(
    x: float, y: float, text: str, size: float, anchor: str = "middle", weight: str = "normal", more: str = ""
) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text {place} fill="#222" {more}>{escape(text)}</text>'


def _rule(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1, dash: str | bool = "") -> str:
    dashed = f' stroke-dasharray="{"5 4" if dash is True else dash}"' if dash else ""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"{dashed}/>'
