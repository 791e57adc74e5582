"""What is counted of requests, exchanges and tokens, as the SDK reads it."""

from __future__ import annotations

from collections import Counter
from unittest.mock import ANY

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.telemetry.recent_requests import RecentRequests
from authproxy.telemetry.series import EndedExchange, EndedRequest
from authproxy.telemetry.token_refreshes import Identity, TokenSide
from tests.unit.telemetry.conftest import Labels, Measured

FINE = EndedRequest(
    *("GET", "/x", "Prometheus/3.5.0 (linux)", "http", "t.test"),
    status=200,
    seen_status=200,
    request_bytes=3,
    response_bytes=5,
    target_responded=True,
)
REQUESTS = "aad_auth_proxy_requests_total"
IN_FLIGHT = "aad_auth_proxy_requests_in_flight"
RETRIES = "aad_auth_proxy_target_retries_total"
REFRESHES = "aad_auth_proxy_token_refresh_total"
EXPIRY = "aad_auth_proxy_token_expiry_timestamp_seconds"
NONE: Labels = frozenset()


def labels(**given: object) -> Labels:
    return frozenset(given.items())


OF_FINE = {
    "target_host": "t.test",
    "method": "GET",
    "path": "/x",
    "user_agent": "Prometheus/3.5.0",
}


def test_a_request_is_counted_with_its_bytes_and_duration(measured: Measured) -> None:
    measured.instruments.request_began("GET", "http")
    measured.instruments.request_ended(FINE, 0.25)
    with_status = labels(**OF_FINE, status_code=200)
    assert measured.values(REQUESTS) == {with_status: 1}
    assert measured.values("aad_auth_proxy_request_bytes_total") == {labels(**OF_FINE): 3}
    assert measured.values("aad_auth_proxy_response_bytes_total") == {with_status: 5}
    (milliseconds,) = measured.points("aad_auth_proxy_request_duration_milliseconds").values()
    (seconds,) = measured.points("http.server.request.duration").values()
    assert (milliseconds.sum, seconds.sum) == (250, 0.25)


def test_uploads_are_summed_over_all_statuses(measured: Measured) -> None:
    for status in (200, 404):
        measured.instruments.request_ended(FINE._replace(status=status, began=False), 0)
    assert len(measured.values(REQUESTS)) == 2
    assert measured.values("aad_auth_proxy_request_bytes_total") == {labels(**OF_FINE): 6}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"status": 404, "seen_status": 404}, {}),
        ({"status": 500, "seen_status": 500}, {"error.type": "500"}),
        (
            {"status": 403, "seen_status": 503, "error": "TargetRefusedIdentity"},
            {"error.type": "TargetRefusedIdentity"},
        ),
        ({"error": "ClientDisconnected"}, {"error.type": "ClientDisconnected"}),
        ({"method": "BREW", "scheme": "https"}, {}),
    ],
)
def test_the_conventions_have_what_the_client_saw(
    measured: Measured, changes: dict[str, object], expected: dict[str, str]
) -> None:
    request = FINE._replace(**changes, began=False)  # type: ignore[arg-type]
    measured.instruments.request_ended(request, 0)
    of_server = {
        "http.request.method": "_OTHER" if request.method == "BREW" else "GET",
        "url.scheme": request.scheme,
        "http.response.status_code": request.seen_status,
        **expected,
    }
    assert measured.counts("http.server.request.duration") == {labels(**of_server): 1}


def test_a_tunnel_is_not_in_flight_while_it_is_open(measured: Measured) -> None:
    active = labels(**{"http.request.method": "GET", "url.scheme": "https"})

    def state() -> tuple[float, float, float]:
        return (
            measured.values(IN_FLIGHT)[NONE],
            measured.values("http.server.active_requests").get(active, 0),
            measured.values("aad_auth_proxy_tunnels_open")[NONE],
        )

    assert state() == (0, 0, 0)
    measured.instruments.request_began("GET", "https")
    assert state() == (1, 1, 0)
    measured.instruments.tunnel_began("GET", "https")
    assert state() == (0, 0, 1)
    measured.instruments.tunnel_ended("GET", "https")
    assert state() == (1, 1, 0)
    measured.instruments.request_ended(FINE._replace(scheme="https", status=101), 1)
    assert state() == (0, 0, 0)


def test_what_the_server_refused_was_never_in_flight(measured: Measured) -> None:
    measured.instruments.request_ended(FINE._replace(began=False, status=400), 0)
    assert measured.values(IN_FLIGHT) == {NONE: 0}


_REQUESTS = st.builds(
    EndedRequest,
    method=st.sampled_from(["GET", "POST", "BREW"]),
    path=st.text(max_size=3).map("/".__add__),
    user_agent=st.text(max_size=5),
    scheme=st.sampled_from(["http", "https"]),
    target_host=st.sampled_from(["", "t.test"]),
    status=st.integers(100, 599),
    seen_status=st.integers(100, 599),
    error=st.none() | st.just("TargetTimeout"),
    request_bytes=st.integers(0, 10**12),
    response_bytes=st.integers(0, 10**12),
    began=st.booleans(),
)


@given(st.lists(_REQUESTS, max_size=20))
def test_nothing_is_lost_or_counted_twice(requests: list[EndedRequest]) -> None:
    measured = Measured()
    for request in requests:
        if request.began:
            measured.instruments.request_began(request.method, request.scheme)
    assert measured.values(IN_FLIGHT) == {NONE: sum(each.began for each in requests)}
    for request in requests:
        measured.instruments.request_ended(request, 0.1)
    by_status: Counter[int] = Counter()
    for of_series, count in measured.values(REQUESTS).items():
        by_status[dict(of_series)["status_code"]] += int(count)
    assert by_status == Counter(each.status for each in requests)
    for name in ("request_bytes", "response_bytes"):
        total = sum(measured.values(f"aad_auth_proxy_{name}_total").values())
        assert total == sum(getattr(each, name) for each in requests)
    assert measured.values(IN_FLIGHT) == {NONE: 0}
    measured.close()


