"""The requests of the last fifteen minutes, for people: how many of each kind, and which failed.

Not locked: whoever counts here holds a lock of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from authproxy.redaction import masked

MINUTES = 15

#: Failures that are remembered, and the characters of what is told of one.
MAX_FAILURES = 20
_LONGEST = {"method": 20, "path": 200, "text": 2048}

#: What a request can come to: the status of the target's answer, an answer that ended
#: early, or an error of the proxy's own, by its status.
GOOD = ("target_2xx", "target_3xx")
BAD = ("target_4xx", "target_5xx", "target_cut", "proxy_4xx", "proxy_5xx")
KINDS = (*GOOD, *BAD)


@dataclass(frozen=True)
class EndedRequest:
    """A request whose answer has ended; method, path and user agent as they came.

    `status` is the target's where it `answered`, else the proxy's own;
    `seen_status` is the client's. `error` is the code of what went wrong on
    the way. `route` and `text`, which holds no secret, are told of failures.
    """

    method: str
    path: str
    user_agent: str
    scheme: str
    target_host: str
    status: int
    seen_status: int
    error: str | None = None
    request_bytes: int = 0
    response_bytes: int = 0
    began: bool = True
    answered: bool = False
    #: Of a refusal, which is no error on the way.
    code: str | None = None
    route: str | None = None
    text: str = ""

    @property
    def kind(self) -> str:
        """One of KINDS."""
        if not self.answered:
            return "proxy_4xx" if self.status < 500 else "proxy_5xx"
        if self.error is not None and self.status < 400:
            return "target_cut"
        return f"target_{max(2, self.status // 100)}xx"


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
    """Counts by minute, and the latest failures; bounded, whatever comes."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        #: By the minutes since the epoch.
        self._minutes: dict[int, dict[str, int]] = {}
        self._failures: dict[tuple[object, ...], Failure] = {}

    def ended(self, request: EndedRequest) -> None:
        """Count a request; of one that failed, remember what there is to tell."""
        now = self._now()
        kind = request.kind
        counts = self._minutes.get(int(now) // 60)
        if counts is None:
            counts = self._begin(int(now) // 60)
        counts[kind] = counts.get(kind, 0) + 1
        if kind not in GOOD:
            self._remember(request, kind, now)

    def _begin(self, minute: int) -> dict[str, int]:
        """Forget the minutes that are over, also those that a clock set back has in the future."""
        kept = {at: self._minutes[at] for at in self._minutes if minute - MINUTES < at < minute}
        self._minutes = {**kept, minute: {}}
        return self._minutes[minute]

    def _remember(self, request: EndedRequest, kind: str, now: float) -> None:
        method = request.method[: _LONGEST["method"]]
        path = masked(request.path)[: _LONGEST["path"]]
        # Senders repeat themselves: each kind of failure has one place.
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

    def told(self) -> dict[str, Any]:
        """Return counts by minute since the epoch, and failures, the latest last."""
        return {
            "minutes": [{"minute": at, **counts} for at, counts in self._minutes.items()],
            "failures": [asdict(failure) for failure in self._failures.values()],
        }
