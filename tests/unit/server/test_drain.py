"""How the server comes to its end: what it finishes, what it refuses, what it cuts."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from authproxy.server.limits import Limits
from tests.support.process import wait_until
from tests.support.serving import RecordedLifecycle, Serving
from tests.support.wire import DEADLINE, Truncated, WireError, message

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Held:
    """Streams one byte, waits until released, and streams another; 503 once refusing."""

    def __init__(self) -> None:
        self.lifecycle: RecordedLifecycle | None = None
        self.arrived = threading.Semaphore(0)
        self.release = threading.Event()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        if self.lifecycle is not None and self.lifecycle.refusing.is_set():
            start_response("503 Service Unavailable", [("Content-Length", "0")])
            return
        start_response("200 OK", [("Content-Length", "2")])
        if environ["PATH_INFO"] == "/quick":
            yield b"ok"
            return
        yield b"1"
        self.arrived.release()
        self.release.wait(DEADLINE)
        yield b"2"

    def wait_until_held(self) -> None:
        assert self.arrived.acquire(timeout=DEADLINE)


@pytest.fixture
def held() -> Iterator[Held]:
    application = Held()
    yield application
    application.release.set()


def refuses_connections(server: Serving) -> bool:
    try:
        with socket.create_connection(server.address, timeout=1):
            return False
    except OSError:
        return True


def test_a_streaming_response_is_finished(held: Held) -> None:
    with Serving(held) as server, server.connect() as client:
        client.send(message("GET /"))
        held.wait_until_held()
        server.stop()
        assert server.lifecycle.draining.wait(DEADLINE)
        held.release.set()
        assert client.receive().body == b"12"
        assert client.is_closed_by_peer()
        server.wait_until_ended()


def test_an_idle_connection_is_closed_at_once(held: Held) -> None:
    with Serving(held) as server, server.connect() as idle, server.connect() as busy:
        assert idle.ask(message("GET /quick")).body == b"ok"
        busy.send(message("GET /"))
        held.wait_until_held()
        server.stop()
        assert idle.is_closed_by_peer()
        held.release.set()
        assert busy.receive().body == b"12"


def test_a_response_in_the_drain_says_that_the_connection_ends(held: Held) -> None:
    limits = Limits(threads=1, shutdown_grace=DEADLINE)
    with Serving(held, limits) as server, server.connect() as first, server.connect() as second:
        first.send(message("GET /"))
        held.wait_until_held()
        second.send(message("GET /quick"))
        server.stop()
        assert server.lifecycle.draining.wait(DEADLINE)
        held.release.set()
        response = second.receive()
        assert (response.body, response.one("Connection")) == (b"ok", "close")


def test_a_request_received_in_part_is_served(held: Held) -> None:
    with Serving(held) as server, server.connect() as client:
        assert client.ask(message("GET /quick")).body == b"ok"
        client.send(message("POST /quick", "Content-Length: 5", body=b"hel"))
        server.stop()
        wait_until("no longer accepting", lambda: refuses_connections(server))
        client.send(b"lo")
        assert client.receive().body == b"ok"


def test_a_connection_that_waited_to_be_accepted_is_served(held: Held) -> None:
    with Serving(held) as server:
        clients = [server.connect() for _ in range(20)]
        for client in clients:
            client.send(message("GET /quick"))
        server.stop()
        for client in clients:
            assert client.receive().body == b"ok"
            client.close()


def test_requests_are_accepted_for_the_delay_while_readiness_says_no(held: Held) -> None:
    limits = Limits(threads=2, shutdown_delay=3, shutdown_grace=DEADLINE)
    with Serving(held, limits) as server:
        server.stop()
        assert server.lifecycle.draining.wait(DEADLINE)
        assert server.get("/quick").body == b"ok"
        wait_until("no longer accepting", lambda: refuses_connections(server))
        server.wait_until_ended()


def test_after_the_grace_queued_requests_are_refused_and_the_rest_is_cut(
    held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    limits = Limits(threads=2, shutdown_grace=0.3)
    with Serving(held, limits) as server:
        held.lifecycle = server.lifecycle
        running = [server.connect() for _ in range(2)]
        for client in running:
            client.send(message("GET /"))
            held.wait_until_held()
        queued = [server.connect() for _ in range(10)]
        for client in queued:
            client.send(message("GET /quick"))
        wait_until("all wait", lambda: server.queued == len(queued))
        server.stop()
        for client in queued:
            assert client.receive().status == 503
            client.close()
        for client in running:
            with pytest.raises(Truncated):
                client.receive()
            client.close()
        server.wait_until_ended()
        held.release.set()
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.__dict__["fields"] == {"Count": 2}
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.INFO] == [
        "Draining",
        "Stopped",
    ]


def test_a_client_that_does_not_read_cannot_hold_the_end_beyond_the_grace() -> None:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        while True:
            yield bytes(64 * 1024)

    with Serving(application, Limits(threads=1, shutdown_grace=0.3)) as server:
        client = server.connect()
        client.send(message("GET /"))
        client.receive_head()
        server.stop()
        server.wait_until_ended()
        client.close()


def test_nothing_is_sent_after_the_last_response(held: Held) -> None:
    with Serving(held) as server, server.connect() as client:
        client.send(message("GET /") + message("GET /quick"))
        held.wait_until_held()
        server.stop()
        assert server.lifecycle.draining.wait(DEADLINE)
        held.release.set()
        assert client.receive().body == b"12"
        # The first of the two has its head out already: the second says the end.
        second = client.receive()
        assert (second.body, second.one("Connection")) == (b"ok", "close")
        with pytest.raises((WireError, ConnectionError)):
            client.ask(message("GET /quick"))
