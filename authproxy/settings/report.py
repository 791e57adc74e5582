"""How the settings in force are shown: as text, for people, and as JSON, for scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from authproxy.settings.reading import Loaded

#: A longer value extends into the column of origins.
_WIDEST_VALUE = 48


def as_json(loaded: Loaded) -> dict[str, Any]:
    """Return each setting's value and origin; the routes, if there are several, and warnings."""
    shown: dict[str, Any] = {
        variable: {"value": value, "origin": loaded.origins[variable]}
        for variable, value in loaded.settings.effective().items()
    }
    if loaded.settings.has_routes:
        shown["routes"] = [route.shown() for route in loaded.settings.routes]
    if warnings := list(_warnings(loaded)):
        shown["warnings"] = warnings
    return shown


def lines(loaded: Loaded) -> Iterator[str]:
    """Yield a line for each setting, then for what differs in each route, and warnings."""
    effective = loaded.settings.effective()
    name_width = max(map(len, effective))
    value_width = min(_WIDEST_VALUE, max(map(len, effective.values())))
    for variable, value in effective.items():
        origin = loaded.origins[variable]
        yield f"{variable:<{name_width}}  {value or '-':<{value_width}}  {origin}"
    for route in loaded.settings.routes if loaded.settings.has_routes else ():
        yield ""
        yield f"Route {route.name}"
        for name, value in route.shown().items():
            if value != effective.get(name):
                yield f"{name:<{name_width}}  {value or '-'}"
    for warning in _warnings(loaded):
        yield ""
        yield f"Warning: {warning}"


def _warnings(loaded: Loaded) -> Iterator[str]:
    for name, near in loaded.misspelt.items():
        yield f"{name}: no setting has that name. Did you mean {near}?"
    for route in loaded.settings.routes:
        if unfit := route.settings.unfit_audience:
            yield f"route {route.name}: {unfit}" if route.name else unfit
