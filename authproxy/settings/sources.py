"""Where values come from: options, environment, YAML file, and other names' variables.

Nothing is judged here. (pydantic-settings will not do: it stops at the first
fault, quotes what it read, cannot say where a value came from, and takes a
quarter of the time of a start.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from authproxy.settings.declarations import declarations

_SECRETS = frozenset(one.variable for one in declarations() if one.secret)
_ALSO = {one.variable: one.also for one in declarations() if one.also}


class Source:
    """Values by variable, and what to call the place that they come from."""

    def __init__(self, given: Mapping[str, Any], origin: str) -> None:
        self._given = given
        self._origin = origin

    def value(self, variable: str) -> Any:
        """Return what this source gives, None where that is nothing or empty."""
        return unless_empty(variable, self._given.get(variable))

    def origin(self, variable: str) -> str:
        """Say where this source's value for `variable` comes from."""
        return self._origin


class OtherNames(Source):
    """Variables of the Azure SDK and the sidecar, for settings that nothing else gives."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._names = {
            own: next((other for other in others if environ.get(other, "").strip()), others[0])
            for own, others in _ALSO.items()
        }
        super().__init__({own: environ.get(other) for own, other in self._names.items()}, "")

    def origin(self, variable: str) -> str:
        """Say where this source's value for `variable` comes from."""
        return f"environment ({self._names[variable]})"


def sources(
    options: Mapping[str, str], environ: Mapping[str, str], in_file: Mapping[str, Any]
) -> list[Source]:
    """Return the sources, first come first served."""
    return [
        Source(options, "option"),
        Source(environ, "environment"),
        Source(in_file, "file"),
        OtherNames(environ),
    ]


def unless_empty(variable: str, value: Any) -> Any:
    """Return a value without the blanks around it, None where nothing is left.

    Charts render what is not set as an empty text. A secret keeps its blanks.
    """
    if isinstance(value, str):
        value = value if variable in _SECRETS else value.strip()
    return None if value == "" else value
