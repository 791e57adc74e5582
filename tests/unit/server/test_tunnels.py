"""Tunnels of the server, where a test has to be the target too: TLS, half-closing, silence."""

from __future__ import annotations

import os
import queue
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from authproxy.server.limits import Limits, Timeouts
from authproxy.server.tunnel import Side
from authproxy.tunnel import TUNNEL_KEY, TunnelEnd
from tests.support.serving import Serving
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
) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    """Return both ends with TLS, as a target with a certificate has it."""
    ours, theirs = pair
    taken: queue.Queue[ssl.SSLSocket] = queue.Queue()
    context = certificates.server_context()
    accept = threading.Thread(
        target=lambda: taken.put(context.wrap_socket(theirs, server_side=True)), daemon=True
    )
    accept.start()
    wrapped = certificates.client_context().wrap_socket(
        ours, server_hostname="localhost", suppress_ragged_eofs=False
    )
    return wrapped, taken.get(timeout=DEADLINE)


class Joining:
    """Responds 101 to all, and joins with the next of its targets."""

    def __init__(self, *targets: socket.socket) -> None:
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

        offer.join("x", sock, b"", ended)
        if self.fails:
            raise RuntimeError("after it was joined")
        start_response("101 Switching Protocols", [])
        return []


def join(client: Client) -> None:
    client.send(ASK)
    response = client.receive_head()
    assert (response.status, response.one("Upgrade")) == (101, "x")


def all_of(sock: socket.socket) -> bytes:
    """Return what comes until the end."""
    return b"".join(iter(lambda: sock.recv(65536), b""))


@pytest.fixture
def streaming() -> Iterator[list[threading.Thread]]:
    threads: list[threading.Thread] = []
    yield threads
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()


@pytest.mark.parametrize("attempt", range(3))
def test_a_client_ends_its_side_while_a_target_with_tls_goes_on_sending(
    certificates: Certificates, streaming: list[threading.Thread], attempt: int
) -> None:
    ours, target = in_tls(connected(), certificates)
    application = Joining(ours)
    with Serving(application) as server, server.connect() as client, target:
        join(client)
        client.send(b"all")
        client.finish_sending()
        said: list[bytes] = []

        def respond() -> None:
            for at in range(0, len(BIG), 1000):
                target.sendall(BIG[at : at + 1000])
            said.append(all_of(target))
            target.close()

        streaming.append(threading.Thread(target=respond))
        streaming[0].start()
        assert b"".join(client.stream.to_end()) == BIG
        end = application.ends.get(timeout=DEADLINE)
        assert (end.by, end.from_client, end.from_target) == ("client", 3, len(BIG))
        assert end.problem == ""
        assert said == [b"all"]


@pytest.mark.parametrize("attempt", range(3))
def test_a_target_ends_its_side_while_a_client_with_tls_goes_on_sending(
    certificates: Certificates, streaming: list[threading.Thread], attempt: int
) -> None:
    ours, target = connected()
    application = Joining(ours)
    with (
        Serving(application, tls=certificates.server_context()) as server,
        TLSClient(server.address, certificates.client_context()) as client,
        target,
    ):
        join(client)
        received: list[bytes] = []
        streaming.append(threading.Thread(target=lambda: received.append(all_of(target))))
        streaming[0].start()
        for at in range(0, len(BIG), 1000):
            if at == 500_000:
                target.sendall(b"enough")
                target.shutdown(socket.SHUT_WR)
            client.send(BIG[at : at + 1000])
        client.tls.suppress_ragged_eofs = False  # type: ignore[attr-defined]  # unknown to typeshed
        assert all_of(client.tls) == b"enough"  # and close_notify
        client.tls.unwrap()
        end = application.ends.get(timeout=DEADLINE)
        assert (end.by, end.from_client, end.problem) == ("target", len(BIG), "")
        streaming[0].join(DEADLINE)
        assert received == [BIG]


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
