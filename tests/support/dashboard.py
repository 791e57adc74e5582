"""docs/telemetry as Grafana and Prometheus read it: panels, variables, expressions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import promql_parser
import yaml

from tests.support.scraper import Scraper
from tests.support.source import ROOT

TELEMETRY = ROOT / "docs" / "telemetry"
DASHBOARD = TELEMETRY / "dashboard.json"
ALERTS = TELEMETRY / "alerts.yaml"

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")
#: What Grafana puts a backslash before; PromQL's strings want that one doubled.
_SPECIAL = re.compile(r"[\\^$.*+?()\[\]{}|]")


def substituted(text: str, values: Mapping[str, str]) -> str:
    """Return `text` with Grafana's variables replaced; KeyError for one that there is not."""
    return _VARIABLE.sub(lambda match: values[match[1] or match[2]], text)


def alternatives(values: list[str]) -> str:
    """Return values as a regular expression in PromQL's quotes, as Grafana writes them."""
    escaped = [_SPECIAL.sub(r"\\\\\g<0>", value) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def selectors(expression: str) -> list[str]:
    """Return the series selectors of an expression. Raises ValueError where it is no PromQL."""
    found: list[str] = []

    def note(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            # The parser writes strings without the backslashes that it read them with.
            found.append(str(node).replace("\\", r"\\"))

    promql_parser.walk(promql_parser.parse(expression), note)
    return found


@dataclass(frozen=True)
class Panel:
    """A panel that shows something, as the dashboard's file has it."""

    content: dict[str, Any]

    @property
    def title(self) -> str:
        return str(self.content["title"])

    @property
    def kind(self) -> str:
        return str(self.content["type"])

    @property
    def place(self) -> tuple[int, int, int, int]:
        """x, y, width and height in the grid, which is 24 wide."""
        grid = self.content["gridPos"]
        return grid["x"], grid["y"], grid["w"], grid["h"]

    @property
    def queries(self) -> list[tuple[str, str]]:
        """Expressions with the templates of their legends."""
        return [(each["expr"], each["legendFormat"]) for each in self.content["targets"]]

    @property
    def defaults(self) -> dict[str, Any]:
        """Unit, colour, thresholds and the like."""
        return dict(self.content["fieldConfig"]["defaults"])

    @property
    def overrides(self) -> list[dict[str, Any]]:
        return list(self.content["fieldConfig"]["overrides"])

    def legend(self, template: str, labels: Mapping[str, str]) -> str:
        """Return the name of a series."""
        return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), template).strip()


class Dashboard:
    """The Grafana dashboard."""

    def __init__(self) -> None:
        self.content = json.loads(DASHBOARD.read_text())

    @cached_property
    def everything(self) -> list[dict[str, Any]]:
        """Rows and panels in the file's order."""
        return list(self.content["panels"])

    @cached_property
    def panels(self) -> list[Panel]:
        return [Panel(each) for each in self.everything if each["type"] != "row"]

    @property
    def rows(self) -> list[Panel]:
        return [Panel(each) for each in self.everything if each["type"] == "row"]

    @property
    def variables(self) -> list[dict[str, Any]]:
        return list(self.content["templating"]["list"])

    @property
    def annotations(self) -> list[dict[str, Any]]:
        return list(self.content["annotations"]["list"])

    def expressions(self) -> Iterator[tuple[str, str]]:
        """Yield each expression after the title of what it is for."""
        for panel in self.panels:
            for expression, _ in panel.queries:
                yield panel.title, expression
        for annotation in self.annotations:
            yield annotation["name"], annotation["expr"]

    def choices(self, prometheus: Scraper, rate_interval: str) -> dict[str, str]:
        """Return what Grafana puts in the variables' place while All is chosen of each."""
        values = {"__rate_interval": rate_interval}
        for variable in self.variables:
            if variable["type"] == "query":
                match = _LABEL_VALUES.fullmatch(variable["query"]["query"])
                assert match, variable
                found = prometheus.label_values(match[2], substituted(match[1], values))
                values[variable["name"]] = alternatives(found)
        return values


def alert_rules() -> list[dict[str, Any]]:
    """Return the alerting rules."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]
