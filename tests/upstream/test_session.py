"""Connections to the target when the settings that they were made for have been replaced."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from authproxy.http1.urls import TargetURL
from authproxy.upstream.request import OutboundRequest
from authproxy.upstream.response import UpstreamResponse
from authproxy.upstream.session import TargetSession
from tests.support.process import wait_until
from tests.support.upstream import Upstream

REQUEST = OutboundRequest("GET", "/x", [("Host", "target.test")])


@pytest.fixture
def plain() -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.close()


@pytest.fixture
def session(plain: Upstream) -> TargetSession:
    url = TargetURL.parse(plain.url, allow_http=True)
    return TargetSession(url, pool_size=2, connect_timeout=5, read_timeout=5)


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
