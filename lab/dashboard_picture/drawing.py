"""Draws a recording in the dashboard's layout, as SVG that looks as Grafana does."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from lab.dashboard_picture.recording import STEP, Line, Recording
from lab.dashboard_picture.units import shown, ticks
from tests.support.dashboard import Dashboard, Panel

WIDTH, COLUMNS, UNIT, GAP, HEADER = 1440, 24, 30, 8, 56
BACKGROUND, SURFACE, BORDER, GRID = "#111217", "#181b1f", "#2a2e34", "#2a2e34"
TEXT, FAINT = "#d5d7dd", "#9fa3ad"
FONT = "Inter, 'DejaVu Sans', sans-serif"

#: Grafana's names, and the order in which it gives colours to lines.
COLOURS = {
    "green": "#73bf69",
    "orange": "#ff9830",
    "red": "#f2495c",
    "blue": "#5794f2",
    "purple": "#b877d9",
}
CLASSIC = ("#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0")


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    x: float
    y: float
    width: float
    height: float

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def right(self) -> float:
        return self.x + self.width


def draw(dashboard: Dashboard, recording: Recording) -> str:
    """Return the picture."""
    height = HEADER + GAP + UNIT * max(y + h for _, y, _, h in (p.place for p in dashboard.panels))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
        f' font-family="{FONT}">',
        f'<rect width="100%" height="100%" fill="{BACKGROUND}"/>',
        *_header(dashboard, recording),
    ]
    for row in dashboard.rows:
        box = _box(row)
        parts.append(text(box.x + 6, box.y + 20, f"▾  {row.title}", size=15, weight=600))
    for panel in dashboard.panels:
        parts += _panel(panel, recording)
    return "\n".join([*parts, "</svg>"])


def text(
    x: float,
    y: float,
    content: str,
    *,
    size: float = 12,
    colour: str = TEXT,
    anchor: str = "start",
    weight: int = 400,
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}"'
        f' text-anchor="{anchor}" font-weight="{weight}" xml:space="preserve">'
        f"{escape(content)}</text>"
    )


def _box(panel: Panel) -> Box:
    x, y, w, h = panel.place
    column = (WIDTH - GAP) / COLUMNS
    return Box(GAP + x * column, HEADER + y * UNIT, w * column - GAP, h * UNIT - GAP)


def _header(dashboard: Dashboard, recording: Recording) -> Iterator[str]:
    yield text(GAP + 6, 34, dashboard.content["title"], size=20, weight=600)
    x = 150.0
    for variable in dashboard.variables:
        if variable["type"] == "query":
            label = f"{variable['label']}  All"
            width = 18 + 7.2 * len(label)
            yield (
                f'<rect x="{x}" y="15" width="{width}" height="28" rx="3" fill="{SURFACE}"'
                f' stroke="{BORDER}"/>'
            )
            yield text(x + 9, 34, label, size=13, colour=FAINT)
            x += width + GAP
    clock = "%Y-%m-%d %H:%M:%S"
    span = " to ".join(
        time.strftime(clock, time.gmtime(at)) for at in (recording.since, recording.until)
    )
    yield text(WIDTH - GAP - 6, 34, f"{span} UTC", size=13, colour=FAINT, anchor="end")


def _panel(panel: Panel, recording: Recording) -> Iterator[str]:
    box = _box(panel)
    yield (
        f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}"'
        f' rx="3" fill="{SURFACE}" stroke="{BORDER}"/>'
    )
    yield text(box.x + 10, box.y + 21, panel.title, size=13, weight=500)
    lines = recording.of(panel)
    if not lines:
        middle = box.x + box.width / 2, box.y + box.height / 2 + 10
        yield text(*middle, "No data", size=14, colour=FAINT, anchor="middle")
    elif panel.kind == "stat":
        yield from _stat(panel, box, lines, recording)
    else:
        yield from _time_series(panel, box, lines, recording)


# -- one number --------------------------------------------------------------------


def _stat(panel: Panel, box: Box, lines: list[Line], recording: Recording) -> Iterator[str]:
    unit = panel.defaults["unit"]
    names = panel.content["options"]["textMode"] == "value_and_name"
    share = box.width / max(1, len(lines))
    for number, line in enumerate(lines):
        colour = _state_colour(panel, line.last)
        if panel.content["options"]["graphMode"] == "area":
            area = Box(box.x + 1, box.bottom - 38, box.width - 2, 36)
            top = max(line.points.values()) or 1.0
            yield from _area([(line, colour)], area, recording, 0.0, top, fill=0.25)
        middle = box.x + share * (number + 0.5)
        yield text(
            middle, box.y + 62, shown(line.last, unit),
            size=30, weight=600, colour=colour, anchor="middle",
        )  # fmt: skip
        if names:
            yield text(middle, box.y + 92, line.name, size=13, colour=FAINT, anchor="middle")


def _state_colour(panel: Panel, value: float) -> str:
    colour = panel.defaults["color"]
    if colour["mode"] == "fixed":
        return COLOURS[colour["fixedColor"]]
    steps = panel.defaults["thresholds"]["steps"]
    reached = [step for step in steps if step["value"] is None or value >= step["value"]]
    return COLOURS[reached[-1]["color"]]


# -- lines -------------------------------------------------------------------------


def _time_series(panel: Panel, box: Box, lines: list[Line], recording: Recording) -> Iterator[str]:
    custom = panel.defaults.get("custom", {})
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    coloured = list(zip(lines, _line_colours(panel, lines), strict=True))
    legend = list(_legend(coloured, box))
    values = [value for line in lines for value in line.points.values()]
    high = max((total for _, total in _totals(lines)), default=1.0) if stacked else max(values)
    low = min(0.0, *values)
    marks = ticks(low, high or 1.0, panel.defaults["unit"])
    plot = Box(box.x + 70, box.y + 34, box.width - 84, box.height - 34 - 26 - 17 * len(legend))
    yield from _axes(plot, marks, recording)
    low, high = marks[0][0], marks[-1][0]
    fill = custom.get("fillOpacity", 0) / 100
    width = 1.5 * custom.get("lineWidth", 1)
    yield from _area(coloured, plot, recording, low, high, stacked=stacked, fill=fill, width=width)
    if custom.get("thresholdsStyle"):
        yield from _thresholds(panel, plot, low, high)
    for number, row in enumerate(legend):
        y = box.bottom - 9 - 17 * (len(legend) - 1 - number)
        for x, name, colour in row:
            yield f'<rect x="{x:.1f}" y="{y - 6:.1f}" width="14" height="4" fill="{colour}"/>'
            yield text(x + 19, y, name, size=12, colour=FAINT)


def _line_colours(panel: Panel, lines: list[Line]) -> list[str]:
    """Return a colour for each line: its override's, in a shade of its own, or the next."""
    shades: dict[str, int] = {}
    colours: list[str] = []
    for number, line in enumerate(lines):
        colour = CLASSIC[number % len(CLASSIC)]
        for override in panel.overrides:
            pattern = override["matcher"]["options"].strip("/")
            if re.search(pattern, line.name):
                name = override["properties"][0]["value"]["fixedColor"]
                shades[name] = shades.get(name, -1) + 1
                colour = _shade(COLOURS[name], shades[name])
        colours.append(colour)
    return colours


