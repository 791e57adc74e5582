"""What Prometheus responds to a panel's expressions over some time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tests.support.dashboard import Dashboard, Panel, substituted
from tests.support.scraper import Scraper

#: Seconds between two points of a line.
STEP = 1.0


@dataclass(frozen=True)
class Line:
    """One series of a panel, under its name in the legend."""

    name: str
    points: dict[float, float]

    @property
    def last(self) -> float:
        return self.points[max(self.points)]


@dataclass(frozen=True)
class Recording:
    """The lines of each panel, between two moments (seconds since the epoch)."""

    since: float
    until: float
    lines: dict[int, list[Line]]

    def of(self, panel: Panel) -> list[Line]:
        return self.lines[panel.content["id"]]


def record(
    dashboard: Dashboard, prometheus: Scraper, since: float, until: float, rate_interval: str
) -> Recording:
    """Ask for all panels' series."""
    choices = dashboard.choices(prometheus, rate_interval)
    lines = {
        panel.content["id"]: _lines(panel, prometheus, since, until, choices)
        for panel in dashboard.panels
    }
    return Recording(since, until, lines)


def _lines(
    panel: Panel, prometheus: Scraper, since: float, until: float, choices: Mapping[str, str]
) -> list[Line]:
    found: list[Line] = []
    for expression, template in panel.queries:
        asked = substituted(expression, choices)
        for series in prometheus.history(asked, since, until, STEP):
            values = {float(at): float(value) for at, value in series["values"]}
            points = {at: value for at, value in values.items() if math.isfinite(value)}
            if points:
                found.append(Line(panel.legend(template, series["metric"]), points))
    return sorted(found, key=lambda line: line.name) if panel.kind == "timeseries" else found
