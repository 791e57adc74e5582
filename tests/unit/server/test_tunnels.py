"""Tunnels of the server, where a test has to be the target too: TLS, half-closing, silence."""

from __future__ import annotations

import os
import queue
import socket
import ssl
import struct
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from authproxy.server.limits import Limits, Timeouts
from authproxy.server.tunnel import Side
from authproxy.tls_stream import TLSStream
from authproxy.tunnel import TUNNEL_KEY, Switched, TunnelEnd
from tests.support.serving import Serving
from tests.support.tcp import send_close_notify
from tests.support.tls_client import Certificates, TLSClient
from tests.support.wire import DEADLINE, Client, message

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

ASK = message("GET /", "Connection: Upgrade", "Upgrade: x")
BIG = os.urandom(1024) * 2048


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


def connected() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname(), timeout=DEADLINE)
        theirs, _ = listening.accept()
    theirs.settimeout(DEADLINE)
    return ours, theirs


def in_tls(
    pair: tuple[socket.socket, socket.socket], certificates: Certificates
) -> tuple[TLSStream, ssl.SSLSocket]:
    """Return both ends with TLS, as a target with a certificate has it."""
    ours, theirs = pair
    taken: queue.Queue[ssl.SSLSocket] = queue.Queue()
    context = certificates.server_context()
    accept = threading.Thread(
        target=lambda: taken.put(context.wrap_socket(theirs, server_side=True)), daemon=True
    )
    accept.start()
    wrapped = TLSStream(ours, certificates.client_context(), server_hostname="localhost")
    wrapped.do_handshake()
    return wrapped, taken.get(timeout=DEADLINE)


class Joining:
    """Responds 101 to all, and joins with the next of its targets."""

    def __init__(self, *targets: socket.socket | TLSStream) -> None:
        self.targets = list(targets)
        self.ends: queue.Queue[TunnelEnd] = queue.Queue()
        self.fails = False

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        offer = environ[TUNNEL_KEY]
        if not offer.take():
            start_response("503 Service Unavailable", [("Content-Length", "0")])
            return []
        sock = self.targets.pop(0)

        def ended(end: TunnelEnd) -> None:
            sock.close()
            self.ends.put(end)

        offer.join(Switched("x", sock, b"", ended))
        if self.fails:
            raise RuntimeError("after it was joined")
        start_response("101 Switching Protocols", [])
        return []


def join(client: Client) -> None:
    client.send(ASK)
    response = client.receive_head()
    assert (response.status, response.one("Upgrade")) == (101, "x")


def all_of(sock: socket.socket) -> bytes:
    """Return what comes until the end, that of TLS if there is TLS."""
    if isinstance(sock, ssl.SSLSocket):
        setattr(sock, "suppress_ragged_eofs", False)  # noqa: B010  # unknown to typeshed
    pieces = []
    try:
        while piece := sock.recv(65536):
            pieces.append(piece)
    except ssl.SSLZeroReturnError:
        pass  # its close_notify, after ours
    return b"".join(pieces)


def end_sending(sock: socket.socket) -> None:
    """End this side in order: close_notify, or FIN. Nothing is on its way to it."""
    if isinstance(sock, ssl.SSLSocket):
        send_close_notify(sock)
    else:
        sock.shutdown(socket.SHUT_WR)


@pytest.fixture
def streaming() -> Iterator[list[threading.Thread]]:
    threads: list[threading.Thread] = []
    yield threads
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()


@pytest.mark.parametrize("tls", [False, True])
def test_what_a_client_sent_before_its_end_reaches_a_target_that_reads_late(
    certificates: Certificates, streaming: list[threading.Thread], tls: bool
) -> None:
    """What the target sent meanwhile, and nobody reads, does not reset its connection."""
    ours, target = in_tls(connected(), certificates) if tls else connected()
    application = Joining(ours)
    with Serving(application) as server, server.connect() as client, target:
        join(client)
        # Fill what is between target and client, so that bytes stay unread at the end.
        target.settimeout(0.3)
        with pytest.raises(TimeoutError):
            target.sendall(16 * BIG)
        target.settimeout(DEADLINE)

        def ask() -> None:
            client.send(BIG)
            client.finish_sending()

        streaming.append(threading.Thread(target=ask))
        streaming[0].start()
        assert all_of(target) == BIG
        target.close()
        for _ in client.stream.to_end():
            pass
        end = application.ends.get(timeout=DEADLINE)
        assert (end.by, end.from_client, end.problem) == ("client", len(BIG), "")


