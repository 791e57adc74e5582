"""Which connection to the target is used again, and that none is after unsolicited bytes."""

from __future__ import annotations

import logging
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from urllib3.connection import HTTPConnection

from authproxy.http1.urls import TargetURL
from authproxy.tls import client_context
from authproxy.upstream.pool import DISTRUST_SECONDS, ConnectionPool
from authproxy.upstream.request import OutboundRequest
from authproxy.upstream.response_reader import READ_BYTES
from authproxy.upstream.session import TargetSession
from tests.support import actions
from tests.support.authority import Authority
from tests.support.hostile.responses import EXCESS
from tests.support.hostile.volley import echo
from tests.support.process import free_port, wait_until
from tests.support.tcp import unread_from
from tests.support.upstream import Exchange, Upstream

#: Longer than a test runs: whoever waits so long waits for an event.
LONG_REST = 60.0


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pool(clock: Clock) -> ConnectionPool:
    return ConnectionPool("target.test", 3, rest=1.0, now=clock)


class Peers:
    """Makes connections, and has their other ends."""

    def __init__(self) -> None:
        self.ends: list[socket.socket] = []
        self._all: list[socket.socket] = []

    def connection(self) -> HTTPConnection:
        connection = HTTPConnection("target.test")
        connection.sock, end = socket.socketpair()
        self.ends.append(end)
        self._all += [connection.sock, end]
        return connection

    def close(self) -> None:
        for each in self._all:
            each.close()


@pytest.fixture
def peers() -> Iterator[Peers]:
    with closing(Peers()) as peers:
        yield peers


def test_the_last_used_that_has_rested_is_used_again(
    pool: ConnectionPool, clock: Clock, peers: Peers
) -> None:
    first, second, third = (peers.connection() for _ in range(3))
    for connection in (first, second, third):
        pool.give_back(connection)
        clock.time += 0.6
    assert [pool.take() for _ in range(2)] == [second, first]


def test_where_none_has_rested_another_is_opened(pool: ConnectionPool, peers: Peers) -> None:
    pool.give_back(peers.connection())
    pool.give_back(peers.connection())
    assert pool.take() is None


def test_where_the_pool_is_full_of_such_the_first_of_them_is_waited_for(
    clock: Clock, peers: Peers
) -> None:
    pool = ConnectionPool("target.test", 2, rest=0.01, now=clock)
    first, second = peers.connection(), peers.connection()
    pool.give_back(first)
    pool.give_back(second)
    assert [pool.take(), pool.take()] == [first, None]


def test_no_more_than_its_size_are_kept(pool: ConnectionPool, peers: Peers) -> None:
    connections = [peers.connection() for _ in range(4)]
    for connection in connections:
        pool.give_back(connection)
    assert [connection.sock is None for connection in connections] == [False] * 3 + [True]


@pytest.mark.parametrize("end", [socket.socket.close, lambda sock: sock.shutdown(socket.SHUT_WR)])
def test_one_that_the_target_closed_is_not_used_again(
    pool: ConnectionPool, clock: Clock, peers: Peers, end: Callable[[socket.socket], None]
) -> None:
    older, newer = peers.connection(), peers.connection()
    pool.give_back(older)
    pool.give_back(newer)
    clock.time += 5
    end(peers.ends[1])
    assert pool.take() is older
    assert newer.sock is None


def test_one_that_was_idle_for_long_is_closed(clock: Clock, peers: Peers) -> None:
    pool = ConnectionPool("target.test", 3, rest=0.0, idle_seconds=60, now=clock)
    older, newer = peers.connection(), peers.connection()
    pool.give_back(older)
    clock.time += 59
    pool.give_back(newer)
    clock.time += 1
    assert pool.take() is newer
    assert older.sock is None
    pool.give_back(newer)
    clock.time += 59.9
    assert pool.take() is newer


def test_one_that_is_open_for_long_is_closed_however_busy(clock: Clock, peers: Peers) -> None:
    pool = ConnectionPool("target.test", 3, rest=0.0, max_age=300, now=clock)
    steady = peers.connection()
    pool.opened(steady)
    clock.time += 200
    for _ in range(4):
        pool.give_back(steady)
        clock.time += 20
        assert pool.take() is steady
    clock.time += 20
    pool.give_back(steady)  # 300 seconds after it was opened
    assert steady.sock is None
    assert pool.take() is None


def test_one_that_would_be_idle_for_too_long_after_its_rest_is_not_waited_for(
    clock: Clock, peers: Peers
) -> None:
    pool = ConnectionPool("target.test", 1, rest=LONG_REST, idle_seconds=1, now=clock)
    pool.give_back(peers.connection())
    assert pool.take() is None


def test_suspicion_closes_those_that_are_idle_then(
    pool: ConnectionPool, clock: Clock, peers: Peers
) -> None:
    in_use, idle = peers.connection(), peers.connection()
    pool.give_back(idle)
    pool.suspect()
    assert idle.sock is None
    pool.give_back(in_use)
    clock.time += 5
    assert pool.take() is in_use


