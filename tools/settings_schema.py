"""docs/settings.schema.json: a JSON Schema of the settings file, for editors."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from authproxy.settings import Settings
from authproxy.settings.model import RouteKeys
from tools.chart_values import Value

#: What a text may look like in YAML, where it is taken as it is written.
_SCALARS = ["string", "number", "boolean", "null"]


def made(root: Path, model: type[Settings]) -> dict[Path, str]:
    """Return the schema, by its path."""
    every = [Value(model, one) for one in model.declared.values()]
    keys = [Value(RouteKeys, one) for one in RouteKeys.declared.values()]
    route = _mapping((*keys, *(each for each in every if each.setting.per_route)))
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Settings file of authproxy (AUTHPROXY_CONFIG). Made by `make docs`.",
        **_mapping(every),
    }
    schema["properties"]["routes"] = {
        "description": "Several targets behind one proxy, each with settings of its own.",
        "type": "array",
        "minItems": 1,
        "items": route,
    }
    path = root / "docs" / "settings.schema.json"
    return {path: json.dumps(schema, indent=2, ensure_ascii=False) + "\n"}


def _mapping(values: Iterable[Value]) -> dict[str, Any]:
    """Return the schema of a mapping with these keys, in small letters as editors offer them."""
    return {
        "type": ["object", "null"],
        "properties": {each.setting.variable.lower(): _property(each) for each in values},
        # The program takes capitals as well, and looks at them itself.
        "patternProperties": {"^[A-Z_-]+$": {}},
        "additionalProperties": False,
    }


def _property(value: Value) -> dict[str, Any]:
    schema = value.schema()
    return {**schema, "type": _SCALARS} if value.kind == "text" else schema
