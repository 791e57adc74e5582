"""What a connection may cost: slow, silent, half-finished and vanished clients."""

from __future__ import annotations

import resource
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from authproxy.server.limits import Limits, Timeouts, connection_limit
from tests.support.serving import Serving
from tests.support.wire import DEADLINE, Client, message

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

FOUR_THREADS = Limits(threads=4, shutdown_grace=DEADLINE)
PIECE = bytes(64 * 1024)


class Stalls:
    """`/big` answers 2 MB and `/endless` for ever; anything else at once."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/big":
            start_response("200 OK", [("Content-Length", str(32 * len(PIECE)))])
            return (PIECE for _ in range(32))
        if environ["PATH_INFO"] == "/endless":
            start_response("200 OK", [])
            return self._endless()
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    def _endless(self) -> Iterator[bytes]:
        try:
            while True:
                yield PIECE
        finally:
            self.closed.set()


def unread(server: Serving, target: str) -> Client:
    """Return a client that asked and does not read, with little room in its socket."""
    client = Client.__new__(Client)
    client.sock = socket.socket()
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.sock.connect(server.address)
    client.send(message(f"GET {target}"))
    return client


def test_half_requests_and_clients_that_do_not_read_hold_up_nobody() -> None:
    with Serving(Stalls(), FOUR_THREADS) as server, ExitStack() as held:
        for _ in range(200):
            held.enter_context(server.connect()).send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        for _ in range(64):
            client = held.enter_context(server.connect())
            client.send(message("POST /", "Content-Length: 1000000", body=bytes(70_000)))
        for _ in range(40):
            held.enter_context(unread(server, "/big"))
        assert server.get("/").body == b"ok"
        held.close()


def test_a_client_that_stops_reading_gives_its_thread_back() -> None:
    application = Stalls()
    with (
        Serving(application, Limits(threads=1), Timeouts(stall=0.2)) as server,
        unread(server, "/endless"),
    ):
        assert application.closed.wait(DEADLINE)
        assert server.get("/").body == b"ok"


def test_a_slow_reader_is_not_taken_for_one_that_stopped() -> None:
    with Serving(Stalls(), FOUR_THREADS, Timeouts(stall=1.2)) as server:
        while not reads_on(server, seconds=2.5, stall=1.2):
            pass  # this thread stood still for so long, on a busy machine


def reads_on(server: Serving, *, seconds: float, stall: float) -> bool:
    """Read slowly for so long; False if the reader has stopped meanwhile, against its will."""
    pause, longest = threading.Event(), 0.0
    with unread(server, "/endless") as client:
        began = last = time.monotonic()
        while last - began < seconds:
            pause.wait(0.1)
            came = client.sock.recv(512 * 1024)
            now = time.monotonic()
            longest, last = max(longest, now - last), now
            if not came or longest > stall / 2:
                assert longest > stall / 2, "the connection was closed"
                return False
    return True


def test_a_slow_target_is_not_taken_for_a_stuck_connection() -> None:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        threading.Event().wait(3.2)
        yield b"late"

    # Long enough for the request to come, on a busy machine too.
    everything = Timeouts(idle=2, request=2, stall=0.1, linger=0.1, linger_silence=0.1)
    with Serving(application, FOUR_THREADS, everything) as server:
        assert server.get("/").body == b"late"


@pytest.mark.parametrize(
    "sent", [b"", message("GET /")], ids=["a new connection", "a connection kept alive"]
)
def test_an_idle_connection_is_closed(sent: bytes) -> None:
    with Serving(Stalls(), FOUR_THREADS, Timeouts(idle=2)) as server, server.connect() as client:
        if sent:
            assert client.ask(sent).status == 200
        assert client.is_closed_by_peer()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        message("POST /", "Content-Length: 2", body=b"a"),
    ],
    ids=["a request line", "a header", "a body"],
)
def test_half_a_request_is_not_waited_for_for_ever(sent: bytes) -> None:
    with (
        Serving(Stalls(), FOUR_THREADS, Timeouts(request=0.2)) as server,
        server.connect() as client,
    ):
        client.send(sent)
        assert client.is_closed_by_peer()


def test_a_header_that_drips_is_not_waited_for_for_ever() -> None:
    with (
        Serving(Stalls(), FOUR_THREADS, Timeouts(request=1.5)) as server,
        server.connect() as client,
    ):
        client.sock.settimeout(0.1)
        ended = False
        for _ in range(200):
            client.offer(b"a")
            try:
                ended = client.sock.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                ended = True
            break
        assert ended


def test_a_client_that_stays_after_its_last_response_is_let_go() -> None:
    with Serving(Stalls(), FOUR_THREADS, Timeouts(linger_silence=0.2)) as server:
        client = server.connect()
        assert client.ask(message("GET /", "Connection: close")).body == b"ok"
        assert client.is_closed_by_peer()
        # Our half is open still; the server gives up on it, or would not end.
        server.stop()
        server.wait_until_ended()
        client.close()


def test_a_response_survives_what_the_client_sends_after_its_request() -> None:
    # Closing with unread bytes would reset the connection and lose the response.
    with Serving(Stalls(), FOUR_THREADS) as server, server.connect() as client:
        client.offer(message("GET /big", "Connection: close") + bytes(1 << 20))
        response = client.receive()
        assert len(response.body) == 32 * len(PIECE)


def test_a_large_response_waits_on_disk_and_not_in_a_thread() -> None:
    with Serving(Stalls(), Limits(threads=1, shutdown_grace=0)) as server, unread(server, "/big"):
        assert server.get("/").body == b"ok"


def test_the_soft_limit_of_descriptors_is_raised() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
        limit = connection_limit(Limits())
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert (soft, hard) == (min(65536, before[1]), before[1])
        assert limit == min(4096, (soft - 4 * 32 - 64) // 2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_an_ipv6_client_is_served_and_keeps_its_address() -> None:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["REMOTE_ADDR"].encode()]

    with Serving(application, FOUR_THREADS, host="::1") as server:
        assert server.get("/").body == b"::1"
