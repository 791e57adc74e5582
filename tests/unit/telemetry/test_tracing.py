"""The spans of a request, an exchange and a refresh: what they say, and when they end."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id, use_span

from authproxy.http1.headers import Field
from authproxy.http1.urls import TargetURL
from authproxy.telemetry.token_refreshes import Identity, TokenSide
from authproxy.telemetry.tracing import (
    ClientSide,
    ServerSpan,
    ServerTracerProvider,
    current_server_span,
)
from tests.unit.telemetry.conftest import Measured, Traced

URL = TargetURL.parse("t.test:8443")
#: What looks like a signed token.
TOKEN = "eyJhbGciOiJub25lIn0.eyJhIjoxfQ.c2ln"


def started(traced: Traced) -> ServerSpan:
    """Return a span as the instrumentation of Flask begins one."""
    span = ServerTracerProvider(traced.provider).get_tracer("flask").start_span("GET /")
    assert isinstance(span, ServerSpan)
    return span


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


# -- of the request ----------------------------------------------------------------------


def test_a_request_is_called_as_the_retired_proxy_called_it(traced: Traced) -> None:
    started(traced).end()
    assert traced.only().name == "ProxyRequest"


def test_a_span_that_is_held_ends_with_its_response(traced: Traced) -> None:
    span = started(traced)
    span.hold()
    span.end()  # the view has returned
    assert traced.spans == []
    span.set_attribute("http.response.status_code", 200)
    span.release()
    span.release()  # harmless
    assert attributes(traced.only()) == {"http.response.status_code": 200}


def test_a_span_that_nobody_holds_is_not_released(traced: Traced) -> None:
    span = started(traced)
    span.release()
    assert traced.spans == []
    span.end()
    assert len(traced.spans) == 1


def test_the_span_of_the_request_is_found_by_its_thread(traced: Traced) -> None:
    assert current_server_span() is None
    span = started(traced)
    with use_span(span):
        assert current_server_span() is span
        with traced.provider.get_tracer("other").start_as_current_span("inner"):
            assert current_server_span() is None
    assert current_server_span() is None
    span.end()


@pytest.mark.parametrize("at_once", [True, False])
def test_credentials_among_captured_fields_are_masked(traced: Traced, at_once: bool) -> None:
    captured = {
        "http.request.header.authorization": ["Bearer planted"],
        "http.request.header.proxy_authorization": ["Basic planted"],
        "http.request.header.x_authproxy_token": ["planted"],
        "http.request.header.x_other": [f"a {TOKEN} b", "plain"],
        "url.path": "/x",
    }
    span = started(traced)
    if at_once:
        span.set_attributes(captured)
    else:
        for name, value in captured.items():
            span.set_attribute(name, value)
    span.end()
    assert attributes(traced.only()) == {
        "http.request.header.authorization": ("***",),
        "http.request.header.proxy_authorization": ("***",),
        "http.request.header.x_authproxy_token": ("***",),
        "http.request.header.x_other": ("a *** b", "plain"),
        "url.path": "/x",
    }


# -- of an exchange with the target ------------------------------------------------------


def side(measured: Measured, traced: Traced | None, *, log_query: bool = True) -> ClientSide:
    provider = None if traced is None else traced.provider
    return ClientSide(measured.instruments, URL, log_query=log_query, provider=provider)


FIELDS: Sequence[Field] = [
    ("Host", "t.test"),
    ("Traceparent", "00-" + "1" * 32 + "-" + "2" * 16 + "-01"),
    ("Baggage", "of=client"),
]


def test_without_tracing_the_fields_go_out_as_they_are(measured: Measured) -> None:
    assert side(measured, None).attempt("GET", "/x", 1).carried(FIELDS) is FIELDS


def test_the_context_of_the_trace_goes_on_to_the_target(measured: Measured, traced: Traced) -> None:
    attempt = side(measured, traced).attempt("GET", "/x", 1)
    sent = attempt.carried(FIELDS)
    attempt.ended(0)
    context = traced.only().get_span_context()
    assert context is not None
    ids = f"{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}"
    assert sent == [
        ("Host", "t.test"),
        ("Baggage", "of=client"),
        ("Traceparent", f"00-{ids}-{context.trace_flags:02x}"),
    ]


def test_an_exchange_is_a_span_and_a_measurement(measured: Measured, traced: Traced) -> None:
    attempt = side(measured, traced).attempt("GET", "/x?y=z", 1)
    attempt.response_began(200)
    attempt.ended(7)
    attempt.ended(9, "TargetTimeout")  # does not count
    span = traced.only()
    shared = {
        "http.request.method": "GET",
        "server.address": "t.test",
        "server.port": 8443,
        "http.response.status_code": 200,
    }
    assert (span.name, span.kind) == ("GET", SpanKind.CLIENT)
    assert span.status.status_code is StatusCode.UNSET
    assert attributes(span) == {
        **shared,
        "url.full": "https://t.test:8443/x?y=z",
        "authproxy.attempt": 1,
        "http.response.body.size": 7,
    }
    assert measured.counts("http.client.request.duration") == {frozenset(shared.items()): 1}


@pytest.mark.parametrize(
    ("status", "error", "kind", "description"),
    [
        (404, None, "404", None),
        (503, None, "503", None),
        (200, "TargetProtocolError", "TargetProtocolError", "TargetProtocolError"),
        (None, "TargetUnreachable", "TargetUnreachable", "TargetUnreachable"),
    ],
)
def test_an_exchange_that_fails_says_how(
    measured: Measured,
    traced: Traced,
    status: int | None,
    error: str | None,
    kind: str,
    description: str | None,
) -> None:
    attempt = side(measured, traced).attempt("GET", "/x", 1)
    if status is not None:
        attempt.response_began(status)
    attempt.ended(0, error)
    span = traced.only()
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == description
    assert attributes(span)["error.type"] == kind
    assert attributes(span).get("http.response.status_code") == status
    (measurement,) = measured.counts("http.client.request.duration")
    assert dict(measurement)["error.type"] == kind


def test_a_request_that_is_sent_again_says_so(measured: Measured, traced: Traced) -> None:
    target = side(measured, traced)
    target.in_force()
    target.attempt("BREW", "/x", 1).ended(0, "DeadConnection")
    target.retried("dead_connection")
    target.attempt("BREW", "/x", 2).ended(0)
    first, second = traced.spans
    assert (first.name, second.name) == ("HTTP", "HTTP")
    assert attributes(first)["http.request.method"] == "_OTHER"
    assert attributes(first)["http.request.method_original"] == "BREW"
    assert "http.request.resend_count" not in attributes(first)
    assert attributes(second)["http.request.resend_count"] == 1
    assert attributes(second)["authproxy.attempt"] == 2
    retries = measured.values("aad_auth_proxy_target_retries_total")
    assert {dict(of_series)["reason"]: count for of_series, count in retries.items()} == {
        "dead_connection": 1,
        "unauthorized": 0,
    }


@pytest.mark.parametrize(("log_query", "shown"), [(True, "/a/***?token=***"), (False, "/a/***")])
def test_the_url_of_a_span_has_no_token_and_no_query_that_is_not_logged(
    measured: Measured, traced: Traced, log_query: bool, shown: str
) -> None:
    target = side(measured, traced, log_query=log_query)
    target.attempt("GET", f"/a/{TOKEN}?token={TOKEN}", 1).ended(0)
    assert attributes(traced.only())["url.full"] == f"https://t.test:8443{shown}"


# -- of a refresh ------------------------------------------------------------------------

IDENTITY = Identity("https://a.test/.default", "client", "tenant", "userassigned")


def outcomes(measured: Measured) -> dict[bool, float]:
    values = measured.values("aad_auth_proxy_token_refresh_total")
    return {dict(of_series)["is_success"]: count for of_series, count in values.items()}


def test_a_refresh_says_until_when_the_token_is_valid(measured: Measured, traced: Traced) -> None:
    tokens = TokenSide(measured.instruments.tokens, IDENTITY, traced.provider)
    tokens.in_force()
    with tokens.refresh() as refresh:
        refresh.succeeded(expires_at=3600, next_refresh=1800)
    span = traced.only()
    assert (span.name, span.status.status_code) == ("refreshAADToken", StatusCode.UNSET)
    assert attributes(span) == {
        **IDENTITY._asdict(),
        "is_success": True,
        "token.expiry_timestamp": "1970-01-01T01:00:00Z",
        "tokenrefresh.next_refresh_timestamp": "1970-01-01T00:30:00Z",
    }
    assert outcomes(measured) == {True: 1, False: 0}
    assert list(measured.values("aad_auth_proxy_token_expiry_timestamp_seconds").values()) == [3600]
    tokens.ended()
    assert measured.values("aad_auth_proxy_token_expiry_timestamp_seconds") == {}


def test_a_refresh_that_fails_says_why(measured: Measured, traced: Traced) -> None:
    tokens = TokenSide(measured.instruments.tokens, IDENTITY, traced.provider)
    tokens.in_force()
    with tokens.refresh() as refresh:
        refresh.failed("AADSTS700016: no such application", next_refresh=60)
    span = traced.only()
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "AADSTS700016: no such application"
    assert attributes(span) == {
        **IDENTITY._asdict(),
        "is_success": False,
        "tokenrefresh.next_refresh_timestamp": "1970-01-01T00:01:00Z",
    }
    assert outcomes(measured) == {True: 0, False: 1}


def test_without_tracing_refreshes_are_counted_all_the_same(measured: Measured) -> None:
    tokens = TokenSide(measured.instruments.tokens, IDENTITY, None)
    tokens.in_force()
    with tokens.refresh() as refresh:
        refresh.succeeded(expires_at=3600, next_refresh=1800)
    with tokens.refresh() as refresh:
        refresh.failed("no", next_refresh=1800)
    assert outcomes(measured) == {True: 1, False: 1}
