"""The listener behind every stand-in: threads, TLS, a bound, and an end that leaves nothing."""

from __future__ import annotations

import socket
import ssl
import threading
from queue import Queue

import pytest

from authproxy.demo.stand_ins.acceptor import LOOPBACK, Acceptor
from tests.support.authority import Authority
from tests.support.relaying import RelayingAcceptor


def connect(acceptor: Acceptor) -> socket.socket:
    return socket.create_connection((LOOPBACK, acceptor.port), timeout=30)


def echo(sock: socket.socket) -> None:
    while data := sock.recv(100):
        sock.sendall(data)


def test_connections_are_served_side_by_side_and_closed_after_that() -> None:
    with Acceptor(echo) as acceptor, connect(acceptor) as first, connect(acceptor) as second:
        for sock in (second, first):
            sock.sendall(b"hello")
            assert sock.recv(100) == b"hello"
        first.shutdown(socket.SHUT_WR)
        assert first.recv(100) == b""
        second.sendall(b"still there")
        assert second.recv(100) == b"still there"


def test_the_end_cuts_what_is_open_and_frees_the_port() -> None:
    acceptor = Acceptor(echo)
    with connect(acceptor) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"
        acceptor.close()
        assert client.recv(100) == b""
    assert acceptor.connections == []
    assert not [each for each in threading.enumerate() if str(acceptor.port) in each.name]
    with pytest.raises(ConnectionRefusedError):
        connect(acceptor)
    with Acceptor(echo, port=acceptor.port) as again:
        assert again.port == acceptor.port
    acceptor.close()  # again, without effect


def test_a_handshake_holds_up_nobody_else_and_is_ended_as_well(authority: Authority) -> None:
    trusting = ssl.create_default_context(cafile=str(authority.bundle))
    acceptor = Acceptor(echo, tls=authority.context())
    with connect(acceptor) as silent:
        with trusting.wrap_socket(connect(acceptor), server_hostname="localhost") as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"
        with connect(acceptor) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        acceptor.close()
        assert silent.recv(100) == b""


def test_more_than_it_may_have_wait_until_one_has_gone() -> None:
    begun: Queue[socket.socket] = Queue()

    def serve(sock: socket.socket) -> None:
        begun.put(sock)
        echo(sock)

    with Acceptor(serve, most=1) as acceptor, connect(acceptor) as first:
        begun.get(timeout=30)
        with connect(acceptor) as second:
            second.sendall(b"hello")
            first.sendall(b"a round trip")
            assert first.recv(100) == b"a round trip"
            assert len(acceptor.connections) == 1
            assert begun.empty()
            first.close()
            assert second.recv(100) == b"hello"


def test_it_ends_though_there_is_no_room() -> None:
    begun = threading.Event()

    def serve(sock: socket.socket) -> None:
        begun.set()
        echo(sock)

    acceptor = Acceptor(serve, most=1)
    with connect(acceptor) as first, connect(acceptor) as waiting:
        assert begun.wait(30)
        acceptor.close()
        assert first.recv(100) == b""
        try:
            assert waiting.recv(100) == b""
        except ConnectionResetError:
            pass  # an end as well: it depends on whether it had been accepted


def test_what_was_connected_onward_is_ended_as_well() -> None:
    with Acceptor(echo) as behind:

        def serve(sock: socket.socket) -> None:
            with front.onward(behind.port) as sink:
                sink.sendall(sock.recv(100))
                sock.sendall(sink.recv(100))
                assert sink.recv(100) == b""

        front = RelayingAcceptor(serve)
        with connect(front) as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"
            front.close()
        assert front.connections == []


def test_one_that_does_not_end_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("authproxy.demo.stand_ins.acceptor._END_SECONDS", 0.05)
    begun, over = threading.Event(), threading.Event()

    def serve(sock: socket.socket) -> None:
        begun.set()
        over.wait()

    acceptor = Acceptor(serve)
    with connect(acceptor):
        assert begun.wait(30)
        with pytest.raises(RuntimeError, match="has not ended"):
            acceptor.close()
        over.set()
    acceptor.close()
