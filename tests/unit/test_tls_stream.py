"""TLS over memory, against Python's own at the other end of a real connection."""

from __future__ import annotations

import fcntl
import socket
import ssl
import struct
import termios
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from authproxy.tls_stream import CHUNK_BYTES, TLSStream
from tests.support.process import wait_until
from tests.support.tls_client import Certificates
from tests.support.wire import DEADLINE

BIG = bytes(range(256)) * 16 * 1024


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


Pair = tuple[TLSStream, ssl.SSLSocket]


@pytest.fixture(params=["1.2", "1.3"])
def pair(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Pair]:
    """Both ends of a connection; ours is the client's."""
    server, client = certificates.server_context(), certificates.client_context()
    if request.param == "1.2":
        server.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname(), timeout=DEADLINE)
        theirs, _ = listening.accept()
    theirs.settimeout(DEADLINE)
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(
            server.wrap_socket, theirs, server_side=True, suppress_ragged_eofs=False
        )
        stream = TLSStream(ours, client, server_hostname="localhost")
        stream.do_handshake()
        peer = accepted.result(DEADLINE)
    with peer:
        yield stream, peer
    stream.close()


def all_of(sock: socket.socket | TLSStream) -> bytes:
    pieces = []
    try:
        while piece := sock.recv(65536):
            pieces.append(piece)
    except ssl.SSLZeroReturnError:
        pass  # close_notify, behind one of its own
    return b"".join(pieces)


def finish(peer: ssl.SSLSocket) -> None:
    """Send close_notify, and wait for none."""
    peer.settimeout(0)
    try:
        peer.unwrap()
    except ssl.SSLWantReadError:
        pass
    peer.settimeout(DEADLINE)


def test_megabytes_cross_both_ways(pair: Pair) -> None:
    stream, peer = pair
    with ThreadPoolExecutor(1) as pool:
        received = pool.submit(all_of, peer)
        stream.sendall(BIG)
        stream.end_sending()
        assert received.result(DEADLINE) == BIG
        sent = pool.submit(lambda: (peer.sendall(BIG), finish(peer)))  # type: ignore[func-returns-value]
        assert all_of(stream) == BIG
        sent.result(DEADLINE)


def test_what_has_come_when_this_side_ends_is_not_lost(pair: Pair) -> None:
    """OpenSSL drops a record that it meets while it ends a connection."""
    stream, peer = pair
    peer.sendall(b"first" + BIG[:CHUNK_BYTES])
    assert stream.recv(5) == b"first"
    stream.end_sending()
    assert peer.recv(1) == b""
    peer.sendall(b"last")
    finish(peer)
    assert all_of(stream) == BIG[:CHUNK_BYTES] + b"last"
    assert stream.recv(1) == b""  # the end is met again


def test_an_end_without_close_notify_is_an_error_behind_the_last_byte(pair: Pair) -> None:
    stream, peer = pair
    peer.sendall(b"last")
    socket.socket.shutdown(peer, socket.SHUT_WR)
    assert stream.recv(100) == b"last"
    for _ in range(2):
        with pytest.raises(ssl.SSLEOFError):
            stream.recv(1)


def waiting(stream: TLSStream) -> int:
    """Return how many bytes the kernel has for the stream."""
    return int(struct.unpack("i", fcntl.ioctl(stream.tcp, termios.FIONREAD, bytes(4)))[0])


def test_little_room_takes_one_record_at_a_time_from_the_kernel(pair: Pair) -> None:
    """What waits there is bounded for each connection; what is taken, nobody counts."""
    stream, peer = pair
    peer.sendall(b"first")
    assert stream.recv(100) == b"first"  # behind what TLS 1.3 sends after the handshake
    peer.sendall(BIG[:40_000])
    wait_until("the bytes", lambda: waiting(stream) > 40_000)
    assert stream.recv(100) == BIG[:100]
    assert waiting(stream) > 40_000 - 17_000