def _shade(colour: str, number: int) -> str:
    factor = (1.0, 0.68, 1.22, 0.5, 0.84)[number % 5]
    channels = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{min(255, round(each * factor)):02x}" for each in channels)


def _legend(
    coloured: Sequence[tuple[Line, str]], box: Box
) -> Iterator[list[tuple[float, str, str]]]:
    """Yield rows of names with their places and colours."""
    row: list[tuple[float, str, str]] = []
    x = box.x + 12
    for line, colour in coloured:
        width = 19 + 6.6 * len(line.name) + 14
        if row and x + width > box.right:
            yield row
            row, x = [], box.x + 12
        row.append((x, line.name, colour))
        x += width
    if row:
        yield row


def _axes(plot: Box, marks: list[tuple[float, str]], recording: Recording) -> Iterator[str]:
    low, high = marks[0][0], marks[-1][0]
    for value, label in marks:
        y = plot.bottom - plot.height * (value - low) / (high - low)
        yield (
            f'<line x1="{plot.x:.1f}" x2="{plot.right:.1f}" y1="{y:.1f}" y2="{y:.1f}"'
            f' stroke="{GRID}"/>'
        )
        yield text(plot.x - 8, y + 4, label, size=11, colour=FAINT, anchor="end")
    span = recording.until - recording.since
    step = next(each for each in (10, 15, 20, 30, 60) if plot.width * each / span >= 75)
    at = recording.since - recording.since % step + step
    while at < recording.until:
        x = plot.x + plot.width * (at - recording.since) / span
        yield (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{plot.y:.1f}" y2="{plot.bottom:.1f}"'
            f' stroke="{GRID}"/>'
        )
        if x <= plot.right - 14:  # else it would reach beyond the panel
            label = time.strftime("%H:%M:%S", time.gmtime(at))
            yield text(x, plot.bottom + 16, label, size=11, colour=FAINT, anchor="middle")
        at += step


def _thresholds(panel: Panel, plot: Box, low: float, high: float) -> Iterator[str]:
    for step in panel.defaults["thresholds"]["steps"]:
        value = step["value"]
        if value is not None and low <= value <= high and step["color"] in COLOURS:
            y = plot.bottom - plot.height * (value - low) / (high - low)
            yield (
                f'<line x1="{plot.x:.1f}" x2="{plot.right:.1f}" y1="{y:.1f}" y2="{y:.1f}"'
                f' stroke="{COLOURS[step["color"]]}" stroke-dasharray="8 6" stroke-width="1.5"/>'
            )


def _area(
    coloured: Sequence[tuple[Line, str]],
    plot: Box,
    recording: Recording,
    low: float,
    high: float,
    *,
    stacked: bool = False,
    fill: float,
    width: float = 1.5,
) -> Iterator[str]:
    """Yield the lines, and what is filled below them down to the next or to zero."""
    span = recording.until - recording.since
    below: dict[float, float] = {}

    def place(at: float, value: float) -> str:
        x = plot.x + plot.width * (at - recording.since) / span
        y = plot.bottom - plot.height * (value - low) / (high - low)
        return f"{x:.1f},{y:.1f}"

    for line, colour in coloured:
        for run in _runs(line.points):
            floor = {at: below.get(at, 0.0) if stacked else max(0.0, low) for at in run}
            above = {at: floor[at] + line.points[at] if stacked else line.points[at] for at in run}
            path = " ".join(place(at, above[at]) for at in run)
            if fill:
                back = " ".join(place(at, floor[at]) for at in reversed(run))
                yield f'<polygon points="{path} {back}" fill="{colour}" fill-opacity="{fill}"/>'
            yield (
                f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
            )
            below |= above


def _runs(moments: Iterable[float]) -> Iterator[list[float]]:
    """Yield the moments in stretches without a gap."""
    run: list[float] = []
    for at in sorted(moments):
        if run and at - run[-1] > 1.5 * STEP:
            yield run
            run = []
        run.append(at)
    if run:
        yield run


def _totals(lines: list[Line]) -> Iterator[tuple[float, float]]:
    for at in sorted({at for line in lines for at in line.points}):
        yield at, sum(line.points.get(at, 0.0) for line in lines)
