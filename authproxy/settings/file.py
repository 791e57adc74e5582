"""Reads the YAML file of settings, and the routes in it."""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from authproxy.errors import Fault
from authproxy.files.regular_file import UnreadableFile, read_regular_file
from authproxy.routes import Match
from authproxy.settings.bounded_yaml import NotYAML, compose
from authproxy.settings.declarations import declarations
from authproxy.settings.values import Pairs

#: The variable that names the YAML file.
CONFIG = "AUTHPROXY_CONFIG"

#: The file's one key that is no setting.
ROUTES = "ROUTES"

_KNOWN = [one.variable for one in declarations()]
_OF_EACH_ROUTE = [one.variable for one in declarations() if one.per_route]

#: What a route says of itself, besides settings of its own.
_OF_ROUTES = ("NAME", "HOST", "PATH", "STRIP_PATH")


@dataclass(frozen=True)
class GivenRoute:
    """One of the file's routes: which requests take it, and its own values, by variable.

    An empty value is in `values` too: it takes away what the route would
    inherit from the settings outside.
    """

    name: str
    match: Match
    values: dict[str, Any]


@dataclass
class SettingsFile:
    """What a YAML file gives, and its faults."""

    values: dict[str, Any] = field(default_factory=dict)
    #: Whether it has the key `routes`, and those of them that can be told.
    has_routes: bool = False
    routes: list[GivenRoute] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def read_file(path: str) -> SettingsFile:
    """Return what is in a YAML file, and all its faults.

    Scalars are taken as they are written, as in an environment: a secret of
    `0123` is not the number 83. No fault quotes a value.
    """
    try:
        root = compose(read_regular_file(path))
    except UnreadableFile as error:
        return _unusable(path, f"the settings file {error.problem}")
    except NotYAML as error:
        return _unusable(path, str(error))
    if root is None:
        return SettingsFile()
    if not isinstance(root, yaml.MappingNode):
        return _unusable(path, "it is YAML, but not a mapping")
    return _contents(root)


def unknown(name: str, place: str = "", known: Iterable[str] = ()) -> Fault:
    """Return the fault of a name that is no setting, with the nearest one that is."""
    names = [one.lower() for one in known] or [one.name for one in declarations()]
    name = name if name.isprintable() else ascii(name)
    near = difflib.get_close_matches(name.lower(), names, n=1)
    hint = f"Did you mean {near[0]}?" if near else "Remove it."
    return Fault(name, None, f"there is no such setting{place}", hint)


def _contents(root: yaml.MappingNode) -> SettingsFile:
    found = SettingsFile()
    for variable, name, node, place in _entries(root, found.faults):
        if variable == ROUTES:
            _read_routes(node, found)
        elif variable not in _KNOWN:
            found.faults.append(unknown(name, place, [*_KNOWN, ROUTES]))
        else:
            found.values[variable] = _plain(node)
    return found


def _entries(
    root: yaml.MappingNode, faults: list[Fault]
) -> Iterator[tuple[str, str, yaml.Node, str]]:
    """Yield variables, their names as written, values, and where they are.

    What is there twice is a fault.
    """
    seen: set[str] = set()
    for key, node in root.value:
        place = f" (line {key.start_mark.line + 1} of the settings file)"
        name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
        variable = name.upper().replace("-", "_")
        if variable in seen:
            faults.append(Fault(variable, None, f"it is there twice{place}", "Keep one of them."))
        else:
            seen.add(variable)
            yield variable, name, node, place


