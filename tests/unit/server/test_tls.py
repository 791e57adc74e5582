"""TLS on the server's sockets, where a test has to choose timeouts, or the client's every byte."""

from __future__ import annotations

import logging
import select
import socket
import ssl
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from authproxy.server.limits import Timeouts
from authproxy.server.progress import Stage
from tests.support.process import wait_until
from tests.support.serving import Serving
from tests.support.tls_client import Certificates, TLSClient
from tests.support.wire import Client, message

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

HELLO = bytes.fromhex("160301")  # a handshake's record begins so


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


def echo(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    body = environ["wsgi.input"].read() or environ["wsgi.url_scheme"].encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def test_the_application_is_told_https(certificates: Certificates) -> None:
    with (
        Serving(echo, tls=certificates.server_context()) as server,
        TLSClient(server.address, certificates.client_context()) as client,
    ):
        assert client.ask(message("GET /")).body == b"https"


@pytest.mark.parametrize("sent", [b"", HELLO])
def test_a_handshake_that_takes_too_long_is_closed_and_logged(
    certificates: Certificates, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    timeouts = Timeouts(request=0.2)
    with (
        caplog.at_level(logging.INFO, "authproxy"),
        Serving(echo, timeouts=timeouts, tls=certificates.server_context()) as server,
        Client(server.address) as client,
    ):
        client.send(sent)
        assert client.is_closed_by_peer()
    text = "Closed a connection without a whole TLS handshake."
    assert [vars(each)["fields"] for each in caplog.records if each.getMessage() == text] == [
        {"Client": "127.0.0.1"}
    ]


def test_a_handshake_that_drips_is_closed_all_the_same(certificates: Certificates) -> None:
    timeouts = Timeouts(request=0.5)
    with (
        Serving(echo, timeouts=timeouts, tls=certificates.server_context()) as server,
        Client(server.address) as client,
    ):
        ended = threading.Event()

        def drip() -> None:
            client.offer(HELLO + b"\x40\0")  # 16 KiB are to come
            while not ended.wait(0.05):
                client.offer(b"\1")

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            assert client.is_closed_by_peer()
        finally:
            ended.set()
            dripping.join()


def test_connections_without_a_handshake_do_not_hold_up_a_drain(
    certificates: Certificates,
) -> None:
    with (
        Serving(echo, tls=certificates.server_context()) as server,
        Client(server.address) as client,
    ):
        client.send(HELLO)
        wait_until("it is accepted", lambda: len(server.connections) == 1)
        assert server.connections[0].progress.stage is Stage.HANDSHAKE
        server.stop()
        assert client.is_closed_by_peer()


def test_bytes_of_a_slow_reader_are_sent_again_as_they_were(certificates: Certificates) -> None:
    """OpenSSL refuses to go on with a record that is not the one it began with."""
    body = bytes(range(256)) * 32 * 1024
    with (
        Serving(echo, tls=certificates.server_context()) as server,
        TLSClient(server.address, certificates.client_context()) as client,
    ):
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.send(message("POST /", body=body))
        connection = server.connections[0]
        wait_until("it waits for its reader", lambda: connection.progress.stage is Stage.WRITING)
        assert client.receive().body == body
        assert client.ask(message("GET /")).body == b"https"


def test_a_client_that_sends_and_reads_at_the_same_time(certificates: Certificates) -> None:
    """The main loop reads while a thread writes: OpenSSL allows one of them at a time.

    So the client does both in one thread, whichever is possible.
    """
    count, body = 300, b"x" * 20_000
    with (
        Serving(echo, tls=certificates.server_context()) as server,
        TLSClient(server.address, certificates.client_context()) as client,
    ):
        left, received = memoryview(message("POST /", body=body) * count), bytearray()
        client.tls.setblocking(False)
        while received.count(b"HTTP/1.1 200 ") < count or not received.endswith(body):
            select.select([client.tls], [client.tls] if left else [], [], 10)
            with suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                left = left[client.tls.send(left[:100_000]) :] if left else left
            with suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                while piece := client.tls.recv(100_000):
                    received += piece
        assert received.count(body) == count


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed(certificates: Certificates, version: ssl.TLSVersion) -> None:
    context = certificates.client_context()
    context.maximum_version = version
    with Serving(echo, tls=certificates.server_context()) as server:
        with TLSClient(server.address, context) as client:
            assert client.ask(message("GET /")).status == 200
            session = client.tls.session
        with socket.create_connection(server.address) as plain:
            plain.settimeout(5)
            again = context.wrap_socket(plain, server_hostname="localhost", session=session)
            with again:
                assert again.session_reused
                again.sendall(message("GET /"))
                assert again.recv(100).startswith(b"HTTP/1.1 200")


def test_a_client_that_ends_in_order_is_closed(certificates: Certificates) -> None:
    with (
        Serving(echo, tls=certificates.server_context()) as server,
        TLSClient(server.address, certificates.client_context()) as client,
    ):
        assert client.ask(message("GET /")).status == 200
        client.tls.unwrap()
        wait_until("it is closed", lambda: not server.connections)


def test_the_poller_and_the_rest_survive_whoever_resets(certificates: Certificates) -> None:
    with Serving(echo, tls=certificates.server_context()) as server:
        for sent in (b"", HELLO, b"G", b"\0"):
            with Client(server.address) as client:
                client.send(sent)
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        wait_until("they are closed", lambda: not server.connections)
        with TLSClient(server.address, certificates.client_context()) as client:
            assert client.ask(message("GET /")).status == 200
