"""The declared settings as a list, for whoever shows, reads or documents all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic.fields import FieldInfo

from authproxy.settings import values
from authproxy.settings.model import PER_ROUTE, Settings
from authproxy.settings.target import about


@dataclass(frozen=True)
class Declaration:
    """One setting as declared, for whoever lists them."""

    name: str
    group: str
    secret: bool
    also: tuple[str, ...]
    shown: str
    field: FieldInfo

    @property
    def variable(self) -> str:
        return self.name.upper()

    @property
    def per_route(self) -> bool:
        """Whether each route may have its own."""
        return self.group in PER_ROUTE

    @property
    def doc(self) -> str:
        return self.field.description or ""

    @property
    def default(self) -> str:
        """The default, in words where a value does not say it."""
        return self.shown or values.shown(self.field.default)

    @property
    def shape(self) -> dict[str, Any]:
        """Type and range of a value that is given, as JSON Schema has them."""
        schema = _schemas()[self.variable]
        given: dict[str, Any] = schema.get("anyOf", [schema])[0]
        return given

    @property
    def takes(self) -> str:
        """What the setting takes, from its type and range; empty where any text will do."""
        shape = self.shape
        if "enum" in shape:
            return f"one of: {', '.join(shape['enum'])}"
        match shape:
            case {"type": "boolean"}:
                return "true or false"
            case {"type": "integer", "minimum": least, "maximum": most}:
                return f"a whole number from {least} to {most}"
            case {"type": "number", "minimum": least, "maximum": most}:
                return f"a number of seconds from {least:g} to {most:g}"
            case {"type": "number", "exclusiveMinimum": least, "maximum": most}:
                return f"a number of seconds above {least:g}, up to {most:g}"
        return ""


@cache
def _schemas() -> dict[str, Any]:
    properties: dict[str, Any] = Settings.model_json_schema()["properties"]
    return properties


def declarations() -> Iterator[Declaration]:
    """Yield every setting, in the order of the declaration."""
    for name, field in Settings.model_fields.items():
        told = about(field)
        yield Declaration(name=name, field=field, **{**told, "also": tuple(told["also"])})
