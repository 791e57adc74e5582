"""Pure rules: which route a request takes, and what is left of its path there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import unquote

from authproxy.errors import BadRequest, NoRoute
from authproxy.path_rules import ambiguity, has_dot_segment
from authproxy.urls import path_of, request_target, requested_host

T = TypeVar("T")

_HOST = re.compile(r"([a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")


@dataclass(frozen=True)
class Match:
    """Which requests take a route: those for a host, those below a path, or both.

    `host` is in small letters; without a port it stands for any. `path` is a
    prefix that ends at a slash of the request's path. With `strip_path` the
    target does not see it.
    """

    host: str | None = None
    path: str = "/"
    strip_path: bool = False

    @classmethod
    def of(cls, host: str | None, path: str | None, *, strip_path: bool = False) -> Match:
        """Return what a host and a path as they are written stand for.

        Raises ValueError, whose first argument is `host` or `path` and whose
        second says what is wrong with it.
        """
        host = None if host is None else host.lower()
        if host is not None and not _HOST.fullmatch(host):
            raise ValueError("host", "it is neither a host name nor host:port")
        path = "/" if path is None else path
        if not path.startswith("/"):
            raise ValueError("path", "it does not begin with a slash")
        if any(char in path for char in "?#%*"):
            raise ValueError("path", "it holds a query, an encoded character or a star")
        if what := ambiguity(path):
            raise ValueError("path", f"it holds {what}")
        return cls(host, path.rstrip("/") or "/", strip_path)

    @property
    def label(self) -> str:
        """What to call it where it has no name."""
        return (self.host or "") + ("" if self.host and self.path == "/" else self.path)

    def takes(self, host: str, path: str) -> bool:
        """Tell whether a request for this host (as in Host, in small letters) and path is meant."""
        if self.host is not None and self.host not in (host, _without_port(host)):
            return False
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
        self._routes = sorted(routes, key=lambda route: _precedence(route[0]))
        self._only = None
        if [match for match, _ in self._routes] == [EVERYTHING]:
            self._only = self._routes[0][1]

    def find(self, environ: Mapping[str, Any]) -> T:
        """Return what serves this request.

        Raises NoRoute where nothing does, and BadRequest for a path that
        programs behind the proxy may take for one of another route.
        """
        if self._only is not None:
            return self._only
        host, path = requested_host(environ), path_of(request_target(environ))
        found, plain = self._first(host, path), _plainest(path)
        if has_dot_segment(plain) or self._first(host, plain) is not found:
            raise BadRequest("the path can be read as one of another route")
        if found is None:
            raise NoRoute("no route takes this host and path")
        return found[1]

    def _first(self, host: str, path: str) -> tuple[Match, T] | None:
        return next((route for route in self._routes if route[0].takes(host, path)), None)


def _precedence(match: Match) -> tuple[bool, bool, int]:
    host = match.host or ""
    return not host, _without_port(host) == host, -len(match.path)


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _plainest(path: str) -> str:
    """Return a path after all that programs may do to it, but removing dot segments.

    They decode it, also more than once, take backslashes for slashes, cut
    parameters and merge slashes.
    """
    while (decoded := unquote(path)) != path:
        path = decoded
    segments = (segment.partition(";")[0] for segment in path.replace("\\", "/").split("/"))
    return "/" + "/".join(segment for segment in segments if segment)
