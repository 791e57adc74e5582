"""What is made in the Helm chart.

From the settings' declarations come the settings in values.yaml and what the
templates know of them; from values.yaml, with its comments, come the schema
and README.md; from docs/telemetry/alerts.yaml comes the chart's copy.

In values.yaml a comment right above a value is its meaning, `# @schema {...}`
adds to the schema that the default implies, and `## ...` begins a section. A
mapping takes the keys that its default has if these have meanings, else any.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from authproxy.settings import Settings
from authproxy.settings.model import RouteKeys
from tools.chart_values import (
    camel_case,
    chart_values,
    mounts,
    route_properties,
    route_secrets,
    values_yaml,
)

BEGIN, END = "### Settings,", "### End of the settings."
SCHEMA_LINE = "@schema "
TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array"}


@dataclass
class Entry:
    """A value with its default, its meaning, and those within it that have meanings."""

    path: str
    default: Any
    meaning: str
    section: str
    extra: dict[str, Any]
    children: list[Entry] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    def schema(self) -> dict[str, Any]:
        about = {"description": self.meaning} if self.meaning else {}
        if isinstance(self.default, dict):
            made: dict[str, Any] = {**about, "type": "object"}
            if self.children:
                made["properties"] = {child.name: child.schema() for child in self.children}
                made["additionalProperties"] = False
        else:
            made = (
                {**about, "type": TYPES[type(self.default)]} if self.default is not None else about
            )
        return {**made, **self.extra}

    def rows(self) -> Iterator[tuple[str, str, str]]:
        if self.children:
            for child in self.children:
                yield from child.rows()
        else:
            default = "" if self.default in ("", None) else f"`{json.dumps(self.default)}`"
            yield self.path, default, self.meaning.replace("|", "\\|")


def entries(text: str) -> list[Entry]:
    """Return the values in a values.yaml, in order; raise ValueError for one without meaning."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    found = list(_entries(root, yaml.safe_load(text), text.splitlines(), ""))
    for entry in found:
        _demand_meaning(entry)
    return found


def _demand_meaning(entry: Entry) -> None:
    if not entry.meaning and not entry.children:
        raise ValueError(f"{entry.path} has no comment above it that says what it means")


def _entries(
    node: yaml.MappingNode, defaults: dict[str, Any], lines: list[str], prefix: str
) -> Iterator[Entry]:
    for key, inner in node.value:
        number, default = key.start_mark.line, defaults[key.value]
        meaning, extra = _comment(lines, number, key.start_mark.column)
        path = f"{prefix}{key.value}"
        children = []
        if isinstance(inner, yaml.MappingNode):
            below = list(_entries(inner, default, lines, f"{path}."))
            children = below if any(child.meaning for child in below) else []
            for child in children:
                _demand_meaning(child)
        yield Entry(path, default, meaning, _section(lines, number), extra, children)


def _comment(lines: list[str], number: int, indent: int) -> tuple[str, dict[str, Any]]:
    begin = f"{' ' * indent}# "
    above: list[str] = []
    while number and lines[number - 1].startswith(begin):
        number -= 1
        above.insert(0, lines[number].removeprefix(begin))
    extra: dict[str, Any] = {}
    for line in above:
        if line.startswith(SCHEMA_LINE):
            extra |= json.loads(line.removeprefix(SCHEMA_LINE))
    return " ".join(line for line in above if not line.startswith(SCHEMA_LINE)), extra


def _section(lines: list[str], number: int) -> str:
    titles = [line for line in lines[:number] if re.match("## ", line)]
    return titles[-1].removeprefix("## ") if titles else ""


def with_settings(text: str, model: type[Settings]) -> str:
    """Return values.yaml with the settings as they are declared now."""
    before, begin, rest = text.partition(BEGIN)
    headline, _, rest = rest.partition("\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"values.yaml lacks the lines {BEGIN!r} and {END!r}")
    return f"{before}{begin}{headline}\n\n{values_yaml(model)}{end}{after}"


def schema(found: list[Entry], model: type[Settings], secrets: list[str]) -> dict[str, Any]:
    """Return values.schema.json. Unknown names are left to the templates, which say more.

    `secrets` are the values that name Secrets which a route may have too.
    """
    settings = {each.name: each for each in chart_values(model) if each.is_value}
    properties = {
        entry.path: settings[entry.path].schema() if entry.path in settings else entry.schema()
        for entry in found
    }
    own = {name: {**properties[name], "type": ["object", "null"]} for name in secrets}
    route = {"type": "object", "properties": {**route_properties(model), **own}}
    properties["routes"]["items"] = route
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart authproxy. Made by `make docs`.",
        "type": "object",
        "properties": {**properties, "global": {"type": "object"}},
    }


def tables(found: list[Entry]) -> str:
    """Return the values as Markdown tables, one for each section."""
    parts, section = [], None
    for entry in found:
        if entry.section != section:
            section = entry.section
            parts += [f"\n### {section}\n\n", "| value | default | meaning |\n|---|---|---|\n"]
        parts += [
            f"| `{path}` | {default} | {meaning} |\n" for path, default, meaning in entry.rows()
        ]
    return "".join(parts).lstrip("\n")


def made(root: Path, model: type[Settings]) -> dict[Path, str]:
    """Return every file that is made, with what it has to hold."""
    chart = root / "helm" / "authproxy"
    values = with_settings((chart / "values.yaml").read_text(), model)
    found = entries(values)
    mounted = mounts(model, {each.path: each.default for one in found for each in one.children})
    secrets = route_secrets(model)
    route_keys = {camel_case(variable): variable.lower() for variable in RouteKeys.declared}
    known = {
        "values": [entry.path for entry in found],
        "routeKeys": route_keys,
        # Those of a route besides settings.
        "routeValues": [*route_keys, *secrets],
        "mounts": mounted,
        "exclusive": sorted(map(sorted, model.exclusive)),
        "settings": [each.for_templates() for each in chart_values(model)],
    }
    readme = (chart / "README.md.in").read_text().replace("{{ values }}\n", tables(found))
    return {
        chart / "values.yaml": values,
        chart / "values.schema.json": _json(schema(found, model, secrets)),
        chart / "files" / "values.json": _json(known),
        chart / "files" / "alerts.yaml": (root / "docs/telemetry/alerts.yaml").read_text(),
        chart / "README.md": readme,
    }


def _json(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