def test_a_reset_is_an_error_behind_the_last_byte(pair: Pair) -> None:
    stream, peer = pair
    peer.sendall(b"last")
    assert stream.recv(2) == b"la"
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    assert stream.recv(100) == b"st"
    with pytest.raises(ConnectionResetError):
        stream.recv(1)


def test_what_is_no_record_is_an_error_behind_the_last_byte(pair: Pair) -> None:
    stream, peer = pair
    peer.sendall(b"last")
    socket.socket.send(peer, b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert stream.recv(100) == b"last"
    for _ in range(2):
        with pytest.raises(ssl.SSLError):
            stream.recv(1)


def test_without_a_timeout_it_says_what_to_wait_for(pair: Pair) -> None:
    stream, peer = pair
    stream.settimeout(0)
    with pytest.raises(ssl.SSLWantReadError):
        stream.recv(1)
    sent = 0
    try:
        while sent < 64 * len(BIG):
            sent += stream.send(BIG[sent % len(BIG) :])
    except ssl.SSLWantWriteError:
        pass
    assert 0 < sent < 64 * len(BIG)
    with ThreadPoolExecutor(1) as pool:
        received = pool.submit(all_of, peer)
        stream.settimeout(DEADLINE)
        stream.sendall(BIG[sent % len(BIG) :])  # with the same bytes again
        stream.end_sending()
        content = received.result(DEADLINE)
    assert len(content) % len(BIG) == 0
    assert content == BIG * (len(content) // len(BIG))


def test_silence_is_a_timeout(pair: Pair) -> None:
    stream, _ = pair
    stream.settimeout(0.01)
    with pytest.raises(TimeoutError):
        stream.recv(1)
    with pytest.raises(TimeoutError):
        stream.sendall(64 * BIG)


def test_bytes_that_are_decrypted_already_are_known(pair: Pair) -> None:
    stream, peer = pair
    peer.sendall(b"two")
    assert stream.recv(1) == b"t"
    assert stream.has_buffered
    assert stream.recv(100) == b"wo"
    assert not stream.has_buffered


def test_tls_within_tls(certificates: Certificates, pair: Pair) -> None:
    """As to a target by way of a forward proxy that is reached by TLS."""
    stream, peer = pair
    inner, outer = ssl.MemoryBIO(), ssl.MemoryBIO()
    within = certificates.server_context().wrap_bio(inner, outer, server_side=True)

    def serve() -> bytes:
        received = b""
        while not received.endswith(b"!"):
            try:
                received += within.read(65536)
            except ssl.SSLWantReadError:
                if outer.pending:
                    peer.sendall(outer.read())
                inner.write(peer.recv(65536))
        within.write(BIG)
        peer.sendall(outer.read())
        return received

    with ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve)
        twice = TLSStream(stream, certificates.client_context(), server_hostname="localhost")
        twice.do_handshake()
        twice.sendall(BIG + b"!")
        content = b""
        while len(content) < len(BIG):
            content += twice.recv(65536)
        assert content == BIG
        assert served.result(DEADLINE) == BIG + b"!"
    twice.end_sending()
    for _ in iter(lambda: inner.write(peer.recv(65536)), 0):
        pass  # until close_notify of the outer
    assert within.read(1) == b""  # and that of the inner
    assert twice.tcp is stream.tcp


def test_a_certificate_for_another_name_is_refused(certificates: Certificates) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname(), timeout=DEADLINE)
        theirs, _ = listening.accept()
    with theirs, ours, ThreadPoolExecutor(1) as pool:
        served = pool.submit(certificates.server_context().wrap_socket, theirs, server_side=True)
        stream = TLSStream(ours, certificates.client_context(), server_hostname="other.test")
        with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
            stream.do_handshake()
        with pytest.raises(ssl.SSLError, match=r"(?i)alert"):  # it is told why
            served.result(DEADLINE).recv(1)
