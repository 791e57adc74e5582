"""Which route a request takes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import takewhile
from typing import Generic, TypeVar

from authproxy.errors import BadRequest, NoRoute
from authproxy.http1.inbound_request import InboundRequest
from authproxy.http1.path_readings import oddity, readings_of, spelling
from authproxy.settings.match import EVERYTHING, Match, split_port

T = TypeVar("T")


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

    def find(self, request: InboundRequest) -> T:
        """Return what serves this request.

        Raises NoRoute where nothing does, and BadRequest for a path that
        programs behind the proxy may take for one of another route, for a host
        that is none where hosts decide, and for what is no request target.
        """
        if self._only is not None:
            return self._only
        path = request.path
        host = request.host if self._by_host else ""
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
    return not host, not split_port(host)[1], -len(match.path)
