"""Which requests a route is for, and what is left of their path there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from authproxy.http1.path_readings import oddity
from authproxy.http1.urls import canonical_host

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

    `host` is as `host_pattern` has it; without a port it matches any. `path`, as
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
        """Tell whether it matches requests for this host, as `canonical_host` has it."""
        if self.host is None or self.host == host:
            return True
        (name, port), (own_name, own_port) = split_port(host), split_port(self.host)
        return name == own_name and (not own_port or (not port and own_port in _DEFAULT_PORTS))

    def covers(self, path: str) -> bool:
        """Tell whether a path is the route's or below it, byte for byte."""
        prefix = self.path
        return prefix == "/" or path == prefix or path.startswith(f"{prefix}/")

    @property
    def stripped(self) -> str:
        """The prefix that the target does not see; empty where there is none."""
        return self.path if self.strip_path and self.path != "/" else ""

    def outbound(self, target: str) -> str:
        """Return the request target that the target is to see; a path is left in any case."""
        if not self.stripped:
            return target
        rest = target[len(self.stripped) :]
        return rest if rest.startswith("/") else f"/{rest}"


#: Takes every request.
EVERYTHING = Match()


def split_port(host: str) -> tuple[str, str]:
    """Return the name and the port, which is empty where there is none."""
    name, colon, port = host.rpartition(":")
    return (name, port) if colon and port.isdigit() else (host, "")
