"""Reads the settings: asks the sources, and reports every fault at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from authproxy.errors import Fault, SettingsError
from authproxy.redaction import MASK
from authproxy.settings_declarations import declarations
from authproxy.settings_draft import Draft
from authproxy.settings_model import Settings
from authproxy.settings_rules import broken_rules
from authproxy.settings_sources import CONFIG, sources, unknown
from authproxy.settings_values import Unusable

__all__ = ["Loaded", "Settings", "load_settings"]

_BY_VARIABLE = {one.variable: one for one in declarations()}

_PROBLEMS = {
    "int_parsing": "it is not a whole number",
    "int_parsing_size": "it is not a whole number",
    "int_from_float": "it is not a whole number",
    "float_parsing": "it is not a number",
    "finite_number": "it is not a finite number",
    "bool_parsing": "it is neither true nor false",
    "literal_error": "it is none of the known values",
    "greater_than": "it is out of range",
    "greater_than_equal": "it is out of range",
    "less_than_equal": "it is out of range",
}
_NO_TEXT = "it is a list or a mapping, not one value"


@dataclass(frozen=True)
class Loaded:
    """Settings, and for each variable where its value came from.

    An origin is `option`, `environment`, `environment (OTHER_NAME)`, `file`,
    `default` or, where another setting decides, `default (from OTHER)`.
    """

    settings: Settings
    origins: dict[str, str]
    #: The YAML file, if there is one.
    file: str | None = None


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
    asked, file_faults = sources(options, environ)
    known = {*_BY_VARIABLE, CONFIG}
    faults = [*file_faults, *(unknown(name) for name in options if name not in known)]
    given: dict[str, Any] = {}
    origins = dict.fromkeys(_BY_VARIABLE, "default")
    for variable in _BY_VARIABLE:
        for source in asked:
            if (value := source.value(variable)) is not None:
                given[variable] = value
                origins[variable] = source.origin(variable)
                break
    settings, field_faults = _validated(given)
    faulty = frozenset(fault.setting for fault in field_faults)
    draft = Draft(
        settings=settings,
        given=frozenset(given),
        faulty=faulty,
        environ=environ,
        serving=serving,
        complete=not any(fault.setting == CONFIG for fault in file_faults),
    )
    between = [fault for fault in broken_rules(draft) if fault.setting not in faulty]
    faults += [_with_origin(fault, origins) for fault in (*field_faults, *between)]
    if faults:
        raise SettingsError(faults)
    if "AUDIENCE" not in given:
        target = "INGESTION_URL" if settings.forwards_only_remote_write else "TARGET_HOST"
        origins["AUDIENCE"] = f"default (from {target})"
    for variable in ("TARGET_POOL_SIZE", "MAX_QUEUED_REQUESTS"):
        if variable not in given:
            origins[variable] = "default (from THREADS)"
    return Loaded(settings, origins, options.get(CONFIG) or environ.get(CONFIG) or None)


def _validated(given: Mapping[str, Any]) -> tuple[Settings, list[Fault]]:
    """Return settings made of all that is valid by itself, and the faults of the rest."""
    try:
        return Settings(**given), []
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    # One value, one fault: a union or a mapping can report several.
    wrong = {str(detail["loc"][0]): detail for detail in reversed(details)}
    faults = [_fault(variable, given[variable], detail) for variable, detail in wrong.items()]
    valid = {variable: value for variable, value in given.items() if variable not in wrong}
    return Settings(**valid), sorted(faults, key=_declared_order)


def _declared_order(fault: Fault) -> int:
    return list(_BY_VARIABLE).index(fault.setting)


def _fault(variable: str, value: Any, detail: ErrorDetails) -> Fault:
    declaration = _BY_VARIABLE[variable]
    shown = _shown(value, secret=declaration.secret)
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, Unusable):
        return Fault(variable, shown, cause.problem, cause.mend)
    problem = _PROBLEMS.get(detail["type"], _NO_TEXT)
    if not isinstance(value, str):
        problem = _NO_TEXT
    return Fault(variable, shown, problem, f"Give {declaration.takes or 'one text'}.")


def _shown(value: Any, *, secret: bool) -> str | None:
    """Return a faulty value for a message: no secret, no user information of a URL."""
    if secret:
        return MASK
    if not isinstance(value, str):
        return None
    before, at, host = value.rpartition("@")
    if not at:
        return value
    scheme, separator, _ = before.partition("://")
    return f"{scheme}{separator}{MASK}@{host}" if separator else f"{MASK}@{host}"


def _with_origin(fault: Fault, origins: Mapping[str, str]) -> Fault:
    """Say so where a faulty value does not come from where its name suggests."""
    origin = origins.get(fault.setting, "")
    if fault.value is None or origin in ("", "default", "option", "environment"):
        return fault
    place = "the settings file" if origin == "file" else origin
    return Fault(fault.setting, fault.value, f"{fault.problem} (from {place})", fault.mend)
