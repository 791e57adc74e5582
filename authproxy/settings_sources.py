"""Where values come from: options, environment, YAML file, and other names' variables.

Nothing is judged here but the YAML file itself. (pydantic-settings will not
do: it stops at the first fault, quotes what it read, cannot say where a value
came from, and takes a quarter of the time of a start.)
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from authproxy.errors import Fault
from authproxy.settings_declarations import declarations
from authproxy.settings_values import Pairs

#: The variable that names the YAML file.
CONFIG = "AUTHPROXY_CONFIG"

#: Far above any settings file, far below what hurts when the path is a mistake.
_MAX_FILE_BYTES = 1024 * 1024

_SECRETS = frozenset(one.variable for one in declarations() if one.secret)
_ALSO = {one.variable: one.also for one in declarations() if one.also}


class Source:
    """Values by variable, and what to call the place that they come from."""

    def __init__(self, given: Mapping[str, Any], origin: str) -> None:
        self._given = given
        self._origin = origin

    def value(self, variable: str) -> Any:
        """Return what this source gives, None where that is nothing or empty."""
        return _unless_empty(variable, self._given.get(variable))

    def origin(self, variable: str) -> str:
        """Say where this source's value for `variable` comes from."""
        return self._origin


class OtherNames(Source):
    """Variables of the Azure SDK and the sidecar, for settings that nothing else gives."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__({own: environ.get(other) for own, other in _ALSO.items()}, "")

    def origin(self, variable: str) -> str:
        """Say where this source's value for `variable` comes from."""
        return f"environment ({_ALSO[variable]})"


def sources(
    options: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[list[Source], list[Fault]]:
    """Return the sources, first come first served, and the faults of the YAML file."""
    path = options.get(CONFIG) or environ.get(CONFIG)
    in_file, faults = read_file(path) if path else ({}, [])
    return [
        Source(options, "option"),
        Source(environ, "environment"),
        Source(in_file, "file"),
        OtherNames(environ),
    ], faults


def read_file(path: str) -> tuple[dict[str, Any], list[Fault]]:
    """Return the values in a YAML file, by variable, and all its faults.

    Scalars are taken as they are written, as in an environment: a secret of
    `0123` is not the number 83. No fault quotes a value.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
        if len(data) > _MAX_FILE_BYTES:
            return {}, [_file_fault(path, "it is larger than 1 MiB")]
        root = yaml.compose(data, Loader=yaml.SafeLoader)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its path or encoding is invalid"
        return {}, [_file_fault(path, f"the settings file cannot be read ({reason})")]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        return {}, [_file_fault(path, f"it is not YAML{where}")]
    except (yaml.YAMLError, RecursionError):
        return {}, [_file_fault(path, "it is not YAML text")]
    if root is None:
        return {}, []
    if not isinstance(root, yaml.MappingNode):
        return {}, [_file_fault(path, "it is YAML, but not a mapping")]
    return _settings_in(root)


def unknown(name: str, place: str = "") -> Fault:
    """Return the fault of a name that is no setting, with the nearest one that is."""
    known = [one.name for one in declarations()]
    name = name if name.isprintable() else ascii(name)
    near = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"Did you mean {near[0]}?" if near else "Remove it."
    return Fault(name, None, f"there is no such setting{place}", hint)


def _settings_in(root: yaml.MappingNode) -> tuple[dict[str, Any], list[Fault]]:
    known = {one.variable for one in declarations()}
    found: dict[str, Any] = {}
    seen: set[str] = set()
    faults: list[Fault] = []
    for key, node in root.value:
        line = f" (line {key.start_mark.line + 1} of the settings file)"
        name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
        variable = name.upper().replace("-", "_")
        if variable not in known:
            faults.append(unknown(name, line))
        elif variable in seen:
            faults.append(Fault(variable, None, f"it is there twice{line}", "Keep one of them."))
        else:
            found[variable] = _plain(node)
        seen.add(variable)
    return found, faults


def _plain(node: yaml.Node, depth: int = 0) -> Any:
    """Return a node as text, as pairs or a list of text; [] for what no setting takes."""
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag == "tag:yaml.org,2002:null" else node.value
    if isinstance(node, yaml.MappingNode) and depth == 0:
        return Pairs((str(key.value), _plain(value, depth + 1)) for key, value in node.value)
    if isinstance(node, yaml.SequenceNode) and depth == 0:
        return [_plain(value, depth + 1) for value in node.value]
    return []


def _unless_empty(variable: str, value: Any) -> Any:
    """Return a value without the blanks around it, None where nothing is left.

    Charts render what is not set as an empty text. A secret keeps its blanks.
    """
    if isinstance(value, str):
        value = value if variable in _SECRETS else value.strip()
    return None if value == "" else value


def _file_fault(path: str, problem: str) -> Fault:
    mend = f"{CONFIG} is to name a readable YAML file of settings, such as `target_host: ...`."
    return Fault(CONFIG, path, problem, mend)