@pytest.mark.parametrize("tls", [False, True])
def test_what_a_target_sent_before_its_end_reaches_a_client_that_reads_late(
    certificates: Certificates, streaming: list[threading.Thread], tls: bool
) -> None:
    ours, target = connected()
    application = Joining(ours)
    context = certificates.server_context() if tls else None
    with Serving(application, tls=context) as server:
        trusted = certificates.client_context()
        with TLSClient(server.address, trusted) if tls else server.connect() as client, target:
            join(client)
            client.sock.settimeout(0.3)
            with pytest.raises(TimeoutError):
                client.send(16 * BIG)
            client.sock.settimeout(DEADLINE)

            def respond() -> None:
                target.sendall(BIG)
                target.shutdown(socket.SHUT_WR)

            streaming.append(threading.Thread(target=respond))
            streaming[0].start()
            if isinstance(client, TLSClient):
                client.tell_ends_apart()
            assert all_of(client.sock) == BIG
            target.close()
            end = application.ends.get(timeout=DEADLINE)
            assert (end.by, end.from_target) == ("target", len(BIG))


@pytest.mark.parametrize("first", ["client", "target"])
@pytest.mark.parametrize("target_tls", [False, True], ids=["plain-target", "tls-target"])
@pytest.mark.parametrize("client_tls", [False, True], ids=["plain-client", "tls-client"])
def test_behind_the_end_of_one_side_the_other_goes_on(
    certificates: Certificates,
    streaming: list[threading.Thread],
    client_tls: bool,
    target_tls: bool,
    first: str,
) -> None:
    """What it sends then arrives whole, and so does its end."""
    ours, target = in_tls(connected(), certificates) if target_tls else connected()
    application = Joining(ours)
    context = certificates.server_context() if client_tls else None
    with Serving(application, tls=context) as server, target:
        trusted = certificates.client_context()
        with TLSClient(server.address, trusted) if client_tls else server.connect() as client:
            join(client)
            ends = {"client": client.sock, "target": target}
            begins, goes_on = ends.pop(first), ends.popitem()[1]
            begins.sendall(b"bye")
            end_sending(begins)
            assert all_of(goes_on) == b"bye"

            def speak(goes_on: socket.socket = goes_on) -> None:
                goes_on.sendall(BIG)
                end_sending(goes_on)

            streaming.append(threading.Thread(target=speak))
            streaming[0].start()
            assert all_of(begins) == BIG
            sent = {first: 3}
            end = application.ends.get(timeout=DEADLINE)
            assert (end.by, end.problem) == (first, "")
            assert end.from_client == sent.get("client", len(BIG))
            assert end.from_target == sent.get("target", len(BIG))


def test_the_end_of_one_side_is_passed_on_to_the_other(certificates: Certificates) -> None:
    ours, target = in_tls(connected(), certificates)
    application = Joining(ours)
    with Serving(application) as server, server.connect() as client, target:
        join(client)
        client.send(b"bye")
        client.finish_sending()
        assert all_of(target) == b"bye"  # and close_notify
        target.unwrap()
        target.close()
        assert b"".join(client.stream.to_end()) == b""
        assert application.ends.get(timeout=DEADLINE) == TunnelEnd("client", 3, 0)


def test_bytes_that_are_lost_at_the_end_show_as_a_reset() -> None:
    ours, target = connected()
    application = Joining(ours)
    with (
        Serving(application, timeouts=Timeouts(tunnel=2)) as server,
        server.connect() as client,
        target,
    ):
        join(client)
        target.settimeout(0.3)
        with pytest.raises(TimeoutError):
            target.sendall(16 * BIG)
        assert application.ends.get(timeout=DEADLINE).by == "silence"
        with pytest.raises(ConnectionResetError):
            all_of(client.sock)


@pytest.mark.parametrize("tls", [False, True])
def test_a_client_that_is_reset_resets_the_target(certificates: Certificates, tls: bool) -> None:
    ours, target = connected()
    application = Joining(ours)
    context = certificates.server_context() if tls else None
    with Serving(application, tls=context) as server, target:
        trusted = certificates.client_context()
        with TLSClient(server.address, trusted) if tls else server.connect() as client:
            join(client)
            client.send(b"x")
            assert target.recv(1) == b"x"
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with pytest.raises(ConnectionResetError):
            all_of(target)
        end = application.ends.get(timeout=DEADLINE)
        assert end.by == "client"
        assert "reset" in end.problem


