"""The Helm chart's values for the settings, made from their declaration.

A setting's value is its variable in camelCase, as the retired proxy's chart
had it: `targetHost` for TARGET_HOST. Secrets have none, since values are kept
in clear by Helm: the chart takes them from Secrets.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from authproxy.settings import values
from authproxy.settings.declarations import Declaration, declarations

#: What the chart gives where the program has no default.
_CHART_DEFAULTS = {"LISTENING_PORT": "8081"}

#: Secrets that are no values, and what to do instead. OVERRIDE_REQUEST_HEADERS
#: has been one since the retired chart: it goes into a Secret of the chart's own.
_NO_VALUES = {
    "AAD_CLIENT_SECRET": "Put it into a Secret, and name that in clientSecret.existingSecret.",
    "AAD_CLIENT_CERTIFICATE_PASSWORD": "Put it into the Secret of the certificate, and name its "
    "key in clientCertificate.passwordKey.",
}

_KINDS = {
    "boolean": "flag",
    "integer": "integer",
    "number": "number",
    "array": "list",
    "object": "fields",
}
_TYPES = {
    "flag": ["boolean", "string", "null"],
    "integer": ["integer", "string", "null"],
    "number": ["number", "string", "null"],
    "list": ["array", "string", "null"],
    "fields": ["object", "string", "null"],
    "text": ["string", "null"],
}
#: What a route says of itself, as JSON Schema.
OF_ROUTES = {
    "name": {"description": "What to call it.", "type": ["string", "null"]},
    "host": {"description": "The host that requests are for.", "type": ["string", "null"]},
    "path": {"description": "The path that requests are below.", "type": ["string", "null"]},
    "stripPath": {
        "description": "Whether to take that path off.",
        "type": ["boolean", "string", "null"],
    },
}

_BOUNDS = {"minimum": "least", "exclusiveMinimum": "above", "maximum": "most"}
_WIDTH = 98


@dataclass(frozen=True)
class Value:
    """One setting as a value of the chart."""

    variable: str
    group: str
    doc: str
    default: str
    takes: str
    shape: dict[str, Any]
    secret: bool = False
    presence: bool = False
    also: tuple[str, ...] = ()
    per_route: bool = False

    @property
    def name(self) -> str:
        """The value's name."""
        return camel_case(self.variable)

    @property
    def kind(self) -> str:
        """What is made of it in the chart: text, words, flag, integer, number, list, fields."""
        return "words" if "enum" in self.shape else _KINDS.get(self.shape.get("type", ""), "text")

    @property
    def is_value(self) -> bool:
        """Whether it can be given as a value at all."""
        return self.variable not in _NO_VALUES

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the value. Empty counts as unset, and texts go as well."""
        about = {"description": f"{self.variable}. {self.doc}"}
        if self.kind == "words":  # case does not matter: the words are for editors
            words = [*self.shape["enum"], ""]
            return {**about, "anyOf": [{"enum": words}, {"type": ["string", "null"]}]}
        bounds = {key: self.shape[key] for key in _BOUNDS if key in self.shape}
        return {**about, "type": _TYPES[self.kind], **bounds}

    def for_templates(self) -> dict[str, Any]:
        """Return what the templates need to render and check the value."""
        told = {
            "value": self.name,
            "variable": self.variable,
            "kind": self.kind,
            "takes": self.takes,
            "also": self.also,
            "words": self.shape.get("enum"),
            "secret": self.secret,
            "presence": self.presence,
            "perRoute": self.per_route,
            "mend": _NO_VALUES.get(self.variable),
            "default": self.default if self.kind in ("integer", "number") else None,
        }
        bounds = {ours: self.shape.get(theirs) for theirs, ours in _BOUNDS.items()}
        every = {**told, **bounds}
        # A bound of 0 is one; False and empty texts go without saying.
        return {key: given for key, given in every.items() if given or type(given) is int}

    def yaml(self) -> str:
        """Return the lines of values.yaml: what it means, and its default."""
        parts = [f"{self.variable}.", self.doc]
        if self.takes.startswith("a "):
            parts.append(f"A{self.takes[1:]}.")
        ours = _CHART_DEFAULTS.get(self.variable)
        if self.default.startswith("required") and ours is None:
            parts.append(f"R{self.default[1:]}.")
        elif self.default and ours is None:
            parts.append(f"Default: {self.default}.")
        lines = textwrap.wrap(" ".join(parts), _WIDTH, break_long_words=False)
        comment = "".join(f"# {line}\n" for line in lines)
        empty = '""' if self.kind in ("text", "words") else "null"
        return f"{comment}{self.name}: {ours or empty}\n"


def camel_case(variable: str) -> str:
    """Return the value's name for a variable: targetHost for TARGET_HOST."""
    first, *others = variable.lower().split("_")
    return first + "".join(word.capitalize() for word in others)


def chart_values() -> list[Value]:
    """Return every setting as a value, in the order of the declaration; secrets too."""
    return [_value(one) for one in declarations()]


def route_properties() -> dict[str, Any]:
    """Return the JSON Schemas of what a route may say, but for its Secrets."""
    given = [one for one in chart_values() if one.per_route and one.is_value]
    return {**OF_ROUTES, **{one.name: one.schema() for one in given}}


def values_yaml() -> str:
    """Return the part of values.yaml that has the settings."""
    given = [one for one in chart_values() if one.is_value]
    parts = []
    for group, members in groupby(given, key=lambda one: one.group):
        parts += [f"## {group}\n\n", *(f"{one.yaml()}\n" for one in members)]
    return "".join(parts)


def _value(one: Declaration) -> Value:
    return Value(
        variable=one.variable,
        group=one.group,
        doc=one.doc,
        default="" if one.shown == "{}" else one.default,
        takes=one.takes,
        shape=one.shape,
        secret=one.secret,
        presence=any(
            getattr(part, "func", None) is values.any_text_is_true for part in one.field.metadata
        ),
        also=one.also,
        per_route=one.per_route,
    )
