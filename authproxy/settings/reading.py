"""Reads the settings: asks the sources, and reports every fault at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from authproxy.errors import Fault, SettingsError
from authproxy.settings.declarations import declarations
from authproxy.settings.draft import Draft
from authproxy.settings.file import CONFIG, SettingsFile, read_file, unknown
from authproxy.settings.model import Route, Settings
from authproxy.settings.routes import routes_of
from authproxy.settings.rules import broken_rules, broken_rules_of_routes
from authproxy.settings.sources import sources
from authproxy.settings.validation import validated

__all__ = ["Loaded", "Route", "Settings", "load_settings"]

_VARIABLES = tuple(one.variable for one in declarations())


@dataclass(frozen=True)
class Loaded:
    """Settings, and for each variable where its value came from.

    An origin is `option`, `environment`, `environment (OTHER_NAME)`, `file`,
    `default` or, where another setting decides, `default (from OTHER)`.
    """

    settings: Settings
    origins: dict[str, str]
    #: The YAML file, if there is one, and whether it holds the value of any secret.
    file: str | None = None
    file_holds_secrets: bool = False


def load_settings(
    options: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    serving: bool,
) -> Loaded:
    """Read the settings from options, environment and YAML file, in that order.

    `options` go by variable, as the environment does; empty values count as
    unset. `serving` demands something to listen on. Opens no socket.

    Raises SettingsError with all faults there are.
    """
    options = {} if options is None else options
    environ = os.environ if environ is None else environ
    path = options.get(CONFIG) or environ.get(CONFIG) or None
    file = read_file(path) if path else SettingsFile()
    known = {*_VARIABLES, CONFIG}
    faults = [*file.faults, *(unknown(name) for name in options if name not in known)]
    given: dict[str, Any] = {}
    origins = dict.fromkeys(_VARIABLES, "default")
    for variable in _VARIABLES:
        for source in sources(options, environ, file.values):
            if (value := source.value(variable)) is not None:
                given[variable] = value
                origins[variable] = source.origin(variable)
                break
    settings, field_faults = validated(given)
    draft = Draft(
        settings=settings,
        given=frozenset(given),
        faulty=frozenset(fault.setting for fault in field_faults),
        environ=environ,
        serving=serving,
        complete=not any(fault.setting == CONFIG for fault in file.faults),
        routed=file.has_routes,
    )
    between = broken_rules(draft)
    if not draft.routed:
        between += broken_rules_of_routes(draft)
    faults += [
        _with_origin(fault, origins)
        for fault in (*field_faults, *(one for one in between if one.setting not in draft.faulty))
    ]
    routes, route_faults = routes_of(file.routes, given, draft)
    faults += [fault if fault.route else _with_origin(fault, origins) for fault in route_faults]
    if faults:
        raise SettingsError(list(dict.fromkeys(faults)))
    settings = settings.with_routes(routes)
    if not routes:
        target = "INGESTION_URL" if settings.forwards_only_remote_write else "TARGET_HOST"
        if "AUDIENCE" not in given:
            origins["AUDIENCE"] = f"default (from {target})"
        if "AAD_AUTHORITY_HOST" not in given and settings.authority_host:
            origins["AAD_AUTHORITY_HOST"] = f"default (from {target})"
    for variable in ("TARGET_POOL_SIZE", "MAX_QUEUED_REQUESTS"):
        if variable not in given:
            origins[variable] = "default (from THREADS)"
    if "MAX_BUFFERED_BYTES" not in given:
        origins["MAX_BUFFERED_BYTES"] = "default (from MAX_REQUEST_BODY_BYTES)"
    return Loaded(settings, origins, path, _holds_secrets(file))


def _holds_secrets(file: SettingsFile) -> bool:
    secrets = {one.variable for one in declarations() if one.secret}
    return any(
        secrets.intersection(each) for each in (file.values, *(r.values for r in file.routes))
    )


def _with_origin(fault: Fault, origins: Mapping[str, str]) -> Fault:
    """Say so where a faulty value does not come from where its name suggests."""
    origin = origins.get(fault.setting, "")
    if fault.value is None or origin in ("", "default", "option", "environment"):
        return fault
    place = "the settings file" if origin == "file" else origin
    return replace(fault, problem=f"{fault.problem} (from {place})")