def test_retries_are_zero_from_when_a_target_is_in_force(measured: Measured) -> None:
    dead = labels(target_host="t.test", reason="dead_connection")
    unauthorized = labels(target_host="t.test", reason="unauthorized")
    assert measured.values(RETRIES) == {}
    measured.instruments.add_target("t.test")
    assert measured.values(RETRIES) == {dead: 0, unauthorized: 0}
    measured.instruments.retried("t.test", "unauthorized")
    measured.instruments.add_target("t.test")  # after a reload
    assert measured.values(RETRIES) == {dead: 0, unauthorized: 1}


def test_responses_are_counted_by_what_they_say_of_the_identity(measured: Measured) -> None:
    responses = "aad_auth_proxy_target_responses_total"
    measured.instruments.add_target("t.test")
    values = measured.values(responses)
    assert len(values) == 6
    assert set(values.values()) == {0}
    measured.instruments.request_ended(FINE._replace(began=False), 0)
    refused = FINE._replace(began=False, status=403, is_write=True)
    measured.instruments.request_ended(refused, 0)
    measured.instruments.request_ended(refused._replace(seen_status=503, path="/y"), 0)
    measured.instruments.request_ended(refused._replace(target_responded=False), 0)
    assert {each: value for each, value in measured.values(responses).items() if value} == {
        labels(target_host="t.test", kind="other", identity="accepted"): 1,
        labels(target_host="t.test", kind="write", identity="refused"): 2,
    }


def test_exchanges_are_measured_under_their_attributes(measured: Measured) -> None:
    measured.instruments.exchange_ended(EndedExchange("GET", "t.test", 443, 403, "403"), 0.5)
    (point,) = measured.points("http.client.request.duration").values()
    assert (point.count, point.sum, dict(point.attributes)) == (
        1,
        0.5,
        {
            "http.request.method": "GET",
            "server.address": "t.test",
            "server.port": 443,
            "http.response.status_code": 403,
            "error.type": "403",
        },
    )


# -- tokens ------------------------------------------------------------------------------

IDENTITY = Identity("https://a.test/.default", "client", "tenant", "userassigned")
ONE = {
    "audience": "https://a.test/.default",
    "client_id": "client",
    "tenant_id": "tenant",
    "identity_type": "userassigned",
}


def source(measured: Measured, identity: Identity = IDENTITY) -> TokenSide:
    return TokenSide(measured.instruments.tokens, identity, None)


def refreshes(measured: Measured) -> tuple[float, float]:
    """Return how many have succeeded, and failed, of the one identity."""
    values = measured.values(REFRESHES)
    assert set(values) == {labels(**ONE, is_success=True), labels(**ONE, is_success=False)}
    return values[labels(**ONE, is_success=True)], values[labels(**ONE, is_success=False)]


def test_refreshes_are_zero_from_when_a_source_is_in_force(measured: Measured) -> None:
    series = source(measured)
    measured.instruments.tokens.add(series)
    assert refreshes(measured) == (0, 0)
    series.refreshed(is_success=False)
    series.refreshed(is_success=True, expires_at=100)
    measured.instruments.tokens.add(series)  # harmless
    assert refreshes(measured) == (1, 1)


def test_a_source_goes_on_with_the_counts_of_one_that_has_ended(measured: Measured) -> None:
    former, later = (
        source(measured),
        source(measured),
    )
    former.refreshed(is_success=True, expires_at=100)
    measured.instruments.tokens.add(former)
    former.ended()
    later.refreshed(is_success=True, expires_at=200)
    measured.instruments.tokens.add(later)
    assert refreshes(measured) == (2, 0)


def test_sources_of_the_same_identity_are_summed(measured: Measured) -> None:
    for expires_at in (100, 200):
        series = source(measured)
        series.refreshed(is_success=True, expires_at=expires_at)
        measured.instruments.tokens.add(series)
    assert refreshes(measured) == (2, 0)


def test_the_expiry_of_an_audience_is_the_earliest_of_its_tokens(measured: Measured) -> None:
    first, second = (source(measured, IDENTITY._replace(client_id=name)) for name in "ab")
    other = TokenSide(
        measured.instruments.tokens, IDENTITY._replace(audience="https://b.test/.default"), None
    )
    for series, expires_at in ((first, 200.0), (second, 100.0), (other, 300.0)):
        measured.instruments.tokens.add(series)
        series.refreshed(is_success=True, expires_at=expires_at)
    of_a, of_b = (labels(audience=f"https://{name}.test/.default") for name in "ab")
    assert measured.values(EXPIRY) == {of_a: 100, of_b: 300}
    second.refreshed(is_success=False)  # it keeps its token
    assert measured.values(EXPIRY) == {of_a: 100, of_b: 300}
    second.ended()
    assert measured.values(EXPIRY) == {of_a: 200, of_b: 300}


# -- for /status -------------------------------------------------------------------------


def test_requests_of_the_last_minutes_are_counted_only_where_they_are_shown(
    measured: Measured,
) -> None:
    measured.instruments.request_began("GET", "http")
    assert measured.instruments.recent() == {}
    shown = Measured(RecentRequests(lambda: 60.0))
    shown.instruments.request_began("GET", "http")
    shown.instruments.request_began("PUT", "https")
    shown.instruments.request_ended(FINE, 0)
    assert shown.instruments.recent() == {
        "in_flight": 1,
        "minutes": [{"minute": 1, "target_2xx": 1}],
        "failures": [],
        "targets": {"t.test": ANY},
    }
    shown.close()
