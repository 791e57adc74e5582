"""The server under the stand-ins."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import requests

from authproxy.demo.stand_ins.certificates import EphemeralCertificate
from authproxy.demo.stand_ins.loopback import (
    LoopbackServer,
    PortInUse,
    Request,
    Response,
    free_port,
)


def echo(request: Request) -> Response:
    return Response(200, request.body, {"X-Target": request.target})


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with ExitStack() as stack:
        server = LoopbackServer(echo)
        server.start()
        stack.callback(server.stop)
        yield server


@pytest.fixture(scope="module")
def authority() -> EphemeralCertificate:
    return EphemeralCertificate()


@pytest.fixture
def tls_server(authority: EphemeralCertificate) -> Iterator[LoopbackServer]:
    with ExitStack() as stack:
        server = LoopbackServer(echo, tls=authority.server_context())
        server.start()
        stack.callback(server.stop)
        yield server


def connect(server: LoopbackServer) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.settimeout(20)
    return connection


def exchange(connection: socket.socket, request: bytes, end: bytes) -> bytes:
    connection.sendall(request)
    received = b""
    while not received.endswith(end):
        data = connection.recv(65536)
        assert data, received
        received += data
    return received


def test_a_connection_carries_one_request_after_the_other(server: LoopbackServer) -> None:
    with connect(server) as connection:
        for body in (b"one", b"two"):
            request = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n" + body
            assert exchange(connection, request, body).startswith(b"HTTP/1.1 200 ")


def test_a_body_without_a_length_is_refused(server: LoopbackServer) -> None:
    with connect(server) as connection:
        request = b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert exchange(connection, request, b"</html>\n").startswith(b"HTTP/1.1 400 ")


def test_a_length_that_is_no_number_is_refused(server: LoopbackServer) -> None:
    with connect(server) as connection:
        request = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: many\r\n\r\n"
        assert exchange(connection, request, b"</html>\n").startswith(b"HTTP/1.1 400 ")


def test_the_answer_to_head_has_no_body(server: LoopbackServer) -> None:
    with connect(server) as connection:
        request = b"HEAD /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
        head = exchange(connection, request, b"\r\n\r\n")
        assert b"Content-Length: 3" in head
        assert exchange(connection, b"GET /y HTTP/1.1\r\nHost: h\r\n\r\n", b"\r\n\r\n")


def test_stopping_ends_idle_connections(server: LoopbackServer) -> None:
    with connect(server) as connection:
        exchange(connection, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"\r\n\r\n")
        server.stop()
        assert connection.recv(1) == b""


def test_stopping_ends_a_handshake_that_never_comes(tls_server: LoopbackServer) -> None:
    with connect(tls_server) as silent:
        # Accepted for sure once a later connection has been served.
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(tls_server.url, timeout=20)
        tls_server.stop()
        assert silent.recv(1) == b""


def test_a_start_after_a_stop_takes_the_same_port(server: LoopbackServer) -> None:
    url = server.url
    server.stop()
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=20)
    server.start()
    assert requests.get(url + "/again", timeout=20).headers["X-Target"] == "/again"


def test_a_peer_that_is_slow_at_the_handshake_keeps_nobody_waiting(
    tls_server: LoopbackServer, authority: EphemeralCertificate, tmp_path: Path
) -> None:
    bundle = authority.write_bundle(tmp_path / "ca.pem")
    with connect(tls_server):
        assert requests.get(tls_server.url, verify=str(bundle), timeout=20).status_code == 200


def test_plain_http_on_a_tls_port_harms_nothing(
    tls_server: LoopbackServer, authority: EphemeralCertificate, tmp_path: Path
) -> None:
    bundle = authority.write_bundle(tmp_path / "ca.pem")
    with connect(tls_server) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        with suppress(ConnectionResetError):
            while connection.recv(1000):
                pass
    assert requests.get(tls_server.url, verify=str(bundle), timeout=20).status_code == 200


def test_a_taken_port_is_named(server: LoopbackServer) -> None:
    other = LoopbackServer(echo, port=server.port)
    with pytest.raises(PortInUse) as caught:
        other.start()
    assert caught.value.port == server.port
    with pytest.raises(PortInUse):
        free_port(server.port)


def test_a_failed_start_leaves_nothing_to_stop(server: LoopbackServer) -> None:
    other = LoopbackServer(echo, port=server.port)
    with pytest.raises(PortInUse):
        other.start()
    other.stop()
    assert requests.get(server.url, timeout=20).status_code == 200


def handshake(server: LoopbackServer, authority: EphemeralCertificate, name: str, ca: Path) -> None:
    context = ssl.create_default_context(cafile=str(authority.write_bundle(ca)))
    # What Python 3.13 demands of a certificate by default.
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with connect(server) as plain, context.wrap_socket(plain, server_hostname=name):
        pass


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_the_certificate_holds_for_loopback_under_strict_rules(
    tls_server: LoopbackServer, authority: EphemeralCertificate, tmp_path: Path, name: str
) -> None:
    handshake(tls_server, authority, name, tmp_path / "ca.pem")


def test_the_certificate_holds_for_no_other_name(
    tls_server: LoopbackServer, authority: EphemeralCertificate, tmp_path: Path
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"example\.com"):
        handshake(tls_server, authority, "example.com", tmp_path / "ca.pem")
