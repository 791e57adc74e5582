"""The events that the program reports: all of them are counted, or cost nothing."""

from __future__ import annotations

import pytest

from authproxy.http1.headers import Field
from authproxy.http1.inbound_request import InboundRequest
from authproxy.http1.urls import TargetURL
from authproxy.telemetry.events import (
    Attempt,
    Refresh,
    RequestWatch,
    TargetTelemetry,
    Telemetry,
    TokenTelemetry,
)
from authproxy.telemetry.sdk import ObservedRequest, SDKTelemetry
from authproxy.telemetry.token_refreshes import Identity, TokenSide
from authproxy.telemetry.tracing import ClientSide, ObservedAttempt
from tests.unit.telemetry.conftest import Measured


def events(kind: type) -> set[str]:
    """Return the methods of a class that others call."""
    return {name for name in vars(kind) if callable(vars(kind)[name]) and name[0] != "_"}


@pytest.mark.parametrize(
    ("reported", "counting"),
    [
        (RequestWatch, ObservedRequest),
        (Attempt, ObservedAttempt),
        (TargetTelemetry, ClientSide),
        (TokenTelemetry, TokenSide),
        (Telemetry, SDKTelemetry),
    ],
)
def test_no_event_is_lost_where_telemetry_is_on(reported: type, counting: type) -> None:
    assert events(reported) != set()
    assert events(reported) - events(counting) == set()


def test_no_event_of_a_refresh_is_lost(measured: Measured) -> None:
    identity = Identity("https://a.test/.default", "", "", "systemassigned")
    with TokenSide(measured.instruments.tokens, identity, None).refresh() as refresh:
        assert events(Refresh) == events(type(refresh)) == {"succeeded", "failed"}


def test_where_telemetry_is_off_nothing_is_made_for_a_request() -> None:
    telemetry, fields = Telemetry(), list[Field]([("Host", "t.test")])
    request = InboundRequest.read({"REQUEST_METHOD": "GET", "REQUEST_URI": "/x"})
    watch = telemetry.request(request)
    assert telemetry.request(request) is watch
    with watch.current():
        watch.failing(None, "why")
    watch.ended(503)
    target = telemetry.of_target(TargetURL.parse("t.test"))
    attempt = target.attempt("GET", "/x", 1)
    assert target.attempt("GET", "/y", 2) is attempt
    assert attempt.carried(fields) is fields
    assert telemetry.collector is None
    assert telemetry.recent() == {}
