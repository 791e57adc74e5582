"""Clients that misbehave cost others nothing."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from tests.conftest import Launch
from tests.support import actions
from tests.support.authority import Authority
from tests.support.process import ProxyProcess
from tests.support.upstream import Upstream
from tests.support.wire import Client, chunks, message

UNREAD = 2_000_000


def test_a_crowd_of_half_requests_and_unread_answers_keeps_nobody_waiting(
    launch: Launch, target: Upstream
) -> None:
    proxy = launch()
    target.on("/large", actions.raw(actions.answer(200, body=b"l" * UNREAD)))
    crowd: list[Client] = []
    try:
        for number in range(200):
            client = proxy.connect()
            client.send(message("GET /half")[: 10 + number % 20])
            crowd.append(client)
        for number in range(64):
            client = proxy.connect()
            if number % 2:
                client.send(message("POST /half", "Content-Length: 100", body=b"half"))
            else:
                half = chunks(b"half", end=False)
                client.send(message("POST /half", "Transfer-Encoding: chunked", body=half))
            crowd.append(client)
        for _ in range(40):
            client = proxy.connect()
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.send(message("GET /large"))
            crowd.append(client)
        for _ in range(5):
            assert proxy.ask(message("POST /urgent", body=b"urgent")).status == 200
            assert proxy.get("/health").status == 200
        # Those who waited are served as soon as they go on.
        assert len(crowd[-1].receive().body) == UNREAD
        crowd[0].send(message("GET /half")[10:])
        assert crowd[0].receive().status == 200
    finally:
        for client in crowd:
            client.close()
    assert proxy.get("/after").status == 200
    assert not [request for request in target.requests if request.body == b"half"]


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"\0" * 1000,
        b"\r\n" * 1000,
        b"A" * 200_000,
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /x HTTP/1.1\nHost: x\n\n",
        b" \r\n\r\n",
        bytes(range(256)) * 20 + b"\r\n\r\n",
    ],
    ids=[
        *("tls-hello", "nuls", "empty-lines", "no-line-end", "ssh", "http-2", "http-9.9"),
        *("bare-line-feeds", "blank", "every-byte"),
    ],
)
def test_what_is_not_http_is_refused_or_closed_and_others_are_served(
    proxy: ProxyProcess, target: Upstream, data: bytes
) -> None:
    mark = proxy.mark()
    with proxy.connect() as client:
        client.offer(data)
        try:
            client.finish_sending()
            while client.stream.fill():
                pass
        except OSError:
            pass  # Reset: refused too.
        first = client.stream.buffer.split(b"\r\n")[0]
    assert first == b"" or int(first.split(b" ")[1]) in (200, 400, 405, 414, 431, 501, 505), first
    assert proxy.get("/next").status == 200
    assert "Traceback" not in "\n".join(proxy.log.split("\n")[mark:])


@pytest.fixture(scope="module")
def abandoned(launch_for_module: Launch, authority: Authority) -> Iterator[ProxyProcess]:
    """A proxy with a target of its own: a request may get there when its test has ended."""
    target = Upstream(authority.context())
    target.on("/answered", actions.raw(actions.answer(200, body=b"l" * 1_000_000)))
    proxy = launch_for_module(TARGET_HOST=target.authority)
    yield proxy
    proxy.stop()
    target.close()
    assert not target.faults, "\n".join(target.faults)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(
    "part",
    [
        b"",
        b"GET /half HT",
        message("POST /half", "Content-Length: 100000", body=b"half"),
        message("GET /answered"),
        message("POST /answered", body=b"b" * 100_000),
    ],
    ids=["nothing", "half-a-head", "half-a-body", "whole", "whole-with-body"],
)
def test_clients_that_go_away_leave_the_proxy_well(
    abandoned: ProxyProcess, part: bytes, reset: bool
) -> None:
    mark = abandoned.mark()
    for _ in range(10):
        client = abandoned.connect()
        client.send(part)
        if reset:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    assert abandoned.get("/next").status == 200
    assert "Traceback" not in "\n".join(abandoned.log.split("\n")[mark:])


def test_more_requests_at_once_than_threads_are_all_answered(
    launch: Launch, target: Upstream
) -> None:
    proxy = launch(THREADS="4")
    gate = target.gate()
    target.respond(actions.raw(gate, actions.answer(200, body=b"fine")))
    clients = [proxy.connect() for _ in range(20)]
    for client in clients:
        client.send(message("POST /x", body=b"content"))
    target.wait_for_requests(4)
    gate.open()
    for client in clients:
        assert client.receive().body == b"fine"
        client.close()
    assert [request.target for request in target.requests].count(b"/x") == 20
