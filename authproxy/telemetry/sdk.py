"""Telemetry on the OpenTelemetry SDK: its providers, put together for one process.

Made after the fork. Nothing global is set: each part is given its provider.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import MeterProvider as AnyMeterProvider
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import StatusCode

from authproxy import __version__
from authproxy.errors import BadRequest
from authproxy.http1.inbound_request import InboundRequest
from authproxy.http1.urls import TargetURL, origin_form, path_of
from authproxy.redaction import masked
from authproxy.settings import Settings
from authproxy.settings.telemetry_rules import Destination, Signal
from authproxy.telemetry.events import RequestWatch, TargetTelemetry, Telemetry, TokenTelemetry
from authproxy.telemetry.exporters import ExportFaults, exporter
from authproxy.telemetry.instruments import Instruments
from authproxy.telemetry.log_export import OTLPHandler, add_trace_ids
from authproxy.telemetry.logs import own_handlers, own_logger
from authproxy.telemetry.metrics_registry import MetricsRegistry
from authproxy.telemetry.recent_requests import RecentRequests
from authproxy.telemetry.resource import resource
from authproxy.telemetry.series import EndedRequest
from authproxy.telemetry.token_refreshes import Identity, TokenSide
from authproxy.telemetry.tracing import (
    MAX_ATTRIBUTE_LENGTH,
    ClientSide,
    ServerSpan,
    current_server_span,
    in_span,
)

if TYPE_CHECKING:
    from flask import Flask
    from opentelemetry.sdk._logs import LoggerProvider

    from authproxy.server.refusals import RefusedRequest


class ObservedRequest(RequestWatch):
    """Counts one request when its response has ended."""

    def __init__(self, instruments: Instruments, request: InboundRequest, target_host: str) -> None:
        self._instruments = instruments
        self.target_host = target_host
        self._request = request
        self._span: ServerSpan | None = current_server_span()
        self._began = time.perf_counter()
        self._failing: tuple[str | None, str] = None, ""
        self._over = self._is_tunnel = False
        instruments.request_began(request.method, request.scheme)

    def streams(self) -> None:
        if self._span is not None:
            self._span.hold()

    def becomes_tunnel(self) -> None:
        self._is_tunnel = True
        self._instruments.tunnel_began(self._request.method, self._request.scheme)

    def current(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._span is None else in_span(self._span)

    def failing(self, route: str | None, text: str) -> None:
        self._failing = route, text

    def ended(
        self,
        status: int,
        response_bytes: int = 0,
        error: str | None = None,
        seen_status: int | None = None,
    ) -> None:
        if self._over:
            return
        self._over = True
        if self._is_tunnel:
            self._instruments.tunnel_ended(self._request.method, self._request.scheme)
        seconds = time.perf_counter() - self._began
        seen_status = status if seen_status is None else seen_status
        route, text = self._failing
        inbound = self._request
        request = EndedRequest(
            inbound.method,
            "" if inbound.malformed else inbound.path,
            inbound.fields.get("User-Agent", ""),
            inbound.scheme,
            self.target_host or "",
            status,
            seen_status,
            error,
            self.target_responded,
            self.is_write,
            request_bytes=self.request_bytes,
            response_bytes=response_bytes,
            route=route,
            text=text,
        )
        if self._span is None:
            self._instruments.request_ended(request, seconds)
            return
        with in_span(self._span):
            self._instruments.request_ended(request, seconds)
        if error is not None:
            self._span.set_attribute("authproxy.error", error)
            # From 400 on, the instrumentation sets the status there.
            if seen_status < 400:
                self._span.set_attribute("error.type", error)
            if not 400 <= seen_status < 500:  # a client's fault is no error of a server span
                self._span.set_status(StatusCode.ERROR, error)
        self._span.release()


class SDKTelemetry(Telemetry):
    """Counts, measures and traces; exports and shows what settings ask for."""

    def __init__(self, settings: Settings, exports: Mapping[Signal, Destination]) -> None:
        self._settings = settings
        self._faults = ExportFaults()
        self._faults.install()
        described = resource(settings.otel_service_name, settings.workers)
        readers: list[MetricReader] = []
        registry = None if settings.metrics_port is None else MetricsRegistry()
        if registry is not None:
            self.collector = registry
            readers.append(registry.reader)
        if "metrics" in exports:
            readers.append(PeriodicExportingMetricReader(exporter("metrics", exports["metrics"])))
        self._meters: AnyMeterProvider = NoOpMeterProvider()
        if readers:
            self._meters = MeterProvider(
                readers,
                described,
                # Exemplars are of traces; without, looking for one is wasted.
                exemplar_filter=None if "traces" in exports else AlwaysOffExemplarFilter(),
                shutdown_on_exit=False,
            )
        self._tracers: TracerProvider | None = None
        if "traces" in exports:
            self._tracers = TracerProvider(
                resource=described, shutdown_on_exit=False, span_limits=_span_limits()
            )
            spans = BatchSpanProcessor(exporter("traces", exports["traces"]))
            self._tracers.add_span_processor(spans)
        self._loggers: LoggerProvider | None = None
        self._logger = own_logger()
        self._log_handler: logging.Handler | None = None
        if "logs" in exports:
            from opentelemetry.sdk._logs import LoggerProvider as SDKLoggerProvider
            from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

            self._loggers = SDKLoggerProvider(resource=described, shutdown_on_exit=False)
            self._loggers.add_log_record_processor(
                BatchLogRecordProcessor(exporter("logs", exports["logs"]))
            )
            self._log_handler = OTLPHandler(self._loggers)
            self._logger.addHandler(self._log_handler)
        self._traced_handlers = [] if self._tracers is None else own_handlers()
        for handler in self._traced_handlers:
            handler.addFilter(add_trace_ids)
        self._instruments = Instruments(
            self._meters.get_meter("authproxy", __version__),
            recent=None if registry is None else RecentRequests(),
            measured="metrics" in exports,
        )
        if registry is not None and "metrics" not in exports:
            registry.histograms = self._instruments.histograms

    # Events.

    def of_target(self, url: TargetURL) -> TargetTelemetry:
        log_query = self._settings.log_query
        return ClientSide(self._instruments, url, log_query=log_query, provider=self._tracers)

    def of_tokens(self, settings: Settings) -> TokenTelemetry:
        identity = Identity(
            settings.scope,
            settings.aad_client_id or "",
            settings.aad_tenant_id or "",
            settings.identity_type,
        )
        return TokenSide(self._instruments.tokens, identity, self._tracers)

    def instrument(self, app: Flask, *, untraced: Iterable[str]) -> None:
        if self._tracers is None:
            return
        from authproxy.telemetry.flask_spans import trace_requests

        trace_requests(app, self._tracers, untraced, log_query=self._settings.log_query)

    def request(self, request: InboundRequest) -> RequestWatch:
        return ObservedRequest(self._instruments, request, self.sole_target_host)

    def recent(self) -> dict[str, Any]:
        return self._instruments.recent()

    def refused(self, request: RefusedRequest) -> None:
        refusal = request.refusal
        try:
            path = path_of(origin_form(request.target))
        except BadRequest:
            path = ""
        ended = EndedRequest(
            request.method,
            path,
            request.headers.get("USER_AGENT", ""),
            "http",
            target_host=self.sole_target_host,
            status=refusal.status,
            seen_status=refusal.status,
            began=False,
            code=refusal.code,
            text=masked(str(refusal)),
        )
        self._instruments.request_ended(ended, seconds=0.0)

    def close(self, seconds: float) -> None:
        """Export what is left, all signals at the same time, within `seconds`."""
        milliseconds = int(seconds * 1000)
        shutdowns: list[Callable[[], object]] = []
        if isinstance(self._meters, MeterProvider):
            meters = self._meters
            shutdowns.append(lambda: meters.shutdown(timeout_millis=milliseconds))
        shutdowns += [each.shutdown for each in (self._tracers, self._loggers) if each is not None]
        # Daemons: an exporter that hangs is left behind, whatever its own timeout.
        threads = [threading.Thread(target=shutdown, daemon=True) for shutdown in shutdowns]
        deadline = time.monotonic() + seconds
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._stop_listening()

    def _stop_listening(self) -> None:
        if self._log_handler is not None:
            self._logger.removeHandler(self._log_handler)
        for handler in self._traced_handlers:
            handler.removeFilter(add_trace_ids)
        self._faults.uninstall()


def _span_limits() -> SpanLimits:
    """Return the SDK's limits, and one on the length of values, which has no default."""
    variables = ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT")
    if any(os.environ.get(variable) for variable in variables):
        return SpanLimits()
    return SpanLimits(max_attribute_length=MAX_ATTRIBUTE_LENGTH)
