"""The instruments: what is counted and measured, under the retired proxy's names and new ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from authproxy.telemetry.logs import lost_lines
from authproxy.telemetry.metric_labels import known_method
from authproxy.telemetry.recent_requests import RecentRequests
from authproxy.telemetry.series import (
    BOUNDARIES_SECONDS,
    Durations,
    EndedExchange,
    EndedRequest,
    Labels,
    RequestSeries,
    RequestTable,
    identity_labels,
    merged,
    summed,
)
from authproxy.telemetry.target_health import KINDS, VERDICTS
from authproxy.telemetry.token_refreshes import TokenRefreshes

_RETRY_REASONS = ("dead_connection", "unauthorized")


class Histogram(NamedTuple):
    """Durations by labels; of the unit, a second has `scale`."""

    name: str
    unit: str
    scale: int
    description: str
    durations: Mapping[Labels, Durations] = {}


_DURATION = Histogram(
    "aad_auth_proxy_request_duration_milliseconds",
    "ms",
    1000,
    "Time from a request's arrival to the end of its response.",
)
_SERVER_DURATION = Histogram(
    "http.server.request.duration", "s", 1, "Duration of HTTP server requests."
)
_CLIENT_DURATION = Histogram(
    "http.client.request.duration", "s", 1, "Duration of HTTP client requests."
)


class Instruments:
    """Counts in plain integers, which are read when metrics are collected.

    A measurement through the SDK costs ten microseconds, for each histogram and reader; adding
    to integers under a lock costs a tenth of that.
    """

    def __init__(
        self, meter: Meter, recent: RecentRequests | None = None, *, measured: bool = True
    ) -> None:
        """Make them of this meter; `recent` counts as well, where /status shows it.

        With `measured` the SDK has the histograms too: what it exports may have exemplars,
        exponential buckets, and values since the last export.
        """
        self._recent = recent
        self._lock = threading.Lock()
        self._requests = RequestTable()
        self._exchanges: dict[EndedExchange, Durations] = {}
        self._retries: dict[tuple[str, str], int] = {}
        self._in_flight: dict[tuple[str, str], int] = {}
        self._tunnels = 0
        self.tokens = TokenRefreshes()
        self._observe(meter)
        self._measure = _recorders(meter) if measured else None

    def _observe(self, meter: Meter) -> None:
        def observe(
            create: Callable[..., object],
            name: str,
            values: Callable[[], Mapping[Labels, float]],
            description: str,
            unit: str = "",
        ) -> None:
            def callback(_: CallbackOptions) -> Iterable[Observation]:
                return [Observation(value, dict(labels)) for labels, value in values().items()]

            create(name, [callback], unit=unit, description=description)

        counter, gauge = meter.create_observable_counter, meter.create_observable_gauge
        level = meter.create_observable_up_down_counter
        # Read before the counts: a page on which none is in flight has counted them all.
        observe(
            level,
            "aad_auth_proxy_requests_in_flight",
            lambda: {(): sum(self._active_requests().values())},
            "Requests whose response has not ended.",
        )
        observe(
            level,
            "aad_auth_proxy_tunnels_open",
            lambda: {(): self._tunnels},
            "Connections that are tunnels, as their protocol has changed.",
        )
        observe(
            level,
            "http.server.active_requests",
            self._active_requests,
            "Number of active HTTP server requests.",
            unit="{request}",
        )
        observe(
            counter,
            "aad_auth_proxy_requests_total",
            lambda: summed((each.labels, each.requests) for each in self._every()),
            "Requests, by the status of the target's response (or else the proxy's).",
        )
        observe(
            counter,
            "aad_auth_proxy_request_bytes_total",
            lambda: summed((each.upload_labels, each.request_bytes) for each in self._every()),
            "Bytes of request bodies.",
            unit="By",
        )
        observe(
            counter,
            "aad_auth_proxy_response_bytes_total",
            lambda: summed((each.labels, each.response_bytes) for each in self._every()),
            "Bytes of the target's response bodies.",
            unit="By",
        )
        observe(
            counter,
            "aad_auth_proxy_token_refresh_total",
            self.tokens.counts,
            "Attempts to get a token.",
        )
        observe(
            counter,
            "aad_auth_proxy_target_retries_total",
            self._count_retries,
            "Requests that were sent to the target a second time.",
        )
        observe(
            counter,
            "aad_auth_proxy_target_responses_total",
            self._count_responses,
            "Responses of the target, by what they say of the proxy's identity.",
        )
        observe(
            counter,
            "aad_auth_proxy_log_lines_lost_total",
            lambda: {(): lost_lines()},
            "Log lines that were lost, as standard error was not read.",
        )
        observe(
            gauge,
            "aad_auth_proxy_token_expiry_timestamp_seconds",
            self.tokens.expiries,
            "When the current token expires, in seconds since the epoch.",
            unit="s",
        )

    def add_target(self, target_host: str) -> None:
        """Report zero for what has not happened yet."""
        with self._lock:
            for reason in _RETRY_REASONS:
                self._retries.setdefault((target_host, reason), 0)

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
        with self._lock:
            series = self._requests.find(request)
            series.add(seconds)
            series.request_bytes += request.request_bytes
            series.response_bytes += request.response_bytes
            if self._recent is not None:
                self._recent.ended(request, series.kind, seconds)
            if request.began:
                self._in_flight[known_method(request.method), request.scheme] -= 1
        if self._measure is not None:
            self._measure[_DURATION.name](seconds, series.labels)
            self._measure[_SERVER_DURATION.name](seconds, series.attributes)

    def exchange_ended(self, exchange: EndedExchange, seconds: float) -> None:
        """Measure one exchange with a target."""
        with self._lock:
            durations = self._exchanges.get(exchange)
            if durations is None:
                durations = self._exchanges[exchange] = Durations()
            durations.add(seconds)
        if self._measure is not None:
            self._measure[_CLIENT_DURATION.name](seconds, exchange.attributes)

    def retried(self, target_host: str, reason: str) -> None:
        with self._lock:
            self._retries[target_host, reason] += 1

    # What is read.

    def recent(self) -> dict[str, Any]:
        """Return requests in flight and of the last minutes; nothing where they are not counted."""
        if self._recent is None:
            return {}
        with self._lock:
            return {"in_flight": sum(self._in_flight.values()), **self._recent.data()}

    def histograms(self) -> Iterable[Histogram]:
        """Return all durations, for a page that does not have the SDK's."""
        with self._lock:
            every, exchanges = self._requests.every(), list(self._exchanges.items())
        yield _DURATION._replace(durations=merged((each.labels, each) for each in every))
        yield _SERVER_DURATION._replace(durations=merged((each.attributes, each) for each in every))
        yield _CLIENT_DURATION._replace(
            durations=merged((exchange.attributes, each) for exchange, each in exchanges)
        )

    def _every(self) -> list[RequestSeries]:
        with self._lock:
            return self._requests.every()

    def _count_retries(self) -> dict[Labels, float]:
        with self._lock:
            return {
                (("target_host", target_host), ("reason", reason)): count
                for (target_host, reason), count in self._retries.items()
            }

    def _count_responses(self) -> dict[Labels, int]:
        with self._lock:
            targets = {target_host for target_host, _ in self._retries}
        none_yet = [
            (identity_labels(target_host, kind, verdict), 0)
            for target_host in sorted(targets)
            for kind in KINDS
            for verdict in VERDICTS
        ]
        every = [(each.identity, each.requests) for each in self._every() if each.identity]
        return summed([*none_yet, *every])

    def _active_requests(self) -> dict[Labels, float]:
        with self._lock:
            return {
                (("http.request.method", method), ("url.scheme", scheme)): count
                for (method, scheme), count in self._in_flight.items()
            }


def _recorders(meter: Meter) -> dict[str, Callable[[float, Labels], None]]:
    """Return what has the SDK measure a duration, by the name of the histogram."""

    def recorder(histogram: Histogram) -> Callable[[float, Labels], None]:
        measured = meter.create_histogram(
            histogram.name,
            unit=histogram.unit,
            description=histogram.description,
            explicit_bucket_boundaries_advisory=[
                seconds * histogram.scale for seconds in BOUNDARIES_SECONDS
            ],
        )
        return lambda seconds, labels: measured.record(seconds * histogram.scale, dict(labels))

    every = (_DURATION, _SERVER_DURATION, _CLIENT_DURATION)
    return {histogram.name: recorder(histogram) for histogram in every}