def _read_routes(node: yaml.Node, found: SettingsFile) -> None:
    found.has_routes = True
    mend = "Give a list of routes, each a mapping such as `path: /query` and `target_host: ...`."
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        found.faults.append(Fault("routes", None, "it is no list of routes", mend))
        return
    taken: dict[tuple[str | None, str], GivenRoute] = {}
    names: set[str] = set()
    for item in node.value:
        if not isinstance(item, yaml.MappingNode):
            place = f" (line {item.start_mark.line + 1} of the settings file)"
            found.faults.append(Fault("routes", None, f"one of them is no mapping{place}", mend))
        elif (route := _route(item, found.faults)) is not None:
            found.faults.extend(_clashes(route, taken, names))
            taken.setdefault((route.match.host, route.match.path.lower()), route)
            names.add(route.name)
            found.routes.append(route)


def _route(item: yaml.MappingNode, faults: list[Fault]) -> GivenRoute | None:
    """Return a route, None where it cannot even be told which requests take it."""
    itself: dict[str, Any] = {}
    values: dict[str, Any] = {}
    own_faults: list[Fault] = []
    for variable, name, node, place in _entries(item, own_faults):
        if variable in _OF_ROUTES:
            itself[variable] = _plain(node)
        elif variable in _OF_EACH_ROUTE:
            values[variable] = _plain(node)
        elif variable in _KNOWN:
            problem = f"it is a setting of the whole process{place}"
            own_faults.append(Fault(variable, None, problem, "Move it out of the route."))
        else:
            own_faults.append(unknown(name, place, [*_OF_EACH_ROUTE, *_OF_ROUTES]))
    line = item.start_mark.line + 1
    match = _match(itself, own_faults, f" (in the route at line {line} of the settings file)")
    called = str(itself.get("NAME") or (match.label if match else f"at line {line}"))
    faults += [fault.of_route(called) for fault in own_faults]
    return None if match is None else GivenRoute(called, match, values)


def _match(itself: dict[str, Any], faults: list[Fault], place: str) -> Match | None:
    strip = itself.get("STRIP_PATH") or "false"
    if strip not in ("true", "false"):
        problem = f"it is neither true nor false{place}"
        faults.append(Fault("strip_path", None, problem, "Give true or false."))
    given = {name: itself.get(name) or None for name in ("HOST", "PATH")}
    for name, value in given.items():
        if value is not None and not isinstance(value, str):
            faults.append(Fault(name.lower(), None, f"it is not one text{place}", "Give one."))
            return None
    try:
        return Match.of(given["HOST"], given["PATH"], strip_path=strip == "true")
    except ValueError as error:
        which, problem = error.args
        mend = {
            "host": "Give it as clients write it: metrics.example.com, or with a port.",
            "path": "Give a prefix as it is in requests, such as /query.",
        }[which]
        faults.append(Fault(which, given[which.upper()], problem + place, mend))
        return None


def _clashes(
    route: GivenRoute, taken: Mapping[tuple[str | None, str], GivenRoute], names: Container[str]
) -> Iterator[Fault]:
    """Yield what keeps a route from being told from those before it."""
    mend = "Give each a host, path and name of its own."
    # Case alone does not tell them apart: not every server sees it.
    other = taken.get((route.match.host, route.match.path.lower()))
    if other is not None:
        problem = f"the requests of this route are those of route {other.name} already"
        yield Fault("path", route.match.path, problem, mend).of_route(route.name)
    elif route.name in names:
        yield Fault("name", route.name, "two routes have this name", mend)


def _plain(node: yaml.Node, depth: int = 0) -> Any:
    """Return a node as text, as pairs or a list of text; [] for what no setting takes."""
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag == "tag:yaml.org,2002:null" else node.value
    if isinstance(node, yaml.MappingNode) and depth == 0:
        return Pairs((str(key.value), _plain(value, depth + 1)) for key, value in node.value)
    if isinstance(node, yaml.SequenceNode) and depth == 0:
        return [_plain(value, depth + 1) for value in node.value]
    return []


def _unusable(path: str, problem: str) -> SettingsFile:
    mend = f"{CONFIG} is to name a readable YAML file of settings, such as `target_host: ...`."
    return SettingsFile(faults=[Fault(CONFIG, path, problem, mend)])
