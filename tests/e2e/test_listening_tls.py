"""LISTENING_TLS_*: HTTPS on the proxied port.

Situation, what the client sees, what the log says.
"""

from __future__ import annotations

import hashlib
import json
import os
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from tests.conftest import Launch
from tests.support import actions
from tests.support.client_certificates import replace_file
from tests.support.expect import assert_failure_logged
from tests.support.logfmt import parse_line
from tests.support.process import ProxyProcess
from tests.support.tls_client import Certificates, TLSClient, organization
from tests.support.upstream import Upstream
from tests.support.wire import DEADLINE, Client, Response, chunks, message

BIG = os.urandom(1024) * 10 * 1024

#: Tests that leave within a handshake leave such lines behind, later.
FAILED = "A TLS handshake failed"


def start(launch: Launch, settings: dict[str, str], client: ssl.SSLContext) -> ProxyProcess:
    """Start a proxy with TLS, and wait until it is ready."""
    proxy = launch(ready=False, **settings)
    give_up = time.monotonic() + DEADLINE
    while get(proxy, client, "/ready").status != 200:
        assert time.monotonic() < give_up, proxy.log
    return proxy


def get(proxy: ProxyProcess, context: ssl.SSLContext, target: str) -> Response:
    with TLSClient(proxy.address, context) as client:
        return client.ask(message(f"GET {target}"))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls(certificates: Certificates) -> ssl.SSLContext:
    return certificates.client_context()


@pytest.fixture(scope="module")
def shared(
    launch_for_module: Launch, certificates: Certificates, tls: ssl.SSLContext
) -> ProxyProcess:
    settings = {"MAX_REQUEST_HEADER_BYTES": "65536", **certificates.settings}
    return start(launch_for_module, settings, tls)


@pytest.fixture
def client(shared: ProxyProcess, target: Upstream, tls: ssl.SSLContext) -> Iterator[TLSClient]:
    with TLSClient(shared.address, tls) as client:
        yield client


def test_requests_are_forwarded_one_after_the_other(client: TLSClient, target: Upstream) -> None:
    for number in range(3):
        target.respond(actions.answer(200, body=b"answer %d" % number))
        response = client.ask(message("POST /api/v1/write", body=b"body %d" % number))
        assert (response.status, response.body) == (200, b"answer %d" % number)
    assert [request.body for request in target.requests] == [b"body 0", b"body 1", b"body 2"]
    assert client.tls.version() == "TLSv1.3"


def test_ten_megabytes_pass_both_ways(client: TLSClient, target: Upstream) -> None:
    target.respond(actions.answer(200, body=BIG))
    response = client.ask(message("POST /upload", body=BIG))
    assert hashlib.sha256(response.body).digest() == hashlib.sha256(BIG).digest()
    assert hashlib.sha256(target.only().body).digest() == hashlib.sha256(BIG).digest()


def test_a_chunked_body_of_megabytes_passes(client: TLSClient, target: Upstream) -> None:
    body = chunks(*(BIG[at : at + 60_000] for at in range(0, 2_000_000, 60_000)))
    raw = message("POST /upload", "Transfer-Encoding: chunked", body=body)
    assert client.ask(raw).status == 200
    assert target.only().body == BIG[:2_040_000]


def test_a_reader_that_is_slow_gets_all_of_it(client: TLSClient, target: Upstream) -> None:
    target.respond(actions.answer(200, body=BIG))
    client.send(message("GET /download"))
    target.wait_for_requests(1)
    response = client.receive_head()
    seen = hashlib.sha256()
    for piece in client.body_of(response):
        seen.update(piece)
    assert seen.digest() == hashlib.sha256(BIG).digest()


@pytest.mark.parametrize("size", [100, 8191, 8192, 8193, 16384, 40_000])
def test_a_head_that_is_longer_than_one_read_needs_no_further_byte(
    client: TLSClient, target: Upstream, size: int
) -> None:
    """A record is decrypted as a whole: the kernel has no event for the rest of it."""
    response = client.ask(message("GET /x", b"X-Long: " + b"a" * size))
    assert response.status == 200
    assert target.only().one("X-Long") == "a" * size


def test_requests_in_one_record_are_all_responded_to(client: TLSClient, target: Upstream) -> None:
    client.send(message("GET /1") + message("POST /2", body=b"x" * 9000) + message("GET /3"))
    assert [client.receive().status for _ in range(3)] == [200, 200, 200]
    assert [request.target for request in target.requests] == [b"/1", b"/2", b"/3"]


def test_the_end_of_a_response_is_told_by_close_notify(client: TLSClient, target: Upstream) -> None:
    target.respond(actions.answer(200, body=BIG[:100_000]))
    response = client.ask(message("GET /x HTTP/1.0"))
    assert response.body == BIG[:100_000]
    client.tell_ends_apart()
    assert client.tls.recv(1) == b""  # raises SSLEOFError without close_notify


