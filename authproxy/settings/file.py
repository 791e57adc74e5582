"""Reads the YAML file of settings, and the routes in it."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from authproxy.errors import Fault
from authproxy.files.regular_file import UnreadableFile, read_regular_file
from authproxy.settings.bounded_yaml import NotYAML, compose
from authproxy.settings.declared import Declared
from authproxy.settings.kinds import Pairs
from authproxy.settings.match import Match
from authproxy.settings.model import RouteKeys, Settings
from authproxy.settings.spelling import unknown

#: The variable that names the YAML file.
CONFIG = "AUTHPROXY_CONFIG"

#: The file's one key that is no setting.
ROUTES = "ROUTES"

_USABLE = f"{CONFIG} is to name a readable YAML file of settings, such as `target_host: ...`."

#: What `<(command)` and /dev/stdin name can be read once, but a reload reads the file again.
_IRREGULAR = (
    "It is read again on a reload: in place of `<(command)` or /dev/stdin, write the command's "
    "output to a file (`command > settings.yaml`) and name that file."
)


@dataclass(frozen=True)
class GivenRoute:
    """One of the file's routes: which requests take it, and its own values, by variable.

    A value of None takes away what the route would inherit from the settings outside.
    """

    name: str
    match: Match
    values: dict[str, Any]


@dataclass
class SettingsFile:
    """What a YAML file gives, and its faults; no value is empty text."""

    values: dict[str, Any] = field(default_factory=dict)
    #: Whether it has the key `routes`, and those routes that can be read.
    has_routes: bool = False
    routes: list[GivenRoute] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def read_file(path: str, model: type[Settings]) -> SettingsFile:
    """Return what is in a YAML file, and all its faults.

    Scalars are taken as they are written, as in an environment: a secret of
    `0123` is not the number 83. No fault quotes a value.
    """
    try:
        root = compose(read_regular_file(path))
    except UnreadableFile as error:
        hint = _USABLE if error.regular else _IRREGULAR
        return _unusable(path, f"the settings file {error.problem}", hint)
    except NotYAML as error:
        return _unusable(path, str(error))
    if root is None:
        return SettingsFile()
    if not isinstance(root, yaml.MappingNode):
        return _unusable(path, "it is YAML, but not a mapping")
    return _contents(root, model)


def _contents(root: yaml.MappingNode, model: type[Settings]) -> SettingsFile:
    found = SettingsFile()
    nodes = _mapping(root, dict.fromkeys((*model.declared, ROUTES)), (), found.faults)
    routes = nodes.pop(ROUTES, None)
    found.values = _values(nodes, model)
    if routes is not None:
        found.has_routes = True
        _read_routes(routes, model, found)
    return found


def _mapping(
    root: yaml.MappingNode, known: Collection[str], of_process: Container[str], faults: list[Fault]
) -> dict[str, yaml.Node]:
    """Return the values of known names, by variable; any other name, or one twice, is a fault."""
    found: dict[str, yaml.Node] = {}
    for key, node in root.value:
        name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
        variable = name.upper().replace("-", "_")
        place = f" (line {key.start_mark.line + 1} of the settings file)"
        if variable in found:
            faults.append(Fault(variable, None, f"it is there twice{place}", "Keep one of them."))
        elif variable in known:
            found[variable] = node
        elif variable in of_process:
            problem = f"it is a setting of the whole process{place}"
            faults.append(Fault(variable, None, problem, "Move it out of the route."))
        else:
            faults.append(unknown(name, known, place))
    return found


def _values(nodes: Mapping[str, yaml.Node], model: type[Declared]) -> dict[str, Any]:
    return {
        variable: one.stripped(_plain(nodes[variable]))
        for variable, one in model.declared.items()
        if variable in nodes
    }


def _read_routes(node: yaml.Node, model: type[Settings], found: SettingsFile) -> None:
    hint = "Give a list of routes, each a mapping such as `path: /query` and `target_host: ...`."
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        found.faults.append(Fault("routes", None, "it is no list of routes", hint))
        return
    per_route = [variable for variable, one in model.declared.items() if one.per_route]
    known = dict.fromkeys((*per_route, *RouteKeys.declared))
    taken: dict[tuple[str | None, str], str] = {}
    names: set[str] = set()
    for item in node.value:
        if not isinstance(item, yaml.MappingNode):
            place = f" (line {item.start_mark.line + 1} of the settings file)"
            found.faults.append(Fault("routes", None, f"one of them is no mapping{place}", hint))
        elif route := _route(item, model, known, found.faults):
            found.faults.extend(_clashes(route, taken, names))
            taken.setdefault(_requests_of(route), route.name)
            names.add(route.name)
            found.routes.append(route)


def _route(
    item: yaml.MappingNode, model: type[Settings], known: Collection[str], faults: list[Fault]
) -> GivenRoute | None:
    """Return a route, None where it cannot be read which requests take it."""
    line = item.start_mark.line + 1
    own: list[Fault] = []
    nodes = _mapping(item, known, model.declared, own)
    of_itself = _values(nodes, RouteKeys)
    keys, wrong = RouteKeys.read({k: v for k, v in of_itself.items() if v is not None})
    matched = not {"HOST", "PATH"}.intersection(fault.setting for fault in wrong)
    name = keys.name or (keys.match.label if matched else f"at line {line}")
    for fault in wrong:
        problem = f"{fault.problem} (in the route at line {line} of the settings file)"
        own.append(replace(fault, setting=fault.setting.lower(), problem=problem))
    faults += [replace(fault, route=name) for fault in own]
    return GivenRoute(name, keys.match, _values(nodes, model)) if matched else None


def _clashes(
    route: GivenRoute, taken: Mapping[tuple[str | None, str], str], names: Container[str]
) -> Iterator[Fault]:
    """Yield the faults of a route that is the same as one before it."""
    hint = "Give each a host, path and name of its own."
    other = taken.get(_requests_of(route))
    if other is not None:
        problem = f"the requests of this route are those of route {other} already"
        yield Fault("path", route.match.path, problem, hint, route.name)
    elif route.name in names:
        yield Fault("name", route.name, "two routes have this name", hint)


def _requests_of(route: GivenRoute) -> tuple[str | None, str]:
    """Return what makes routes distinct. Case alone does not: not every server sees it."""
    return route.match.host, route.match.path.lower()


def _plain(node: yaml.Node, depth: int = 0) -> Any:
    """Return a node as text, as pairs or a list of text; [] for what no setting takes."""
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag == "tag:yaml.org,2002:null" else node.value
    if isinstance(node, yaml.MappingNode) and depth == 0:
        return Pairs((str(key.value), _plain(value, depth + 1)) for key, value in node.value)
    if isinstance(node, yaml.SequenceNode) and depth == 0:
        return [_plain(value, depth + 1) for value in node.value]
    return []


def _unusable(path: str, problem: str, hint: str = _USABLE) -> SettingsFile:
    return SettingsFile(faults=[Fault(CONFIG, path, problem, hint)])
