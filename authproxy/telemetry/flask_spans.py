"""Spans of requests, by OpenTelemetry's instrumentation of Flask.

It could measure requests too, but only to the head of their responses, and at a third of
the cost of a small request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import TracerProvider

from authproxy.http1.inbound_request import InboundRequest
from authproxy.redaction import masked
from authproxy.telemetry.tracing import ServerTracerProvider

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from flask import Flask


def trace_requests(
    app: Flask, provider: TracerProvider, untraced: Iterable[str], *, log_query: bool
) -> None:
    """Have each request of the application traced, but not those for these paths."""
    with _stable_http_conventions():
        FlaskInstrumentor.instrument_app(  # type: ignore[no-untyped-call]
            app,
            tracer_provider=ServerTracerProvider(provider),
            meter_provider=NoOpMeterProvider(),
            excluded_urls=_exclusion(untraced),
            enable_commenter=False,
        )
    seen = _as_it_came(app.wsgi_app, log_query=log_query)
    app.wsgi_app = seen  # type: ignore[method-assign, assignment]


@contextmanager
def _stable_http_conventions() -> Iterator[None]:
    """Have what is instrumented meanwhile follow the stable semantic conventions of HTTP.

    The library reads OTEL_SEMCONV_STABILITY_OPT_IN once for the process, and takes no
    argument. Under mod_wsgi the process may serve other applications: neither its environment
    nor their instrumentation may change. `http/dup`, where that is set, stays.
    """
    from opentelemetry.instrumentation import _semconv

    conventions, http = (
        _semconv._OpenTelemetrySemanticConventionStability,
        _semconv._OpenTelemetryStabilitySignalType.HTTP,
    )
    conventions._initialize()  # type: ignore[no-untyped-call]
    of_process = conventions._OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING
    if of_process[http] == _semconv._StabilityMode.DEFAULT:
        ours = {**of_process, http: _semconv._StabilityMode.HTTP}
        conventions._OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING = ours
    try:
        yield
    finally:
        conventions._OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING = of_process


def _exclusion(paths: Iterable[str]) -> str:
    """Return the pattern of these paths: the instrumentation matches raw targets of any form."""
    return rf"^((?i:https?)://[^/?]*)?({'|'.join(map(re.escape, paths))})(\?|$)"


def _as_it_came(application: WSGIApplication, *, log_query: bool) -> WSGIApplication:
    """Show the instrumentation the raw path, and the query only if it may be logged.

    Tokens are masked in both. Only the instrumentation reads what is changed here: the
    proxy itself reads REQUEST_URI.
    """

    def wrapped(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = InboundRequest.of(environ)
        if not request.malformed:
            environ["PATH_INFO"] = masked(request.path)
        if not environ.get("SERVER_PORT", "").isdigit():  # a Unix socket has none: int() would fail
            environ["SERVER_PORT"] = ""
        environ["QUERY_STRING"] = masked(environ.get("QUERY_STRING", "")) if log_query else ""
        return application(environ, start_response)

    return wrapped