def test_after_unsolicited_bytes_none_is_kept_for_a_while(
    pool: ConnectionPool,
    clock: Clock,
    peers: Peers,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "authproxy")
    in_use, idle, suspicious = (peers.connection() for _ in range(3))
    pool.give_back(idle)
    pool.give_back(suspicious)
    clock.time += 5
    peers.ends[2].send(b"HTTP/1.1 200 OK\r\n")
    assert pool.take() is None
    pool.give_back(in_use)
    assert [one.sock for one in (in_use, idle, suspicious)] == [None] * 3
    clock.time += DISTRUST_SECONDS - 1
    pool.distrust()  # seen on a connection of one request: it begins anew
    clock.time += DISTRUST_SECONDS - 1
    pool.give_back(peers.connection())
    assert pool.take() is None
    clock.time += 1
    kept = peers.connection()
    pool.give_back(kept)
    clock.time += 5
    assert pool.take() is kept
    said = [(record.levelno, record.message.partition(",")[0]) for record in caplog.records]
    assert said == [
        (logging.WARNING, "Unsolicited bytes from the target"),
        (logging.INFO, "Connections are used again"),
    ]


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_what_ends_an_idle_connection_says_nothing_of_the_others(
    pool: ConnectionPool, clock: Clock, peers: Peers, version: bytes
) -> None:
    other, ended = peers.connection(), peers.connection()
    pool.give_back(other)
    pool.give_back(ended)
    clock.time += 5
    peers.ends[1].send(b"HTTP/" + version + b" 408 Request Time-out\r\nConnection: close\r\n\r\n")
    assert pool.take() is other


# -- over real connections, plain and with TLS --------------------------------------------


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def context(trust: Authority) -> ssl.SSLContext:
    return client_context(str(trust.bundle))


@pytest.fixture(params=["plain", "tls"])
def upstream(request: pytest.FixtureRequest, trust: Authority) -> Iterator[Upstream]:
    upstream = Upstream(trust.context() if request.param == "tls" else None)
    yield upstream
    upstream.close()


Connect = Callable[..., TargetSession]


@pytest.fixture
def connect(context: ssl.SSLContext) -> Iterator[Connect]:
    """Make sessions, which are closed at the end."""
    with ExitStack() as stack:

        def made(url: str, rest: float = 0.0, size: int = 4) -> TargetSession:
            session = TargetSession(
                TargetURL.parse(url, allow_http=True),
                pool_size=size,
                connect_timeout=5,
                read_timeout=20,
                ssl_context=context if url.startswith("https") else None,
                rest=rest,
            )
            return stack.enter_context(closing(session))

        yield made


def get(session: TargetSession, target: str) -> bytes:
    response = session.exchange(OutboundRequest("GET", target, [("Host", "t.test")]), "Bearer x")
    return b"".join(response.body())


def test_bytes_that_come_while_it_rests_are_given_to_nobody(
    upstream: Upstream, connect: Connect
) -> None:
    upstream.respond(echo)
    target = connect(upstream.url, LONG_REST, size=1)
    assert get(target, "/first") == b"GET /first"
    with ThreadPoolExecutor(1) as thread:
        second = thread.submit(get, target, "/second")  # waits for the connection's rest
        upstream.wait_for("the connection is idle", lambda: upstream.all_idle)
        upstream.send_on_idle(EXCESS)
        assert second.result() == b"GET /second"
    assert upstream.accepted == 2


@pytest.mark.parametrize("length", [READ_BYTES, 2 * READ_BYTES, READ_BYTES + 1, 16 * 1024, 100])
def test_bytes_of_the_same_record_behind_a_response_are_given_to_nobody(
    upstream: Upstream, connect: Connect, length: int
) -> None:
    """They may have been decrypted with the response: no socket is readable any more then."""
    body = b"b" * length

    def respond(exchange: Exchange) -> None:
        if exchange.request.target == b"/first":
            exchange.send(actions.answer(200, body=body) + EXCESS)
        else:
            echo(exchange)

    upstream.respond(respond)
    target = connect(upstream.url)
    assert get(target, "/first") == body
    for number in range(3):
        assert get(target, f"/{number}") == b"GET /%d" % number
    assert upstream.accepted == 4  # none of them was kept


def test_tickets_that_come_late_do_not_count(upstream: Upstream, connect: Connect) -> None:
    """TLS 1.3 has the server send session tickets when it likes."""
    upstream.respond(echo)
    target = connect(upstream.url)
    for number in range(3):
        assert get(target, f"/{number}") == b"GET /%d" % number
    assert upstream.accepted == 1


@pytest.mark.process
def test_a_key_update_does_not_count(trust: Authority, connect: Connect, tmp_path: Path) -> None:
    certificate = trust.issue(tmp_path)
    port = free_port()
    server = subprocess.Popen(
        ["openssl", "s_server", "-accept", str(port), "-cert", certificate, "-naccept", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    output = bytearray()
    changed = threading.Condition()

    def read() -> None:
        assert server.stdout is not None
        while data := server.stdout.read(4096):
            with changed:
                output.extend(data)
                changed.notify_all()

    def wait_for(text: bytes) -> None:
        with changed:
            assert changed.wait_for(lambda: text in output, timeout=20), bytes(output)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        wait_for(b"ACCEPT")
        target = connect(f"https://localhost:{port}")
        with ThreadPoolExecutor(1) as thread:
            for number in range(3):
                got = thread.submit(get, target, f"/{number}")
                wait_for(b"GET /%d HTTP/1.1" % number)
                server.stdin.write(actions.answer(200, body=b"body-%d" % number))
                assert got.result() == b"body-%d" % number
                server.stdin.write(b"K\n")  # a key update that asks for one in return
                wait_until("it is there", lambda: unread_from(port))
    finally:
        server.kill()
        server.wait()
        reader.join()
        server.stdin.close()
        server.stdout.close()
