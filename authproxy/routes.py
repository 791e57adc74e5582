"""Pure rules: which route a request takes, and what is left of its path there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Generic, TypeVar

from authproxy.errors import BadRequest, NoRoute
from authproxy.path_readings import oddity, readings_of, spelling
from authproxy.urls import canonical_host, path_of, request_target, requested_host

T = TypeVar("T")

_HOST = re.compile(r"([a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")

#: Clients leave these out of Host, each with its scheme (RFC 9110 section 4.2); which scheme a
#: client used is not known behind whatever ends TLS.
_DEFAULT_PORTS = ("80", "443")


def host_pattern(host: str) -> str:
    """Return a route's host as `Match` has it. Raises ValueError with what is wrong with it."""
    canonical = canonical_host(host)
    if not _HOST.fullmatch(canonical):
        raise ValueError("it is neither a host name nor host:port")
    return canonical


def path_prefix(path: str) -> str:
    """Return a route's path as `Match` has it. Raises ValueError with what is wrong with it."""
    if not path.startswith("/"):
        raise ValueError("it does not begin with a slash")
    if any(char in path for char in "?#%*"):
        raise ValueError("it holds a query, an encoded character or a star")
    if what := oddity(path):
        raise ValueError(f"it holds {what}")
    return path.rstrip("/") or "/"


@dataclass(frozen=True)
class Match:
    """Which requests take a route: those for a host, those below a path, or both.

    `host` is as `host_pattern` has it; without a port it stands for any. `path`, as
    `path_prefix` has it, is a prefix that ends at a slash of the request's path. With
    `strip_path` the target does not see it.
    """

    host: str | None = None
    path: str = "/"
    strip_path: bool = False

    @property
    def label(self) -> str:
        """What to call it where it has no name."""
        return (self.host or "") + ("" if self.host and self.path == "/" else self.path)

    def is_for(self, host: str) -> bool:
        """Tell whether requests for this host, as `canonical_host` has it, are meant."""
        if self.host is None or self.host == host:
            return True
        (name, port), (own_name, own_port) = _split_port(host), _split_port(self.host)
        return name == own_name and (not own_port or (not port and own_port in _DEFAULT_PORTS))

    def covers(self, path: str) -> bool:
        """Tell whether a path, letter for letter, is the route's or below it."""
        prefix = self.path
        return prefix == "/" or path == prefix or path.startswith(f"{prefix}/")

    def outbound(self, target: str) -> str:
        """Return the request target that the target is to see; a path is left in any case."""
        if not self.strip_path or self.path == "/":
            return target
        rest = target[len(self.path) :]
        return rest if rest.startswith("/") else f"/{rest}"


#: Takes every request.
EVERYTHING = Match()


class RouteTable(Generic[T]):
    """Finds what serves a request: the longest match first.

    A route with a host comes before those without, one with a port before
    those without; then the longest path decides.
    """

    def __init__(self, routes: Iterable[tuple[Match, T]]) -> None:
        in_order = sorted(routes, key=lambda route: _precedence(route[0]))
        self._routes = [(match, spelling(match.path), served) for match, served in in_order]
        self._by_host = any(match.host is not None for match, _ in in_order)
        self._only = None
        if [match for match, _ in in_order] == [EVERYTHING]:
            self._only = in_order[0][1]

    def find(self, environ: Mapping[str, Any]) -> T:
        """Return what serves this request.

        Raises NoRoute where nothing does, and BadRequest for a path that
        programs behind the proxy may take for one of another route, for a host
        that is none where hosts decide, and for what is no request target.
        """
        if self._only is not None:
            return self._only
        path = path_of(request_target(environ))
        host = requested_host(environ) if self._by_host else ""
        routes = [route for route in self._routes if route[0].is_for(host)]
        rivals = list(takewhile(lambda route: not route[0].covers(path), routes))
        found = routes[len(rivals)] if len(rivals) < len(routes) else None
        if rivals or (found is not None and found[0].path != "/"):
            _require_one_reading(path, [spelled for _, spelled, _ in rivals])
        if found is None:
            raise NoRoute("no route takes this host and path")
        return found[2]


def _require_one_reading(path: str, rivals: Iterable[re.Pattern[str]]) -> None:
    """Raise BadRequest for a path that could be taken for one outside of its route.

    Whatever is done to it, a path stays below the prefix that it begins with, unless by a segment
    of dots. So that leaves the routes that would come first: `rivals`, as they are spelled.
    """
    readings = readings_of(path)
    if readings.climbs or any(rival.match(text) for rival in rivals for text in readings.texts):
        what = oddity(path) or (
            "an encoded character" if "%" in path else "letters in another case"
        )
        raise BadRequest(f"the path can be read as one of another route: it holds {what}")


def _precedence(match: Match) -> tuple[bool, bool, int]:
    host = match.host or ""
    return not host, not _split_port(host)[1], -len(match.path)


def _split_port(host: str) -> tuple[str, str]:
    """Return the name and the port, which is empty where there is none."""
    name, colon, port = host.rpartition(":")
    return (name, port) if colon and port.isdigit() else (host, "")