def test_a_truncated_response_has_no_close_notify(client: TLSClient, target: Upstream) -> None:
    head = actions.head(200, "Transfer-Encoding: chunked")
    target.respond(actions.then_cut(head, b"4\r\nhalf\r\n"))
    client.tell_ends_apart()
    client.send(message("GET /x HTTP/1.0"))
    response = client.receive_head()
    with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):
        list(client.body_of(response))


def test_alpn_is_http_1_1(shared: ProxyProcess, certificates: Certificates) -> None:
    context = certificates.client_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with TLSClient(shared.address, context) as client:
        assert client.tls.selected_alpn_protocol() == "http/1.1"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(
    shared: ProxyProcess, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    context = certificates.client_context()
    context.minimum_version = context.maximum_version = version
    assert get(shared, context, "/health").status == 200


def test_tls_1_1_is_refused(shared: ProxyProcess, certificates: Certificates) -> None:
    context = certificates.client_context()
    context.set_ciphers("ALL:@SECLEVEL=0")  # else this side would refuse it by itself
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    mark = shared.mark()
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        TLSClient(shared.address, context)
    shared.wait_for_line(f"{FAILED}.*unsupported protocol", after=mark)


@pytest.mark.parametrize("start", ["GET /", "OPTIONS *", "POST /api/v1/write", "CONNECT a:1"])
def test_plain_http_is_told_to_speak_https(
    shared: ProxyProcess, target: Upstream, start: str
) -> None:
    mark = shared.mark()
    with Client(shared.address) as plain:
        plain.offer(message(start, body=b"x" * 100_000))
        response = plain.receive()
        assert response.status == 400
        assert json.loads(response.body) == {
            "code": "BadRequest",
            "message": "This port speaks HTTPS: use https:// for its URL.",
        }
        assert plain.is_closed_by_peer()
    assert_failure_logged(shared, mark, response)
    assert target.requests == []


def test_what_is_neither_is_closed(shared: ProxyProcess, target: Upstream) -> None:
    mark = shared.mark()
    with Client(shared.address) as other:
        other.send(b"\0\1\2\3" * 100)
        other.stream.fill()
        assert other.is_closed_by_peer()
    line = parse_line(shared.wait_for_line(f"{FAILED}.*wrong version number", after=mark))
    assert (line["level"], line["Client"]) == ("info", "127.0.0.1")
    assert target.requests == []


def test_half_handshakes_hold_nobody(
    shared: ProxyProcess, target: Upstream, tls: ssl.SSLContext
) -> None:
    hello = client_hello(tls)
    with ExitStack() as stack:
        for number in range(100):
            half = stack.enter_context(Client(shared.address))
            half.send(hello[: number % len(hello)])
        assert get(shared, tls, "/x").status == 200


@pytest.mark.slow
def test_a_half_handshake_is_closed_after_a_minute(
    shared: ProxyProcess, target: Upstream, tls: ssl.SSLContext
) -> None:
    mark = shared.mark()
    with Client(shared.address, timeout=3 * DEADLINE) as half:
        half.send(client_hello(tls)[:100])
        assert half.is_closed_by_peer()
    text = "Closed a connection without a whole TLS handshake."
    line = shared.wait_for_event(text, after=mark)
    assert (line["level"], line["Client"]) == ("info", "127.0.0.1")
    assert target.requests == []


def client_hello(context: ssl.SSLContext) -> bytes:
    """Return what a client sends first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def test_a_handshake_may_come_byte_by_byte(
    shared: ProxyProcess, target: Upstream, tls: ssl.SSLContext
) -> None:
    """Each byte wakes the server alone, which has no whole record."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = tls.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with Client(shared.address) as slow:

        def drip() -> None:
            for byte in outgoing.read():
                slow.send(bytes([byte]))

        while True:
            try:
                connection.do_handshake()
            except ssl.SSLWantReadError:
                drip()
                incoming.write(slow.sock.recv(65536))
            else:
                break
        connection.write(message("GET /x"))
        drip()
        seen = b""
        while not seen:
            try:
                seen = connection.read()
            except ssl.SSLWantReadError:
                incoming.write(slow.sock.recv(65536))
        assert seen.startswith(b"HTTP/1.1 200")


def test_curl_speaks_to_it(
    shared: ProxyProcess, target: Upstream, certificates: Certificates, tmp_path: Path
) -> None:
    sent, got = tmp_path / "sent", tmp_path / "got"
    sent.write_bytes(BIG)
    target.respond(actions.answer(200, body=BIG))
    command = ["curl", "-sS", "--fail", "--cacert", str(certificates.authority), "-o", str(got)]
    command += ["--data-binary", f"@{sent}", f"https://localhost:{shared.port}/upload"]
    subprocess.run([*command, "-4"], check=True, timeout=DEADLINE)
    assert got.read_bytes() == BIG
    assert target.only().body == BIG


def test_a_replaced_certificate_is_shown_without_a_restart(
    launch: Launch, target: Upstream, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path)
    context = certificates.client_context()
    proxy = start(launch, certificates.settings, context)
    with TLSClient(proxy.address, context) as before:
        assert organization(before) == "first"
        mark = proxy.mark()
        certificates.key.write_bytes(b"half")
        line = proxy.wait_for_event("New TLS certificate cannot be used", after=mark)
        assert line["Setting"] == "LISTENING_TLS_KEY_FILE"
        with TLSClient(proxy.address, context) as meanwhile:
            assert organization(meanwhile) == "first"
        certificates.issue("second")
        proxy.wait_for_event("New TLS certificate in use", after=mark)
        with TLSClient(proxy.address, context) as after:
            assert organization(after) == "second"
            assert after.ask(message("GET /x")).status == 200
        # A connection goes on with what it began with.
        assert before.ask(message("GET /x")).status == 200


def assert_not_verified(proxy: ProxyProcess, context: ssl.SSLContext) -> None:
    """Check that the proxy refuses the certificate that a client shows, and logs it."""
    mark = proxy.mark()
    with (
        pytest.raises(OSError, match=r"(?i)unknown.ca"),
        TLSClient(proxy.address, context) as client,
    ):
        client.ask(message("GET /x"))
    problem = "the client's certificate cannot be verified"
    line = parse_line(proxy.wait_for_line(f"{FAILED}.*{problem}", after=mark))
    assert line["Client"] == "127.0.0.1"


def test_a_client_has_to_show_a_certificate_of_the_authority(
    launch: Launch, target: Upstream, certificates: Certificates, tmp_path: Path
) -> None:
    ours, others = trustme.CA(), trustme.CA()
    authority = tmp_path / "clients.crt"
    ours.cert_pem.write_to_path(str(authority))
    nobody = certificates.client_context()
    settings = {**certificates.settings, "LISTENING_TLS_CLIENT_CA_FILE": str(authority)}
    proxy = start(launch, settings, nobody)  # probes show none
    with TLSClient(proxy.address, certificates.client_context(ours)) as client:
        assert client.ask(message("GET /x")).status == 200
        assert client.ask(message("POST /x", body=b"body")).status == 200
    assert len(target.requests) == 2
    for request in (message("GET /x"), message("POST /x", body=b"b"), message("POST /health")):
        mark = proxy.mark()
        with TLSClient(proxy.address, nobody) as client:
            response = client.ask(request)
            assert response.status == 403
            assert json.loads(response.body)["code"] == "ClientCertificateMissing"
        line = assert_failure_logged(proxy, mark, response)
        assert [line["Method"], line["Request"]] == request.decode().split()[:2]
    assert_not_verified(proxy, certificates.client_context(others))
    assert len(target.requests) == 2


def test_the_authority_of_clients_is_replaced_without_a_restart(
    launch: Launch, target: Upstream, certificates: Certificates, tmp_path: Path
) -> None:
    before, after = trustme.CA(), trustme.CA()
    of_before, of_after = (certificates.client_context(each) for each in (before, after))
    authority = tmp_path / "clients.crt"
    before.cert_pem.write_to_path(str(authority))
    settings = {**certificates.settings, "LISTENING_TLS_CLIENT_CA_FILE": str(authority)}
    proxy = start(launch, settings, certificates.client_context())
    with TLSClient(proxy.address, of_before) as kept:
        assert kept.ask(message("GET /x")).status == 200
        mark = proxy.mark()
        replace_file(authority, b"half")
        line = proxy.wait_for_event("New TLS certificate cannot be used", after=mark)
        assert (line["level"], line["Setting"]) == ("error", "LISTENING_TLS_CLIENT_CA_FILE")
        assert get(proxy, of_before, "/x").status == 200
        assert_not_verified(proxy, of_after)
        mark = proxy.mark()
        replace_file(authority, after.cert_pem.bytes())
        assert proxy.wait_for_event("New TLS certificate in use", after=mark)["level"] == "info"
        assert get(proxy, of_after, "/x").status == 200
        assert_not_verified(proxy, of_before)
        # A connection goes on with what it began with.
        assert kept.ask(message("GET /x")).status == 200
    assert len(target.requests) == 4


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_drain_lets_requests_finish_and_ends_connections_in_order(
    launch: Launch,
    target: Upstream,
    certificates: Certificates,
    tls: ssl.SSLContext,
    workers: str,
) -> None:
    settings = {"WORKERS": workers, "SHUTDOWN_GRACE_SECONDS": "30", **certificates.settings}
    proxy = start(launch, settings, tls)
    proxy.wait_for_tokens(int(workers))
    with (
        TLSClient(proxy.address, tls) as idle,
        TLSClient(proxy.address, tls) as busy,
        Client(proxy.address) as silent,
    ):
        assert idle.ask(message("GET /x")).status == 200
        gate = target.gate()
        target.respond(actions.raw(gate, actions.answer(200)))
        busy.send(message("GET /y"))
        target.wait_for_requests(2)
        proxy.signal(15)
        idle.tell_ends_apart()
        assert idle.tls.recv(1) == b""
        assert silent.is_closed_by_peer()
        gate.open()
        response = busy.receive()
        assert (response.status, response.one("Connection")) == (200, "close")
    assert proxy.wait() == 0
