"""The instruments: what is counted and measured, under the retired proxy's names and new ones."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from authproxy.telemetry.logs import lost_lines
from authproxy.telemetry.metric_labels import BoundedLabels, ClientLabels, known_method
from authproxy.telemetry.recent_requests import EndedRequest, RecentRequests

#: From 1 ms to 60 s: from a response within one network to a query at its limit.
BOUNDARIES_SECONDS = (
    *(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25),
    *(0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
BOUNDARIES_MILLISECONDS = tuple(seconds * 1000 for seconds in BOUNDARIES_SECONDS)

_RETRY_REASONS = ("dead_connection", "unauthorized")


@dataclass(frozen=True)
class Identity:
    """Whose tokens are fetched: labels of the refreshes."""

    audience: str
    client_id: str
    tenant_id: str
    identity_type: str

    def labels(self) -> dict[str, str]:
        return dict(vars(self))


@dataclass
class _Series:
    """The requests of one set of labels."""

    attributes: dict[str, str | int]
    requests: int = 0
    response_bytes: int = 0


@dataclass
class _Upload:
    attributes: dict[str, str]
    request_bytes: int = 0


@dataclass(eq=False)
class RefreshSeries:
    """The refreshes of one source of tokens, counted by the thread of an attempt; read by any."""

    identity: Identity
    outcomes: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    #: Of the token that it has now.
    expires_at: float | None = None
    over: bool = False

    def refreshed(self, *, is_success: bool, expires_at: float | None = None) -> None:
        """Count an attempt to get a token; `expires_at` is that of the one now in use."""
        self.outcomes[is_success] += 1
        if expires_at is not None:
            self.expires_at = expires_at

    def ended(self) -> None:
        """Note that its token is used no more, and that another source may continue its counts."""
        self.expires_at = None
        self.over = True


class Instruments:
    """Counts in plain integers, which the SDK reads when it collects.

    A measurement through the SDK costs some microseconds, for each instrument
    and reader; adding to an integer under a lock costs a tenth of one. Only
    histograms are the SDK's own.
    """

    def __init__(self, meter: Meter, recent: RecentRequests | None = None) -> None:
        """Make them of this meter; `recent` counts as well, where /status shows it."""
        self._recent = recent
        self._labels = BoundedLabels()
        self._lock = threading.Lock()
        self._series: dict[tuple[str, ClientLabels, int], _Series] = {}
        self._uploads: dict[tuple[str, ClientLabels], _Upload] = {}
        self._retries: dict[tuple[str, str], int] = {}
        self._refreshes: list[RefreshSeries] = []
        self._in_flight: dict[tuple[str, str], int] = {}
        self._tunnels = 0
        self._duration = meter.create_histogram(
            "aad_auth_proxy_request_duration_milliseconds",
            unit="ms",
            description="Time from a request's arrival to the end of its response.",
            explicit_bucket_boundaries_advisory=BOUNDARIES_MILLISECONDS,
        )
        self._server_duration = meter.create_histogram(
            "http.server.request.duration",
            unit="s",
            description="Duration of HTTP server requests.",
            explicit_bucket_boundaries_advisory=BOUNDARIES_SECONDS,
        )
        self._client_duration = meter.create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=BOUNDARIES_SECONDS,
        )
        self._observe(meter)

    def _observe(self, meter: Meter) -> None:
        counter, gauge = meter.create_observable_counter, meter.create_observable_gauge
        # Read before the counts: a page on which none is in flight has counted them all.
        meter.create_observable_up_down_counter(
            "aad_auth_proxy_requests_in_flight",
            [self._requests_in_flight],
            description="Requests whose response has not ended.",
        )
        meter.create_observable_up_down_counter(
            "aad_auth_proxy_tunnels_open",
            [lambda _: [Observation(self._tunnels)]],
            description="Connections that are tunnels, as their protocol has changed.",
        )
        meter.create_observable_up_down_counter(
            "http.server.active_requests",
            [self._active_requests],
            unit="{request}",
            description="Number of active HTTP server requests.",
        )
        counter(
            "aad_auth_proxy_requests_total",
            [self._count_requests],
            description="Requests, by the status of the target's response (or else the proxy's).",
        )
        counter(
            "aad_auth_proxy_request_bytes_total",
            [self._count_request_bytes],
            unit="By",
            description="Bytes of request bodies.",
        )
        counter(
            "aad_auth_proxy_response_bytes_total",
            [self._count_response_bytes],
            unit="By",
            description="Bytes of the target's response bodies.",
        )
        counter(
            "aad_auth_proxy_token_refresh_total",
            [self._count_refreshes],
            description="Attempts to get a token.",
        )
        counter(
            "aad_auth_proxy_target_retries_total",
            [self._count_retries],
            description="Requests that were sent to the target a second time.",
        )
        counter(
            "aad_auth_proxy_log_lines_lost_total",
            [lambda _: [Observation(lost_lines())]],
            description="Log lines that were lost, as standard error was not read.",
        )
        gauge(
            "aad_auth_proxy_token_expiry_timestamp_seconds",
            [self._token_expiry],
            unit="s",
            description="When the current token expires, in seconds since the epoch.",
        )

    # Targets and sources of tokens: what has not happened yet is reported as zero.

    def add_target(self, target_host: str) -> None:
        with self._lock:
            for reason in _RETRY_REASONS:
                self._retries.setdefault((target_host, reason), 0)

    def add_tokens(self, series: RefreshSeries) -> None:
        """Report a source of tokens; it continues the counts of ended ones with its labels."""
        with self._lock:
            if series in self._refreshes:
                return
            for former in [each for each in self._refreshes if each.over]:
                if former.identity == series.identity:
                    self._refreshes.remove(former)
                    for outcome, count in former.outcomes.items():
                        series.outcomes[outcome] += count
            self._refreshes.append(series)

    # Events.

    def request_began(self, method: str, scheme: str) -> None:
        kind = known_method(method), scheme
        with self._lock:
            self._in_flight[kind] = self._in_flight.get(kind, 0) + 1

    def tunnel_began(self, method: str, scheme: str) -> None:
        """A request is a tunnel from now on, and no longer in flight: it takes no thread."""
        with self._lock:
            self._tunnels += 1
            self._in_flight[known_method(method), scheme] -= 1

    def tunnel_ended(self, method: str, scheme: str) -> None:
        """It is in flight again, for `request_ended`."""
        with self._lock:
            self._tunnels -= 1
            self._in_flight[known_method(method), scheme] += 1

    def request_ended(self, request: EndedRequest, seconds: float) -> None:
        """Count a request whose response ended after `seconds`.

        One that never `began` was refused by the server.
        """
        labels = self._labels(request.method, request.path, request.user_agent)
        kind = known_method(request.method), request.scheme
        with self._lock:
            series = self._series.get((request.target_host, labels, request.status))
            if series is None:
                series = self._begin_series(request.target_host, labels, request.status)
            series.requests += 1
            series.response_bytes += request.response_bytes
            self._uploads[request.target_host, labels].request_bytes += request.request_bytes
            if self._recent is not None:
                self._recent.ended(request, seconds)
        self._duration.record(seconds * 1000, series.attributes)
        self._server_duration.record(seconds, _server_attributes(*kind, request))
        if request.began:
            with self._lock:
                self._in_flight[kind] -= 1

    def _begin_series(self, target_host: str, labels: ClientLabels, status: int) -> _Series:
        method, path, user_agent = labels
        attributes = {
            "target_host": target_host,
            "method": method,
            "path": path,
            "user_agent": user_agent,
        }
        self._uploads.setdefault((target_host, labels), _Upload(attributes))
        series = _Series({**attributes, "status_code": status})
        self._series[target_host, labels, status] = series
        return series

    def exchange_ended(self, seconds: float, attributes: dict[str, str | int]) -> None:
        """Measure one exchange with the target, under the semantic conventions' attributes."""
        self._client_duration.record(seconds, attributes)

    def retried(self, target_host: str, reason: str) -> None:
        with self._lock:
            self._retries[target_host, reason] += 1

    # For /status.

    def recent(self) -> dict[str, Any]:
        """Return requests in flight and of the last minutes; nothing where they are not counted."""
        if self._recent is None:
            return {}
        with self._lock:
            return {"in_flight": sum(self._in_flight.values()), **self._recent.data()}

    # Callbacks of the SDK.

    def _count_requests(self, _: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            every = list(self._series.values())
        return [Observation(series.requests, series.attributes) for series in every]

    def _count_response_bytes(self, _: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            every = list(self._series.values())
        return [Observation(series.response_bytes, series.attributes) for series in every]

    def _count_request_bytes(self, _: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            every = list(self._uploads.values())
        return [Observation(upload.request_bytes, upload.attributes) for upload in every]

    def _count_refreshes(self, _: CallbackOptions) -> Iterable[Observation]:
        totals: Counter[tuple[Identity, bool]] = Counter()
        with self._lock:
            for source in self._refreshes:
                for outcome, count in source.outcomes.items():
                    totals[source.identity, outcome] += count
        return [
            Observation(count, {**identity.labels(), "is_success": outcome})
            for (identity, outcome), count in totals.items()
        ]

    def _count_retries(self, _: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            every = list(self._retries.items())
        return [
            Observation(count, {"target_host": target_host, "reason": reason})
            for (target_host, reason), count in every
        ]

    def _token_expiry(self, _: CallbackOptions) -> Iterable[Observation]:
        earliest: dict[str, float] = {}
        with self._lock:
            for source in self._refreshes:
                if (expires_at := source.expires_at) is not None:
                    audience = source.identity.audience
                    earliest[audience] = min(expires_at, earliest.get(audience, expires_at))
        return [
            Observation(expires_at, {"audience": audience})
            for audience, expires_at in earliest.items()
        ]

    def _requests_in_flight(self, _: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            return [Observation(sum(self._in_flight.values()))]

    def _active_requests(self, _: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            every = list(self._in_flight.items())
        return [
            Observation(count, {"http.request.method": method, "url.scheme": scheme})
            for (method, scheme), count in every
        ]


def _server_attributes(method: str, scheme: str, request: EndedRequest) -> dict[str, str | int]:
    """Return the attributes of a request by the semantic conventions."""
    attributes: dict[str, str | int] = {
        "http.request.method": method,
        "url.scheme": scheme,
        "http.response.status_code": request.seen_status,
    }
    if request.error is not None:
        attributes["error.type"] = request.error
    elif request.seen_status >= 500:
        attributes["error.type"] = str(request.seen_status)
    return attributes
