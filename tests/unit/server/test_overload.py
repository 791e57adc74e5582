"""More requests than threads: a bounded queue, an honest 503, and probes that answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from authproxy.server.limits import Limits
from tests.support.process import wait_until
from tests.support.serving import Serving
from tests.support.wire import DEADLINE, Client, message

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

LIMITS = Limits(threads=2, queue=3, shutdown_grace=DEADLINE)


class Slow:
    """Holds each request until it is released; a probe it answers at once."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.held = threading.Semaphore(0)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "GET" or environ["REQUEST_URI"] != "/health":
            self.held.release()
            assert self.release.wait(DEADLINE)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]


@pytest.fixture
def slow() -> Iterator[Slow]:
    application = Slow()
    yield application
    application.release.set()


def has_queued(server: Serving, requests: int) -> bool:
    return server.queued == requests


@pytest.fixture
def crowded(slow: Slow) -> Iterator[tuple[Serving, list[Client]]]:
    """A server whose two threads are held and whose queue of three is full."""
    with Serving(slow, LIMITS, urgent=frozenset({"/health"})) as server:
        clients = [server.connect() for _ in range(5)]
        for number, client in enumerate(clients):
            client.send(message("POST /slow", body=b"x"))
            if number < 2:
                assert slow.held.acquire(timeout=DEADLINE)
            else:
                wait_until("it waits", partial(has_queued, server, number - 1))
        yield server, clients
        slow.release.set()
        for client in clients:
            client.close()


def test_one_more_than_may_wait_is_told_to_come_again(
    crowded: tuple[Serving, list[Client]],
) -> None:
    server, _ = crowded
    refused = server.ask(message("POST /slow", "X-Request-ID: abc", body=b"x"))
    assert (refused.status, refused.one("Retry-After")) == (503, "1")
    assert json.loads(refused.body)["code"] == "Overloaded"
    assert refused.one("X-Request-ID") == "abc"


def test_those_that_may_wait_are_all_served(
    slow: Slow, crowded: tuple[Serving, list[Client]]
) -> None:
    server, clients = crowded
    assert server.ask(message("GET /more")).status == 503
    slow.release.set()
    assert [client.receive().status for client in clients] == [200] * 5
    assert server.ask(message("GET /more")).status == 200


def test_a_probe_needs_no_thread_of_those_that_are_taken(
    crowded: tuple[Serving, list[Client]],
) -> None:
    server, _ = crowded
    assert server.ask(message("GET /health")).status == 200


def test_what_only_looks_like_a_probe_waits_as_all_others(
    crowded: tuple[Serving, list[Client]],
) -> None:
    server, _ = crowded
    assert server.ask(message("POST /health", body=b"x")).status == 503
    assert server.ask(message("GET /health/")).status == 503


def test_a_malformed_request_is_refused_at_once(crowded: tuple[Serving, list[Client]]) -> None:
    server, _ = crowded
    assert server.ask(b"GET / HTTP/1.1\r\n\r\n").status == 400


def test_refusals_are_counted_and_the_log_says_so_once(
    slow: Slow, caplog: pytest.LogCaptureFixture, crowded: tuple[Serving, list[Client]]
) -> None:
    server, _ = crowded
    for _ in range(3):
        server.ask(message("GET /more"))
    assert server.refused == [("GET", "/more", 503)] * 3
    assert caplog.text.count("Overloaded") == 1


class Unread:
    """`/large` is two pieces, of which the second goes past what may wait of one response."""

    def __init__(self) -> None:
        self.served: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        self.served.append(environ["REQUEST_URI"])
        piece = bytes(4_000_000) if environ["REQUEST_URI"] == "/large" else b"o"
        start_response("200 OK", [("Content-Length", str(2 * len(piece)))])
        return [piece, piece]


@pytest.mark.parametrize(
    "behind", [message("GET /health"), b"garbage\r\n\r\n", message("GET /health") * 200]
)
def test_what_comes_behind_an_unread_response_waits_and_nobody_else_does(behind: bytes) -> None:
    """Probes and refusals come at once, though one waits behind what its client does not take."""
    application = Unread()
    limits = Limits(threads=2, shutdown_grace=0)
    with (
        Serving(application, limits, urgent=frozenset({"/health"})) as server,
        server.connect() as client,
    ):
        client.send(message("GET /large") + behind)
        wait_until("it is served", lambda: "/large" in application.served)
        for _ in range(3):
            assert server.get("/health").body == b"oo"
            assert server.ask(b"garbage\r\n\r\n").status == 400
            assert server.get("/other").body == b"oo"
        assert application.served.count("/health") == 3
        # The client reads after all: what waited is served.
        assert len(client.receive().body) == 8_000_000
        assert client.receive().status in (200, 400)
