"""The requests of the last fifteen minutes, for people: how many of each kind, and which failed.

Not locked: callers hold a lock of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from authproxy.redaction import masked
from authproxy.telemetry.series import EndedRequest
from authproxy.telemetry.target_health import TargetHealth

MINUTES = 15

#: Failures that are kept, and the most characters of their texts.
MAX_FAILURES = 20
_LONGEST = {"method": 20, "path": 200, "text": 2048}

#: The outcomes of a request: the status of the upstream response, one that was truncated,
#: or an error of the proxy itself, by its status.
GOOD = ("target_2xx", "target_3xx")
BAD = ("target_4xx", "target_5xx", "target_cut", "proxy_4xx", "proxy_5xx")
KINDS = (*GOOD, *BAD)


@dataclass
class Failure:
    """Requests that failed alike: how often, and the latest of them."""

    last_at: float
    times: int
    kind: str
    route: str | None
    method: str
    path: str
    status: int
    code: str | None
    text: str


class RecentRequests:
    """Counts by minute, the health of targets, the latest failures; bounded, whatever comes."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        #: By the minutes since the epoch.
        self._minutes: dict[int, dict[str, int]] = {}
        self._failures: dict[tuple[object, ...], Failure] = {}
        #: By host: there are as many as routes.
        self._targets: dict[str, TargetHealth] = {}

    def ended(self, request: EndedRequest, kind: str, seconds: float) -> None:
        """Count a request of this kind that took `seconds`, and keep it if it failed."""
        now = self._now()
        counts = self._minutes.get(int(now) // 60)
        if counts is None:
            counts = self._begin(int(now) // 60)
        counts[kind] = counts.get(kind, 0) + 1
        if request.target_host and request.began:
            health = self._targets.get(request.target_host)
            if health is None:
                health = self._targets[request.target_host] = TargetHealth(now)
            status = request.status if request.target_responded else None
            health.ended(now, seconds, status, write=request.is_write)
        if kind not in GOOD:
            self._keep(request, kind, now)

    def _begin(self, minute: int) -> dict[str, int]:
        """Forget the minutes that are over, also those that a clock set back has in the future."""
        kept = {at: self._minutes[at] for at in self._minutes if minute - MINUTES < at < minute}
        self._minutes = {**kept, minute: {}}
        return self._minutes[minute]

    def _keep(self, request: EndedRequest, kind: str, now: float) -> None:
        method = request.method[: _LONGEST["method"]]
        path = masked(request.path)[: _LONGEST["path"]]
        # Senders repeat failed requests: equal failures are counted as one.
        code = request.error or request.code
        key = request.route, method, path, request.status, code
        before = self._failures.pop(key, None)
        self._failures[key] = Failure(
            last_at=now,
            times=1 if before is None else before.times + 1,
            kind=kind,
            route=request.route,
            method=method,
            path=path,
            status=request.status,
            code=code,
            text=request.text[: _LONGEST["text"]],
        )
        if len(self._failures) > MAX_FAILURES:
            del self._failures[next(iter(self._failures))]

    def data(self) -> dict[str, Any]:
        """Return counts by minute since the epoch, failures, the latest last, and targets.

        What `together` makes of the latter is for people.
        """
        now = self._now()
        return {
            "minutes": [{"minute": at, **counts} for at, counts in self._minutes.items()],
            "failures": [asdict(failure) for failure in self._failures.values()],
            "targets": {host: each.data(now) for host, each in self._targets.items()},
        }
