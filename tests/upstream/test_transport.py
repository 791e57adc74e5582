"""Connections to the target when the settings that they were made for have been replaced."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from authproxy.http1.urls import TargetURL
from authproxy.upstream.request import OutboundRequest
from authproxy.upstream.transport import Answer, TargetAdapter
from tests.support.process import wait_until
from tests.support.upstream import Upstream

REQUEST = OutboundRequest("GET", "/x", [("Host", "target.test")])


@pytest.fixture
def plain() -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.close()


@pytest.fixture
def adapter(plain: Upstream) -> TargetAdapter:
    url = TargetURL.parse(plain.url, allow_http=True)
    return TargetAdapter(url, pool_size=2, connect_timeout=5, read_timeout=5)


def exchange(adapter: TargetAdapter) -> Answer:
    return adapter.exchange(REQUEST, "Bearer x")


def read(answer: Answer) -> bytes:
    return b"".join(answer.body())


def closed(plain: Upstream) -> None:
    wait_until("the connection is closed", lambda: plain.open_connections == 0)


def test_idle_connections_are_closed(adapter: TargetAdapter, plain: Upstream) -> None:
    read(exchange(adapter))
    assert plain.open_connections == 1
    adapter.close()
    closed(plain)


def test_one_in_use_is_closed_after_its_answer(adapter: TargetAdapter, plain: Upstream) -> None:
    answer = exchange(adapter)
    adapter.close()
    assert plain.open_connections == 1
    read(answer)
    closed(plain)


def test_a_request_that_comes_late_is_sent_on_a_connection_of_its_own(
    adapter: TargetAdapter, plain: Upstream
) -> None:
    adapter.close()
    for _ in range(2):
        answer = exchange(adapter)
        assert answer.status == 200
        read(answer)
        closed(plain)
    assert len(plain.requests) == 2
