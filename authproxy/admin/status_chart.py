"""Pure rules: the bars of the chart of requests.

Upstream responses are above a line, the proxy's own errors below it: whose fault
an error is can be seen at a glance.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: From the line outwards.
ABOVE = ("target_2xx", "target_3xx", "target_4xx", "target_5xx", "target_cut")
BELOW = ("proxy_4xx", "proxy_5xx")

NAMES = {
    "target_2xx": "2xx of the target",
    "target_3xx": "3xx of the target",
    "target_4xx": "4xx of the target",
    "target_5xx": "5xx of the target",
    "target_cut": "cut short",
    "proxy_4xx": "4xx of authproxy",
    "proxy_5xx": "5xx of authproxy",
}

#: In units of the drawing: a minute, its bar, and what both directions have together.
STEP, BAR, HEIGHT = 10.0, 8.0, 100.0

#: A single error among thousands of requests must still be seen.
_LEAST = 2.0


@dataclass(frozen=True)
class Block:
    """A part of a bar."""

    kind: str
    x: float
    y: float
    height: float
    width: float = BAR


@dataclass(frozen=True)
class Bar:
    """A minute: when it began, its blocks, and its counts by name."""

    at: float
    blocks: Sequence[Block]
    counts: Sequence[tuple[str, int]]


@dataclass(frozen=True)
class Chart:
    """Bars in a drawing that begins at `top`; the line is at zero."""

    bars: Sequence[Bar]
    top: float
    width: float
    height: float
    most_above: int
    most_below: int
    kinds: Sequence[str]


def chart_of(minutes: Sequence[Mapping[str, Any]]) -> Chart:
    """Return the chart of counts by minute."""
    most_above = _round_up(max(_sum(minute, ABOVE) for minute in minutes))
    most_below = _round_up(max(_sum(minute, BELOW) for minute in minutes))
    scale = HEIGHT / ((most_above + most_below) or 1)
    bars = [
        Bar(
            minute["minute_at"],
            [*_stack(minute, number, ABOVE, -scale), *_stack(minute, number, BELOW, scale)],
            [(NAMES[kind], minute[kind]) for kind in (*ABOVE, *BELOW) if minute[kind]],
        )
        for number, minute in enumerate(minutes)
    ]
    # The least heights may reach beyond the scale.
    blocks = [block for bar in bars for block in bar.blocks]
    top = min([-scale * most_above, *(block.y for block in blocks)])
    bottom = max([scale * most_below, *(block.y + block.height for block in blocks)])
    if not blocks:
        top = -HEIGHT
    kinds = [
        kind for kind in (*ABOVE, *BELOW) if kind == ABOVE[0] or any(each[kind] for each in minutes)
    ]
    return Chart(bars, top, STEP * len(minutes), bottom - top, most_above, most_below, kinds)


def _stack(
    minute: Mapping[str, Any], number: int, kinds: Iterable[str], scale: float
) -> Iterable[Block]:
    """Yield blocks from the line on, upwards where the scale is negative."""
    edge = 0.0
    for kind in kinds:
        if minute[kind]:
            height = max(_LEAST, minute[kind] * abs(scale))
            y = edge - height if scale < 0 else edge
            edge = y if scale < 0 else edge + height
            yield Block(kind, number * STEP + (STEP - BAR) / 2, round(y, 2), round(height, 2))


def _sum(minute: Mapping[str, Any], kinds: Iterable[str]) -> int:
    return sum(minute[kind] for kind in kinds)


def _round_up(most: int) -> int:
    """Return the next number that is round but for its first digit."""
    size = 1
    while True:
        for digit in (1, 2, 3, 4, 5, 6, 8):
            if most <= digit * size:
                return digit * size if most else 0
        size *= 10
