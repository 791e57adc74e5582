"""The settings as values of the Helm chart.

A setting's value is its variable in camelCase, as the retired proxy's chart
had it: `targetHost` for TARGET_HOST. Secrets have none, since values are kept
in clear by Helm: the chart takes them from Secrets. (OVERRIDE_REQUEST_HEADERS
has had one since the retired chart: it goes into a Secret of the chart's own.)
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from authproxy.settings import Settings
from authproxy.settings.declaration import Setting
from authproxy.settings.declared import Declared
from authproxy.settings.header_fields import HeaderFields
from authproxy.settings.kinds import (
    CommaList,
    Flag,
    Integer,
    Kind,
    Number,
    Presence,
    SecretText,
    Word,
)
from authproxy.settings.model import RouteKeys

_WIDTH = 98


def camel_case(variable: str) -> str:
    """Return the value's name for a variable: targetHost for TARGET_HOST."""
    first, *others = variable.lower().split("_")
    return first + "".join(word.capitalize() for word in others)


def hyphened(name: str) -> str:
    """Return a value's name as a folder's: client-secret for clientSecret."""
    return re.sub("[A-Z]", lambda letter: f"-{letter[0].lower()}", name)


@dataclass(frozen=True)
class Value:
    """One setting of a class as a value of the chart."""

    model: type[Declared]
    setting: Setting[Any]

    @property
    def name(self) -> str:
        """The value's name."""
        return camel_case(self.setting.variable)

    @property
    def is_value(self) -> bool:
        """Whether it can be given as a value at all."""
        return not isinstance(self.setting.kind, SecretText)

    @property
    def instead(self) -> str:
        """For a secret that is no value, what to do instead."""
        file = self.setting.file
        if file is None:
            return ""
        if not file.chart_key:
            place = camel_case(file.variable)
            return f"Put it into a Secret, mount that (extraVolumes), and name the file in {place}."
        value, _, key = file.chart_key.partition(".")
        if key == "key":
            return f"Put it into a Secret, and name that in {value}.existingSecret."
        secret = f"the Secret of {value}.existingSecret"
        return f"Put it into {secret}, and name its key in {file.chart_key}."

    @property
    def kind(self) -> str:
        """What is made of it in the chart."""
        for name, kind in _KINDS.items():
            if isinstance(self.setting.kind, kind):
                return name
        return "text"

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds of a number, as JSON Schema has them."""
        kind = self.setting.kind
        if isinstance(kind, Number) and kind.least is None:
            return {"exclusiveMinimum": 0, "maximum": kind.most}
        if isinstance(kind, Integer | Number):
            return {"minimum": kind.least or 0, "maximum": kind.most}
        return {}

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the value. Empty counts as unset, and texts go as well."""
        variable = "" if self.model is RouteKeys else f"{self.setting.variable}. "
        about = {"description": f"{variable}{self.setting.doc}"}
        if self.kind == "words":  # case does not matter: the words are for editors
            words = [*self.setting.kind.words, ""]
            return {**about, "anyOf": [{"enum": words}, {"type": ["string", "null"]}]}
        types = [_TYPES[self.kind]] if self.kind in _TYPES else []
        return {**about, "type": [*types, "string", "null"], **self.bounds}

    def for_templates(self) -> dict[str, Any]:
        """Return what the templates need to render and check the value."""
        one, bounds = self.setting, self.bounds
        told = {
            "value": self.name,
            "variable": one.variable,
            "kind": self.kind,
            "takes": one.kind.takes,
            "also": one.also,
            "words": one.kind.words if self.kind == "words" else (),
            "secret": one.kind.secret,
            "presence": isinstance(one.kind, Presence),
            "perRoute": one.per_route,
            "notInherited": not one.inherited,
            "hint": self.instead,
            "default": one.literal if bounds else "",
            "least": bounds.get("minimum"),
            "above": bounds.get("exclusiveMinimum"),
            "most": bounds.get("maximum"),
        }
        # A bound of 0 is one; what is false or empty goes without saying.
        return {key: each for key, each in told.items() if each or type(each) is int}

    def yaml(self) -> str:
        """Return the lines of values.yaml: what it means, and its default."""
        one, note = self.setting, self.model.default_note(self.setting)
        parts = [f"{one.variable}.", one.doc]
        if self.bounds:
            parts.append(f"{_capital(one.kind.takes)}.")
        if note and not one.chart_default:
            parts.append(f"{_capital(note)}.")
        lines = textwrap.wrap(" ".join(parts), _WIDTH, break_long_words=False)
        comment = "".join(f"# {line}\n" for line in lines)
        empty = '""' if self.kind in ("text", "words") else "null"
        return f"{comment}{self.name}: {one.chart_default or empty}\n"


_KINDS: dict[str, type[Kind[Any]]] = {
    "words": Word,
    "flag": Flag,
    "integer": Integer,
    "number": Number,
    "list": CommaList,
    "fields": HeaderFields,
}
_TYPES = {
    "flag": "boolean",
    "integer": "integer",
    "number": "number",
    "list": "array",
    "fields": "object",
}


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def chart_values(model: type[Declared] = Settings) -> list[Value]:
    """Return every setting as a value, in the order of the documents; secrets too."""
    return [Value(model, one) for one in model.declared.values()]


def route_properties(model: type[Settings]) -> dict[str, Any]:
    """Return the JSON Schemas of what a route may say, but for its Secrets."""
    own = chart_values(RouteKeys)
    given = [each for each in chart_values(model) if each.setting.per_route and each.is_value]
    return {each.name: each.schema() for each in (*own, *given)}


def mounts(model: type[Settings], defaults: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the values that name Secrets with files, and which settings name those files.

    `defaults` are those of values.yaml, by path.
    """
    found: dict[str, dict[str, Any]] = {}
    for one in model.declared.values():
        if one.chart_key and not isinstance(one.kind, SecretText):
            value, _, key = one.chart_key.partition(".")
            mount = found.setdefault(
                value, {"value": value, "folder": hyphened(value), "files": []}
            )
            default = defaults[one.chart_key]
            mount["files"].append({"key": key, "default": default, "variable": one.variable})
    return list(found.values())


def route_secrets(model: type[Settings]) -> list[str]:
    """Return the values that name Secrets with files, of those that a route may have."""
    settings = model.declared.values()
    named = (one.chart_key.partition(".")[0] for one in settings if one.per_route)
    return [value for value in dict.fromkeys(named) if value]


def values_yaml(model: type[Settings]) -> str:
    """Return the part of values.yaml that has the settings."""
    given = [each for each in chart_values(model) if each.is_value]
    parts = []
    for group, members in groupby(given, key=lambda each: each.setting.group):
        parts += [f"## {group.title}\n\n", *(f"{each.yaml()}\n" for each in members)]
    return "".join(parts)
