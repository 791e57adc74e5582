"""The Session of a target: what it sends and returns, and when its connections are closed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from requests.exceptions import InvalidSchema

from authproxy.http1.urls import TargetURL
from authproxy.upstream.request import OutboundRequest
from authproxy.upstream.response import UpstreamResponse
from authproxy.upstream.session import TargetSession
from tests.support import actions
from tests.support.process import wait_until
from tests.support.upstream import Upstream

REQUEST = OutboundRequest("GET", "/x", [("Host", "target.test")])


@pytest.fixture
def plain() -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.close()


@pytest.fixture
def session(plain: Upstream) -> Iterator[TargetSession]:
    url = TargetURL.parse(plain.url, allow_http=True)
    with TargetSession(url, pool_size=2, connect_timeout=5, read_timeout=5) as session:
        yield session


def exchange(session: TargetSession) -> UpstreamResponse:
    return session.exchange(REQUEST, "Bearer x")


def read(response: UpstreamResponse) -> bytes:
    return b"".join(response.body())


def closed(plain: Upstream) -> None:
    wait_until("the connection is closed", lambda: plain.open_connections == 0)


def test_idle_connections_are_closed(session: TargetSession, plain: Upstream) -> None:
    read(exchange(session))
    assert plain.open_connections == 1
    session.close()
    closed(plain)


def test_one_in_use_is_closed_after_its_response(session: TargetSession, plain: Upstream) -> None:
    response = exchange(session)
    session.close()
    assert plain.open_connections == 1
    read(response)
    closed(plain)


def test_a_request_that_comes_late_is_sent_on_a_connection_of_its_own(
    session: TargetSession, plain: Upstream
) -> None:
    session.close()
    for _ in range(2):
        response = exchange(session)
        assert response.status == 200
        read(response)
        closed(plain)
    assert len(plain.requests) == 2


# -- what requests would do to a request and a response, and does not here -----------------


@pytest.mark.parametrize(
    "target",
    ["/a%2fb", "/%7e", "/x//y", "/x/../y", "/q?", "/%zz", '/{}"|^', "//host/x", "//[", "*", "?x"],
)
def test_the_request_target_crosses_byte_for_byte(
    session: TargetSession, plain: Upstream, target: str
) -> None:
    read(session.exchange(OutboundRequest("OPTIONS", target, [("Host", "t.test")]), "Bearer x"))
    assert plain.only().head.split(b"\r\n") == [
        f"OPTIONS {target} HTTP/1.1".encode(),
        b"Host: t.test",
        b"Authorization: Bearer x",
        b"",
        b"",
    ]


def test_fields_keep_order_case_and_repeats_both_ways(
    session: TargetSession, plain: Upstream
) -> None:
    there = [("x-b", "1"), ("X-A", "2"), ("x-b", "3"), ("Cookie", "a=b")]
    back = [("set-cookie", "a=1; Path=/"), ("X-A", "2"), ("Set-Cookie", "b=2"), ("x-a", "3")]
    plain.respond(actions.answer("299 It's  odd", *back, body=b""))
    response = session.exchange(OutboundRequest("GET", "/", there), "Bearer x")
    assert plain.only().fields == [*there, ("Authorization", "Bearer x")]
    assert response.fields == [*back, ("Content-Length", "0")]
    assert (response.status_code, response.reason) == (299, "It's  odd")
    assert response.headers["Set-COOKIE"] == "a=1; Path=/, b=2"
    assert response.headers["x-A"] == response.field("x-a") == "2, 3"


def test_no_cookie_is_kept(session: TargetSession, plain: Upstream) -> None:
    plain.respond(actions.answer(200, "Set-Cookie: a=1; Path=/"))
    for _ in range(2):
        assert not read(exchange(session))
    assert [request.all("Cookie") for request in plain.requests] == [[], []]
    assert not session.cookies


def test_a_redirect_is_neither_followed_nor_read(session: TargetSession, plain: Upstream) -> None:
    gate = plain.gate()
    head = actions.head(302, "Location: /elsewhere", "Content-Length: 4")
    plain.respond(actions.raw(head, gate, b"gone"))
    response = exchange(session)
    assert response.status == 302
    gate.open()
    assert read(response) == b"gone"
    assert plain.only().target == b"/x"


def test_a_body_is_passed_on_as_it_arrives_and_never_decoded(
    session: TargetSession, plain: Upstream
) -> None:
    gate = plain.gate()
    head = actions.head(200, "Content-Encoding: gzip", "Transfer-Encoding: chunked")
    plain.respond(actions.raw(head + b"3\r\nnot\r\n", gate, b"4\r\n gz!\r\n0\r\n\r\n"))
    pieces = exchange(session).iter_content(None)
    assert next(pieces) == b"not"
    gate.open()
    assert b"".join(pieces) == b" gz!"


def test_the_session_reaches_nothing_but_its_target(
    session: TargetSession, plain: Upstream
) -> None:
    with pytest.raises(InvalidSchema):
        session.get("http://127.0.0.1/")
    assert not plain.requests


def test_a_request_that_requests_has_rewritten_is_not_sent(
    session: TargetSession, plain: Upstream
) -> None:
    with pytest.raises(TypeError, match="RawRequest"):
        session.get(f"{plain.url}/x")
    assert not plain.accepted
