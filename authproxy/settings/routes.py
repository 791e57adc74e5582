"""From the routes of the YAML file to the settings that are in force for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from authproxy.errors import Fault
from authproxy.settings.declarations import declarations
from authproxy.settings.draft import Draft
from authproxy.settings.file import GivenRoute
from authproxy.settings.model import Route
from authproxy.settings.rules import broken_rules_of_routes
from authproxy.settings.sources import unless_empty
from authproxy.settings.validation import validated

#: Of each of these there can be one: a route that gives one inherits no other.
_ALTERNATIVES = (
    {"AAD_CLIENT_SECRET", "AAD_CLIENT_SECRET_FILE", "AAD_CLIENT_CERTIFICATE_PATH"},
    {"AAD_CLIENT_CERTIFICATE_PASSWORD", "AAD_CLIENT_CERTIFICATE_PASSWORD_FILE"},
    {"INBOUND_JWKS_URL", "INBOUND_JWKS_FILE"},
)

#: Never inherited: with routes, these are faults outside of them.
_OF_ROUTES = {"TARGET_HOST", "INGESTION_URL"}


def routes_of(
    given_routes: Iterable[GivenRoute], outside: Mapping[str, Any], draft: Draft
) -> tuple[list[Route], list[Fault]]:
    """Return the routes with their settings, and the faults that they have.

    What a route does not give is what `outside` gives, by variable; `draft` is
    of that. A fault of a value from outside is reported as such.
    """
    routes: list[Route] = []
    faults: list[Fault] = []
    for route in given_routes:
        own = {name: unless_empty(name, value) for name, value in route.values.items()}
        merged = {**_inherited(outside, own, draft.faulty), **own}
        given = {name: value for name, value in merged.items() if value is not None}
        settings, field_faults = validated(given)
        faulty = draft.faulty.union(fault.setting for fault in field_faults)
        of_route = replace(draft, settings=settings, given=frozenset(given), faulty=faulty)
        between = broken_rules_of_routes(of_route)
        faults += [
            fault if _from_outside(fault, given, own) else fault.of_route(route.name)
            for fault in (*field_faults, *(one for one in between if one.setting not in faulty))
        ]
        routes.append(Route(route.name, route.match, settings))
    return routes, faults


def shown_route(route: Route) -> dict[str, str]:
    """Return which requests take a route, and what is in force there, secrets masked."""
    effective = route.settings.effective()
    per_route = {one.variable: effective[one.variable] for one in declarations() if one.per_route}
    match = route.match
    return {
        "Name": route.name,
        "Host": match.host or "",
        "Path": match.path,
        "StripPath": str(match.strip_path).lower(),
        **per_route,
    }


def _inherited(
    outside: Mapping[str, Any], own: Mapping[str, Any], faulty: frozenset[str]
) -> dict[str, Any]:
    """Return what a route takes from the settings outside."""
    displaced = {*_OF_ROUTES, *faulty}
    for alternatives in _ALTERNATIVES:
        if any(own.get(name) is not None for name in alternatives):
            displaced |= alternatives
    return {name: value for name, value in outside.items() if name not in displaced}


def _from_outside(fault: Fault, given: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Tell whether a fault is of a value that the route only inherits, or of no setting at all."""
    return fault.setting in given and fault.setting not in own