def test_a_half_closed_tunnel_in_which_nothing_moves_is_ended() -> None:
    first, second = connected(), connected()
    application = Joining(first[0], second[0])
    limits, timeouts = Limits(threads=1, tunnels=1), Timeouts(tunnel=0.2)
    with Serving(application, limits, timeouts=timeouts) as server, first[1], second[1]:
        with server.connect() as client:
            join(client)
            client.finish_sending()
            assert all_of(first[1]) == b""
            assert application.ends.get(timeout=DEADLINE).by == "silence"
            assert b"".join(client.stream.to_end()) == b""
        with server.connect() as client:
            join(client)


def test_a_client_that_leaves_behind_its_end_ends_the_tunnel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is sent to it meanwhile, so that only its reset tells."""
    monkeypatch.setattr("authproxy.server.tunnel.LINGER_SECONDS", 0.1)
    ours, target = connected()
    application = Joining(ours)
    with Serving(application) as server, server.connect() as client, target:
        join(client)
        client.finish_sending()
        assert all_of(target) == b""
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        assert application.ends.get(timeout=DEADLINE) == TunnelEnd("client")


def test_without_a_thread_for_tunnels_a_request_fails_and_takes_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The machine may have no room for another thread; later it has."""
    ours, target = connected()
    application = Joining(ours)
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name == "tunnels":
            raise RuntimeError("can't start new thread")
        start(thread)

    with Serving(application, Limits(threads=1, tunnels=1)) as server, target:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refused)
            assert server.get("/").status == 500
        with server.connect() as client:
            join(client)
            client.send(b"ping")
            assert target.recv(4) == b"ping"


def test_a_tunnel_in_which_nothing_moves_is_ended() -> None:
    ours, target = connected()
    application = Joining(ours)
    with (
        Serving(application, timeouts=Timeouts(tunnel=0.2)) as server,
        server.connect() as client,
        target,
    ):
        join(client)
        assert b"".join(client.stream.to_end()) == b""
        assert all_of(target) == b""
        assert application.ends.get(timeout=DEADLINE).by == "silence"


def test_an_application_that_fails_gives_its_tunnel_back() -> None:
    first, second = connected(), connected()
    application = Joining(first[0], second[0])
    application.fails = True
    with Serving(application, Limits(threads=1, tunnels=1)) as server, first[1], second[1]:
        assert server.get("/").status == 500
        assert application.ends.get(timeout=DEADLINE) == TunnelEnd("client")
        assert all_of(first[1]) == b""
        application.fails = False
        with server.connect() as client:
            join(client)
            assert server.get("/").status == 503
            client.send(b"ping")
            assert second[1].recv(4) == b"ping"


def test_a_target_that_does_not_read_holds_up_its_client_and_nobody_else() -> None:
    first, second = connected(), connected()
    application = Joining(first[0], second[0])
    with (
        Serving(application, Limits(threads=1, shutdown_grace=0)) as server,
        server.connect() as stuck,
        server.connect() as client,
        first[1],
        second[1],
    ):
        join(stuck)
        stuck.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            stuck.send(16 * BIG)
        join(client)
        client.send(b"ping")
        assert second[1].recv(4) == b"ping"
        second[1].sendall(b"pong")
        assert b"".join(client.stream.pieces(4)) == b"pong"


def test_twice_the_bytes_take_about_twice_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    read, write = Side.read, Side.write

    def counted_read(side: Side) -> None:
        nonlocal steps
        steps += 1
        read(side)

    def counted_write(side: Side) -> None:
        nonlocal steps
        steps += 1
        write(side)

    monkeypatch.setattr(Side, "read", counted_read)
    monkeypatch.setattr(Side, "write", counted_write)
    counts = []
    for size in (500, 1000):
        ours, target = connected()
        application = Joining(ours)
        with Serving(application) as server, server.connect() as client, target:
            join(client)
            steps = 0
            for _ in range(size):  # one by one: each is a step of its own
                client.send(b"x")
                assert target.recv(1) == b"x"
            counts.append(steps)
    assert counts[1] <= 2.5 * counts[0]
