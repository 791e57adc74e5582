"""What is read off the answers of identity endpoints."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.demo.stand_ins.loopback import Response
from authproxy.identity.endpoint_errors import EndpointResponse
from authproxy.identity.http_transport import (
    IdentitySession,
    date_ahead_of,
    retry_after_seconds,
)
from authproxy.tls import client_context
from tests.support.stand_ins.faults import FaultyStandIn

#: Sun, 06 Nov 1994 08:49:37 GMT, the RFC's own example of a date.
NOW = 784111777.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ("Sat, 05 Nov 1994 08:49:37 GMT", 0),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("٣", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value, NOW) == seconds


@given(st.text(max_size=60))
def test_no_retry_after_breaks_the_reading(value: str) -> None:
    seconds = retry_after_seconds(value, NOW)
    assert seconds is None or seconds >= 0


def test_a_response_without_words_is_still_a_sentence() -> None:
    assert str(EndpointResponse(503, "login.example.com")) == "HTTP 503 from login.example.com"


@pytest.fixture(scope="module")
def context() -> ssl.SSLContext:
    """To load the system's authorities takes longer than most tests."""
    return client_context()


def test_the_last_response_is_remembered(context: ssl.SSLContext) -> None:
    service = FaultyStandIn()
    listener = service.listen(lambda request: Response.of_json(200, {}))
    service.fail_with(429, {"message": "too\nmany"}, {"Retry-After": "17"}, times=1)
    with service, IdentitySession(context) as session:
        session.get(listener.url)
        assert session.response == EndpointResponse(
            429, "127.0.0.1", "too many", retry_after="17", managed=True
        )
        session.get(listener.url)
        assert session.response == EndpointResponse(200, "127.0.0.1", managed=True)


def test_the_clock_of_who_answers_is_compared_with_ours(context: ssl.SSLContext) -> None:
    service = FaultyStandIn()
    listener = service.listen(lambda request: Response.of_json(200, {}))
    with service, IdentitySession(context) as session:
        assert session.clock_offset is None
        session.get(listener.url)
        assert session.clock_offset is not None
        assert abs(session.clock_offset) < 60  # the same machine, and a slow one at that


@pytest.mark.parametrize(
    ("date", "ahead"),
    [
        ("Thu, 01 Jan 1970 00:20:00 GMT", 200.0),
        ("Thu, 01 Jan 1970 00:10:00 GMT", -400.0),
        ("soon", None),
        ("Thu, 99 Jan 1970 00:00:00 GMT", None),
        (None, None),
    ],
)
def test_a_date_is_so_far_ahead(date: str | None, ahead: float | None) -> None:
    assert date_ahead_of(date, 1000.0) == ahead


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"error": "invalid_client", "error_description": "AADSTS1: no"}, "AADSTS1: no"),
        ({"statusCode": 400, "message": "no"}, "no"),
        ({"error": {"code": "ManagedIdentityNotFound", "message": "no"}}, "no"),
        ({"error": {"code": "ManagedIdentityNotFound"}}, "ManagedIdentityNotFound"),
        ({"error": "busy"}, "busy"),
        ({}, "{}"),
        ("no", "no"),
        ("<html>no</html>", "an HTML page"),
        ("<!DOCTYPE html>\n<head><TITLE a='b'> Sign in\n</TITLE>", "an HTML page, Sign in"),
        ("", ""),
    ],
)
def test_what_a_refusal_says_is_found_in_every_form_of_body(
    body: object, text: str, context: ssl.SSLContext
) -> None:
    service = FaultyStandIn()
    listener = service.listen(lambda request: Response(200))
    service.fail_with(400, body)
    with service, IdentitySession(context) as session:
        session.get(listener.url)
        assert session.response is not None
        assert session.response.text == text
        assert session.response.foreign is (body in ("no",) or "HTML" in text)


@pytest.mark.parametrize("body", ['{"access_token": "kept"}', "access_token=kept", "kept"])
def test_nothing_is_remembered_of_what_may_be_a_token(body: str, context: ssl.SSLContext) -> None:
    service = FaultyStandIn()
    listener = service.listen(lambda request: Response(200, body.encode()))
    with service, IdentitySession(context) as session:
        session.get(listener.url)
        assert "kept" not in repr(session.response)
