"""Validates values by themselves, and says in words what is wrong with one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from authproxy.errors import Fault
from authproxy.redaction import MASK
from authproxy.settings.declarations import declarations
from authproxy.settings.model import Settings
from authproxy.settings.values import Unusable

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


def validated(given: Mapping[str, Any]) -> tuple[Settings, list[Fault]]:
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
