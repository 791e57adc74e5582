"""The log of requests that the server refused by itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from authproxy.errors import BadRequest
from authproxy.http1.urls import origin_form, path_of
from authproxy.proxy.access_log import failure_level, shown_url
from authproxy.proxy.repeated_failures import RepeatedFailures
from authproxy.server.refusals import RefusedRequest

log = logging.getLogger(__name__)

#: Lines of refusals in ten seconds at most, of one client and reason and of all: they can be
#: had without being admitted.
LINES_OF_ONE = 10
LINES_OF_ALL = 100


class RefusalLog:
    """The server's `on_refused` hook, and one of its periodic ones."""

    def __init__(
        self,
        wanted: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`wanted` tells whether failed requests have lines at all."""
        self._wanted = wanted
        self._repeated = RepeatedFailures(LINES_OF_ONE, LINES_OF_ALL, clock)
        self.tick, self.flush = self._repeated.tick, self._repeated.flush

    def refused(self, request: RefusedRequest) -> None:
        """Write the line of a request, or count it."""
        refusal = request.refusal
        alike = request.client, str(refusal)  # no probe hides what befalls others
        if not self._wanted() or not self._repeated.gets_line(alike, refusal.status, refusal.code):
            return
        fields = {
            "Request": _shown_path(request.target),
            "StatusCode": refusal.status,
            "Code": refusal.code,
            "Error": str(refusal),
            "RequestID": request.headers.get("X_REQUEST_ID"),
            "Method": request.method or None,
            "Client": request.client or None,
        }
        log.log(failure_level(refusal.status), "Request failed", extra={"fields": fields})


def _shown_path(target: str) -> str | None:
    """Return the path of a request target; None where it has none."""
    try:
        return shown_url(path_of(origin_form(target))) if target else None
    except BadRequest:
        return None
