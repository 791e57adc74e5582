"""Spans of requests: ProxyRequest, and the exchange with the target."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, TracerProvider

from authproxy import __version__
from authproxy.http1.headers import INBOUND_CREDENTIALS, Field, canonical
from authproxy.http1.urls import TargetURL
from authproxy.redaction import MASK, masked
from authproxy.telemetry.events import Attempt, TargetTelemetry
from authproxy.telemetry.instruments import Instruments
from authproxy.telemetry.metric_labels import known_method
from authproxy.telemetry.series import EndedExchange

#: What a span's attribute is cut to, in characters, unless OTEL_* variables say otherwise.
MAX_ATTRIBUTE_LENGTH = 1024


#: How the instrumentation names the header fields that
#: OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST has it capture.
_CAPTURED = "http.request.header."
_CREDENTIALS = {_CAPTURED + name.replace("-", "_") for name in INBOUND_CREDENTIALS}


class ServerSpan(Span):
    """A span that can be held open when the instrumentation would end it.

    Of header fields that it captures, credentials are masked.

    Flask's request is over when the view has returned, and the span that was
    begun for it as well; the response streams on. Held, it ends with `release`.
    """

    def __init__(self, span: Span) -> None:
        self._span = span
        self._held = False

    def hold(self) -> None:
        self._held = True

    def release(self) -> None:
        if self._held:
            self._held = False
            self._span.end()

    def end(self, end_time: int | None = None) -> None:
        if not self._held:
            self._span.end(end_time)

    @property
    def kind(self) -> SpanKind:
        return SpanKind.SERVER

    # The rest of a span, passed on.

    def get_span_context(self) -> trace.SpanContext:
        return self._span.get_span_context()

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def set_attribute(self, key: str, value: Any) -> None:
        if key in _CREDENTIALS:
            value = [MASK]
        elif key.startswith(_CAPTURED):
            value = [masked(each) for each in value]
        self._span.set_attribute(key, value)

    def add_event(self, name: str, *args: Any, **kwargs: Any) -> None:
        self._span.add_event(name, *args, **kwargs)

    def update_name(self, name: str) -> None:
        self._span.update_name(name)

    def is_recording(self) -> bool:
        return self._span.is_recording()

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        self._span.set_status(status, description)

    def record_exception(self, exception: BaseException, *args: Any, **kwargs: Any) -> None:
        self._span.record_exception(exception, *args, **kwargs)


class _ServerTracer(Tracer):
    """Starts spans that can be held."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def start_span(self, name: str, *args: Any, **kwargs: Any) -> Span:
        return ServerSpan(self._tracer.start_span("ProxyRequest", *args, **kwargs))

    def start_as_current_span(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return self._tracer.start_as_current_span(name, *args, **kwargs)


class ServerTracerProvider(TracerProvider):
    """Provides the Flask instrumentation with its tracer."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider

    def get_tracer(self, *args: Any, **kwargs: Any) -> Tracer:
        return _ServerTracer(self._provider.get_tracer(*args, **kwargs))


def current_server_span() -> ServerSpan | None:
    """Return the span of the request that this thread works on."""
    span = trace.get_current_span()
    return span if isinstance(span, ServerSpan) else None


def in_span(span: Span) -> AbstractContextManager[Any]:
    """Return a context in which `span` is current; leaving does not end it."""
    return trace.use_span(span, end_on_exit=False, record_exception=False)


class ObservedAttempt(Attempt):
    """Measures one exchange with the target, and traces it if there is a span."""

    def __init__(
        self, instruments: Instruments, span: Span | None, exchange: EndedExchange
    ) -> None:
        """`exchange` has the method and the target."""
        self._instruments = instruments
        self._span = span
        self._exchange = exchange
        self._status: int | None = None
        self._began = time.perf_counter()
        self._over = False

    def carried(self, fields: Sequence[Field]) -> Sequence[Field]:
        if self._span is None:
            return fields
        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(self._span))
        carrier.pop("baggage", None)  # the client's is forwarded as it came
        carrier = {name.lower(): value for name, value in carrier.items()}
        kept = [(name, value) for name, value in fields if name.lower() not in carrier]
        return [*kept, *((canonical(name), value) for name, value in carrier.items())]

    def response_began(self, status: int) -> None:
        self._status = status

    def ended(self, received: int, error: str | None = None) -> None:
        if self._over:
            return
        self._over = True
        status = self._status
        error_type = error or (str(status) if status is not None and status >= 400 else None)
        method, address, port, *_ = self._exchange
        exchange = EndedExchange(method, address, port, status, error_type)
        self._instruments.exchange_ended(exchange, time.perf_counter() - self._began)
        if self._span is None:
            return
        self._span.set_attributes(dict(exchange.attributes))
        self._span.set_attribute("http.response.body.size", received)
        if error_type is not None:
            self._span.set_status(StatusCode.ERROR, error)
        self._span.end()


class ClientSide(TargetTelemetry):
    """Begins the attempts at one target; with a tracer, they are traced."""

    def __init__(
        self,
        instruments: Instruments,
        url: TargetURL,
        *,
        log_query: bool,
        provider: TracerProvider | None,
    ) -> None:
        self._instruments = instruments
        self._url = url
        self._log_query = log_query
        self._tracer = provider.get_tracer("authproxy", __version__) if provider else None

    def attempt(self, method: str, target: str, number: int) -> Attempt:
        exchange = EndedExchange(known_method(method), self._url.host, self._url.port)
        span = self._span(exchange, method, target, number) if self._tracer else None
        return ObservedAttempt(self._instruments, span, exchange)

    def retried(self, reason: str) -> None:
        self._instruments.retried(self._url.authority, reason)

    def in_force(self) -> None:
        self._instruments.add_target(self._url.authority)

    def _span(self, exchange: EndedExchange, method: str, target: str, number: int) -> Span:
        assert self._tracer is not None
        known = exchange.method
        shown = target if self._log_query else target.partition("?")[0]
        attributes = {
            **dict(exchange.attributes),
            "url.full": self._url.origin + masked(shown),
            "authproxy.attempt": number,
        }
        if known != method:
            attributes["http.request.method_original"] = method
        if number > 1:
            attributes["http.request.resend_count"] = number - 1
        name = "HTTP" if known == "_OTHER" else known
        return self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
