"""What is counted of requests and of exchanges with targets: one series for each set of labels.

A request adds to one series alone, which has all its labels; metrics with fewer of them are
summed when they are read.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

from authproxy.telemetry.metric_labels import MAX_LENGTH, BoundedLabels, ClientLabels, known_method
from authproxy.telemetry.target_health import identity_verdict

#: From 1 ms to 60 s: from a response within one network to a query at its limit.
BOUNDARIES_SECONDS = (
    *(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25),
    *(0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)

#: Requests as they came that are remembered with their series.
_MAX_REMEMBERED = 1000

#: Names and values of labels, in the order of the names.
Labels = tuple[tuple[str, str | int], ...]


class EndedRequest(NamedTuple):
    """A request whose response has ended; method, path and user agent as they came.

    `status` is the target's where `target_responded`, else the proxy's own;
    `seen_status` is the client's. `error` is the code of an error in the exchange.
    Failures have `route` and `text`, which holds no secret.
    """

    method: str
    path: str
    user_agent: str
    scheme: str
    target_host: str
    status: int
    seen_status: int
    error: str | None = None
    target_responded: bool = False
    #: Whether its sender drops for good what gets a 4xx (`is_write`).
    is_write: bool = False
    #: Whether it was in flight; the server refuses others.
    began: bool = True
    #: What follows tells no series from another.
    request_bytes: int = 0
    response_bytes: int = 0
    #: Of a refusal, which is no error in the exchange.
    code: str | None = None
    route: str | None = None
    text: str = ""

    @property
    def kind(self) -> str:
        """One of `recent_requests.KINDS`."""
        if not self.target_responded:
            return "proxy_4xx" if self.status < 500 else "proxy_5xx"
        if self.error is not None and self.status < 400:
            return "target_cut"
        return f"target_{max(2, self.status // 100)}xx"


#: How many fields tell series from each other; those that clients choose come first.
_OF_SERIES = EndedRequest._fields.index("request_bytes")


class EndedExchange(NamedTuple):
    """An exchange with a target that has ended, `status` being that of its response, if any."""

    method: str
    address: str
    port: int
    status: int | None = None
    error: str | None = None

    @property
    def attributes(self) -> Labels:
        """What the semantic conventions have of it."""
        return (
            ("http.request.method", self.method),
            ("server.address", self.address),
            ("server.port", self.port),
            *((("http.response.status_code", self.status),) if self.status else ()),
            *((("error.type", self.error),) if self.error else ()),
        )


class Durations:
    """How many things ended within each of the boundaries, and how long all of them took."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDARIES_SECONDS) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDARIES_SECONDS, seconds)] += 1
        self.seconds += seconds

    def __iadd__(self, other: Durations) -> Durations:
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.seconds += other.seconds
        return self


class RequestSeries(Durations):
    """The requests of one set of labels."""

    __slots__ = (
        *("attributes", "identity", "kind", "labels"),
        *("request_bytes", "response_bytes", "upload_labels"),
    )

    def __init__(self, chosen: ClientLabels, request: EndedRequest) -> None:
        """`chosen` are the bounded labels of those that clients choose, as in `request`."""
        super().__init__()
        self.request_bytes = self.response_bytes = 0
        self.kind = request.kind
        method, path, user_agent = chosen
        #: The retired proxy's labels; bytes of request bodies are counted without the status.
        self.upload_labels: Labels = (
            ("target_host", request.target_host),
            ("method", method),
            ("path", path),
            ("user_agent", user_agent),
        )
        self.labels: Labels = (*self.upload_labels, ("status_code", request.status))
        #: By the semantic conventions.
        error = request.error or (str(request.seen_status) if request.seen_status >= 500 else "")
        self.attributes: Labels = (
            ("http.request.method", known_method(request.method)),
            ("url.scheme", request.scheme),
            ("http.response.status_code", request.seen_status),
            *((("error.type", error),) if error else ()),
        )
        #: What the target said of the identity, if it responded.
        self.identity: Labels | None = None
        if request.target_responded:
            kind = "write" if request.is_write else "other"
            self.identity = identity_labels(
                request.target_host, kind, identity_verdict(request.status)
            )

    @property
    def requests(self) -> int:
        return sum(self.counts)


def identity_labels(target_host: str, kind: str, verdict: str) -> Labels:
    """Return the labels of responses to one kind of requests, by what they say of the identity."""
    return ("target_host", target_host), ("kind", kind), ("identity", verdict)


class RequestTable:
    """The series of requests. Not locked: callers hold a lock of their own."""

    def __init__(self) -> None:
        self._bounded = BoundedLabels()
        self._series: dict[tuple[object, ...], RequestSeries] = {}
        self._remembered: dict[tuple[object, ...], RequestSeries] = {}

    def find(self, request: EndedRequest) -> RequestSeries:
        """Return the series that a request belongs to."""
        key = request[:_OF_SERIES]
        return self._remembered.get(key) or self._find(request, key)

    def _find(self, request: EndedRequest, key: tuple[object, ...]) -> RequestSeries:
        given = request.method, request.path, request.user_agent
        chosen = self._bounded(*given)
        bounded = (*chosen, known_method(request.method), *key[len(given) :])
        series = self._series.get(bounded)
        if series is None:
            series = self._series[bounded] = RequestSeries(chosen, request)
        if max(map(len, given)) <= MAX_LENGTH:
            if len(self._remembered) >= _MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = series
        return series

    def every(self) -> list[RequestSeries]:
        return list(self._series.values())


def summed(counts: Iterable[tuple[Labels, int]]) -> dict[Labels, int]:
    """Return counts added up by labels."""
    sums: dict[Labels, int] = {}
    for labels, count in counts:
        sums[labels] = sums.get(labels, 0) + count
    return sums


def merged(durations: Iterable[tuple[Labels, Durations]]) -> dict[Labels, Durations]:
    """Return durations added up by labels."""
    found: dict[Labels, Durations] = {}
    for labels, each in durations:
        whole = found.setdefault(labels, Durations())
        whole += each
    return found
