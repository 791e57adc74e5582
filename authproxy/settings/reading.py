"""Reads the settings from all their sources, and reports every fault at once."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from authproxy.errors import Fault, SettingsError
from authproxy.settings.declaration import Derived
from authproxy.settings.file import CONFIG, GivenRoute, SettingsFile, read_file
from authproxy.settings.model import Route, Settings
from authproxy.settings.rules import Draft, faults_between, from_elsewhere
from authproxy.settings.spelling import misspelt, unknown


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
    #: Variables of the environment that are none, and those that they resemble.
    misspelt: Mapping[str, str] = field(default_factory=dict)


def load_settings(
    options: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    serving: bool,
    model: type[Settings] = Settings,
) -> Loaded:
    """Read the settings from options, environment and YAML file, in that order.

    `options` go by variable, as the environment does; empty values count as
    unset. `serving` demands something to listen on. Opens no socket.

    Raises SettingsError with all faults there are.
    """
    options = {} if options is None else options
    environ = os.environ if environ is None else environ
    path = options.get(CONFIG) or environ.get(CONFIG) or None
    file = read_file(path, model) if path else SettingsFile()
    known = [*model.declared, CONFIG]
    faults = file.faults + [unknown(name, known) for name in options if name not in known]
    given, origins = _given(model, options, environ, file.values)
    settings, field_faults = model.read(given)
    draft = Draft(
        settings=settings,
        given=frozenset(given),
        origins=origins,
        faulty=frozenset(fault.setting for fault in field_faults),
        environ=environ,
        serving=serving,
        complete=not any(fault.setting == CONFIG for fault in file.faults),
        routed=file.has_routes,
    )
    found = field_faults + faults_between(draft, of_routes=False)
    if not draft.routed:
        found += faults_between(draft, of_routes=True)
    found = _in_order(model, found)
    routes = []
    for each in file.routes:
        route, of_route = _route(model, each, given, draft)
        routes.append(route)
        found += of_route
    faults += [fault if fault.route else _with_origin(fault, origins) for fault in found]
    other_names = {other for one in model.declared.values() for other in one.also}
    wrong = misspelt(environ, known, other_names)
    if faults:
        faults += [_misspelt(name, near) for name, near in wrong.items()]
        raise SettingsError(list(dict.fromkeys(faults)))
    origins |= _derived_origins(settings, given)
    holds_secrets = _holds_secrets(file, model)
    return Loaded(settings.with_routes(routes), origins, path, holds_secrets, wrong)


def _given(
    model: type[Settings],
    options: Mapping[str, str],
    environ: Mapping[str, str],
    in_file: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what the first source that gives anything gives, and the origins, by variable."""
    sources = ((options, "option"), (environ, "environment"), (in_file, "file"))
    given: dict[str, Any] = {}
    origins = dict.fromkeys(model.declared, "default")
    for variable, one in model.declared.items():
        for source, origin in sources:
            if (value := one.stripped(source.get(variable))) is not None:
                given[variable], origins[variable] = value, origin
                break
    for variable, one in model.declared.items():
        alternatives = {variable}.union(*(each for each in model.exclusive if variable in each))
        if alternatives & given.keys():
            continue
        for other in one.also:
            if (value := one.stripped(environ.get(other))) is not None:
                given[variable], origins[variable] = value, f"environment ({other})"
                break
    return given, origins


def _misspelt(name: str, near: str) -> Fault:
    """Return the fault that such a variable is where there are others: it may be their cause."""
    problem = "the environment has it, and no setting has that name"
    return Fault(name, None, problem, f"Did you mean {near}?")


def _derived_origins(settings: Settings, given: Collection[str]) -> dict[str, str]:
    """Return the origins of the defaults that other settings decide."""
    return {
        variable: f"default (from {chosen.variable})"
        for variable, one in settings.declared.items()
        if variable not in given and isinstance(one.default, Derived) and one.shown(settings)
        if (chosen := one.default.of.chosen(settings))
    }


def _holds_secrets(file: SettingsFile, model: type[Settings]) -> bool:
    return any(
        one.kind.secret and values.get(variable) is not None
        for values in (file.values, *(each.values for each in file.routes))
        for variable, one in model.declared.items()
    )


def _route(
    model: type[Settings], each: GivenRoute, outside: Mapping[str, Any], draft: Draft
) -> tuple[Route, list[Fault]]:
    """Return a route with its settings, and their faults.

    What it does not give itself is what `outside` gives, by variable; `draft`
    is of that. A fault of a value from outside is reported as such.
    """
    displaced = {v for v, one in model.declared.items() if not one.inherited} | draft.faulty
    for group in model.exclusive:
        if any(each.values.get(variable) is not None for variable in group):
            displaced |= group
    inherited = {name: value for name, value in outside.items() if name not in displaced}
    merged = {**inherited, **each.values}
    given = {name: value for name, value in merged.items() if value is not None}
    settings, field_faults = model.read(given)
    own_draft = replace(
        draft,
        settings=settings,
        given=frozenset(given),
        origins={name: value for name, value in draft.origins.items() if name not in each.values},
        faulty=draft.faulty.union(fault.setting for fault in field_faults),
    )
    faults = [
        fault
        if fault.setting in given and fault.setting not in each.values
        else replace(fault, route=each.name)
        for fault in _in_order(model, field_faults + faults_between(own_draft, of_routes=True))
    ]
    return Route(each.name, each.match, settings), faults


def _in_order(model: type[Settings], faults: list[Fault]) -> list[Fault]:
    """Return faults in the order of the settings; those of other variables come last."""
    places = {variable: number for number, variable in enumerate(model.declared)}
    return sorted(faults, key=lambda fault: places.get(fault.setting, len(places)))


def _with_origin(fault: Fault, origins: Mapping[str, str]) -> Fault:
    """Add the origin of a faulty value where its name suggests another."""
    origin = "" if fault.value is None else from_elsewhere(fault.setting, origins)
    return replace(fault, problem=f"{fault.problem}{origin}")
