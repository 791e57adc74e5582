"""The log of requests that the server refused by itself: a line for each, as long as they are few.

Whatever talks to the port can cause them, thousands a second, without being admitted.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

from authproxy.errors import BadRequest
from authproxy.http1.urls import origin_form, path_of
from authproxy.proxy.access_log import failure_level, shown_url
from authproxy.server.refusals import RefusedRequest

log = logging.getLogger(__name__)

#: How long refusals are counted, in seconds, and how many lines there are in that time at most:
#: of one client and reason, so that no probe hides what befalls others, and of all.
WINDOW_SECONDS = 10.0
LINES_OF_ONE = 10
LINES_OF_ALL = 100


class RefusalLog:
    """The server's `on_refused` hook, and one of its periodic ones. Used by one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._lines: Counter[tuple[str, str]] = Counter()
        self._left_out: Counter[tuple[int, str]] = Counter()

    def refused(self, request: RefusedRequest) -> None:
        """Write the line of a request, or count it."""
        self.tick()
        refusal = request.refusal
        kind = (request.client, str(refusal))
        if self._lines[kind] >= LINES_OF_ONE or self._lines.total() >= LINES_OF_ALL:
            self._left_out[refusal.status, refusal.code] += 1
            return
        self._lines[kind] += 1
        fields = {
            "Request": _shown_path(request.target),
            "StatusCode": refusal.status,
            "Code": refusal.code,
            "Error": str(refusal),
            "RequestID": request.headers.get("X_REQUEST_ID"),
            "Method": request.method or None,
            "Client": request.client or None,
        }
        log.log(failure_level(refusal), "Request failed", extra={"fields": fields})

    def tick(self) -> None:
        """Say how many got no line, once their time is over."""
        if self._clock() - self._began >= WINDOW_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Say how many got no line so far, and begin to count anew."""
        for (status, code), count in self._left_out.items():
            fields = {"StatusCode": status, "Code": code, "Count": count}
            log.warning("Requests failed, without a line for each", extra={"fields": fields})
        self._lines.clear()
        self._left_out.clear()
        self._began = self._clock()


def _shown_path(target: str) -> str | None:
    """Return the path of a request target; None where it has none."""
    try:
        return shown_url(path_of(origin_form(target))) if target else None
    except BadRequest:
        return None
