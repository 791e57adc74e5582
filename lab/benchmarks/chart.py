"""The table as a picture: each row's cost as a multiple of nginx's, and the goals."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from math import log10

from lab.benchmarks.results import Results
from lab.benchmarks.rows import TAIL, Row
from lab.benchmarks.testbed import AUTHPROXY, NGINX, PLAIN

_COLOURS = {PLAIN: "#b8bec6", AUTHPROXY: "#2f6fb3"}
_OTHER_COLOUR = "#8a6db1"
_GOAL_COLOUR = "#c23b22"

_LEFT, _WIDTH, _RIGHT = 250, 560, 60
_TOP, _BAR, _GAP = 64, 15, 18
_TICKS = (1, 2, 5, 10, 20, 50, 100, 200)


class _Scale:
    """From ratios to pixels, on a logarithmic axis: half as dear is always the same step."""

    def __init__(self, ratios: list[float]) -> None:
        self.low = min(0.8, *ratios) * 0.95
        self.high = max(2.0, *ratios) * 1.15

    def __call__(self, ratio: float) -> float:
        return _LEFT + _WIDTH * log10(ratio / self.low) / log10(self.high / self.low)


def svg(results: Results) -> str | None:
    """Return the chart, or None where nothing was compared with nginx."""
    rows = [row for row in results.runs if row is not TAIL and NGINX in results.runs[row]]
    names = [name for name in results.idle_mib if name != NGINX]
    if not rows or not names:
        return None
    ratios = {
        (row, name): ratio
        for row in rows
        for name in names
        if (ratio := results.cost_ratio(row, name))
    }
    scale = _Scale([ratio.high for ratio in ratios.values()] + [row.goal for row in rows])
    step = len(names) * _BAR + _GAP
    height = _TOP + len(rows) * step + 40
    width = _LEFT + _WIDTH + _RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        '<text x="12" y="22" font-size="15">CPU time of each request, '
        "as a multiple of nginx's (logarithmic; shorter is better)</text>",
        *_legend(names),
        *_axis(scale, height),
    ]
    for number, row in enumerate(rows):
        top = _TOP + number * step
        parts.append(
            f'<text x="{_LEFT - 10}" y="{top + len(names) * _BAR / 2 + 4:.1f}" '
            f'text-anchor="end">{escape(row.title)}</text>'
        )
        for place, name in enumerate(names):
            if ratio := ratios.get((row, name)):
                y = top + place * _BAR
                parts += _bar(scale, y, name, ratio.median, ratio.low, ratio.high)
        parts += _goal(scale, row, top, len(names) * _BAR)
    return "\n".join([*parts, "</svg>", ""])


def _bar(
    scale: _Scale, y: float, name: str, ratio: float, low: float, high: float
) -> Iterator[str]:
    start, middle = scale(1), y + _BAR / 2
    left, right = sorted((start, scale(ratio)))
    colour = _COLOURS.get(name, _OTHER_COLOUR)
    yield (
        f'<rect x="{left:.1f}" y="{y + 1:.1f}" width="{max(right - left, 1):.1f}" '
        f'height="{_BAR - 2}" fill="{colour}"/>'
    )
    yield (
        f'<line x1="{scale(low):.1f}" x2="{scale(high):.1f}" y1="{middle:.1f}" y2="{middle:.1f}" '
        'stroke="#222"/>'
    )
    yield (
        f'<text x="{max(right, scale(high)) + 5:.1f}" y="{middle + 4:.1f}" '
        f'font-size="11">{ratio:.3g}</text>'
    )


def _goal(scale: _Scale, row: Row, top: float, height: float) -> Iterator[str]:
    x = scale(row.goal)
    yield (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top - 4:.1f}" y2="{top + height + 2:.1f}" '
        f'stroke="{_GOAL_COLOUR}" stroke-width="3"/>'
    )
    yield (
        f'<text x="{x:.1f}" y="{top + height + 12:.1f}" text-anchor="middle" font-size="10" '
        f'fill="{_GOAL_COLOUR}">{row.goal:g}</text>'
    )


def _legend(names: list[str]) -> Iterator[str]:
    x = 12
    for name in [*names, "goal for authproxy", "line: from the least to the most of the rounds"]:
        colour = _COLOURS.get(name, _OTHER_COLOUR)
        colour = {"goal for authproxy": _GOAL_COLOUR}.get(name, colour)
        if name.startswith("line"):
            yield f'<line x1="{x}" x2="{x + 12}" y1="40" y2="40" stroke="#222"/>'
        else:
            yield f'<rect x="{x}" y="34" width="12" height="12" fill="{colour}"/>'
        yield f'<text x="{x + 17}" y="44">{escape(name)}</text>'
        x += 40 + 7 * len(name)


def _axis(scale: _Scale, height: int) -> Iterator[str]:
    bottom = height - 28
    for tick in _TICKS:
        if scale.low <= tick <= scale.high:
            x = scale(tick)
            colour = "#666" if tick == 1 else "#e2e5e9"
            yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="54" y2="{bottom}" stroke="{colour}"/>'
            label = "nginx: 1" if tick == 1 else f"{tick}"
            yield f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{label}</text>'
