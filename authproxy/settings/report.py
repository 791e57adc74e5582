"""How the settings in force are shown: as text, for people, and as JSON, for scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from authproxy.settings.reading import Loaded

#: A longer value extends into the column of origins.
_WIDEST_VALUE = 48


def as_json(loaded: Loaded) -> dict[str, Any]:
    """Return each setting's value and origin; and the routes, if there are several."""
    shown: dict[str, Any] = {
        variable: {"value": value, "origin": loaded.origins[variable]}
        for variable, value in loaded.settings.effective().items()
    }
    if loaded.settings.has_routes:
        shown["routes"] = [route.shown() for route in loaded.settings.routes]
    return shown


def lines(loaded: Loaded) -> Iterator[str]:
    """Yield a line for each setting, then for what differs in each route."""
    effective = loaded.settings.effective()
    name_width = max(map(len, effective))
    value_width = min(_WIDEST_VALUE, max(map(len, effective.values())))
    for variable, value in effective.items():
        origin = loaded.origins[variable]
        yield f"{variable:<{name_width}}  {value or '-':<{value_width}}  {origin}"
    if not loaded.settings.has_routes:
        return
    for route in loaded.settings.routes:
        yield ""
        yield f"Route {route.name}"
        for name, value in route.shown().items():
            if value != effective.get(name):
                yield f"{name:<{name_width}}  {value or '-'}"
