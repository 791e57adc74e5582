"""Upgrades: the connections of client and target are joined behind a 101."""

from __future__ import annotations

import json
import os
import queue
import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import Launch
from tests.support import actions
from tests.support.authority import Authority
from tests.support.forward_proxy import ForwardProxy
from tests.support.process import ProxyProcess, free_port, wait_until
from tests.support.scrape import settled
from tests.support.tls_client import Certificates, TLSClient
from tests.support.upstream import Exchange, Handler, Upstream
from tests.support.wire import DEADLINE, Client, Response, message

SWITCH = actions.head("101 Switching Protocols", "Upgrade: echo", "Connection: Upgrade")
ASK = message("GET /tunnel", "Connection: keep-alive, Upgrade", "Upgrade: echo")
RESET = struct.pack("ii", 1, 0)
BIG = os.urandom(1024) * 1024


def echoing(switch: bytes) -> Handler:
    """Change the protocol, send back what comes, and end when the client has ended."""

    def answer(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(switch)
        for piece in exchange.switched():
            exchange.send(piece)
        exchange.close()

    return answer


echo = echoing(SWITCH)


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def module_proxy(launch_for_module: Launch, metrics_port: int) -> ProxyProcess:
    return launch_for_module(THREADS="2", MAX_TUNNELS="4", METRICS_PORT=str(metrics_port))


@pytest.fixture
def shared(module_proxy: ProxyProcess, metrics_port: int, target: Upstream) -> ProxyProcess:
    """The proxy of this module, without a tunnel of another test's."""
    wait_until_no_tunnel(metrics_port)
    return module_proxy


def wait_until_no_tunnel(metrics_port: int) -> None:
    """Return once none is open, and what there was is counted."""
    wait_until(
        "no tunnel open", lambda: not settled(metrics_port).sum("aad_auth_proxy_tunnels_open")
    )


@pytest.fixture
def client(shared: ProxyProcess, target: Upstream) -> Iterator[Client]:
    with shared.connect() as client:
        yield client


def join(client: Client, request: bytes = ASK) -> Response:
    """Ask for a tunnel and return the head of the response, which is 101."""
    client.send(request)
    response = client.receive_head()
    assert response.status == 101, client.stream.buffer
    return response


def code_of(response: Response) -> str:
    return str(json.loads(response.body)["code"])


def read(client: Client, count: int) -> bytes:
    return b"".join(client.stream.pieces(count))


def read_to_end(client: Client) -> bytes:
    return b"".join(client.stream.to_end())


def test_what_either_side_sends_comes_out_at_the_other(
    shared: ProxyProcess, client: Client, target: Upstream
) -> None:
    mark = shared.mark()
    request = message(
        "GET /chat?room=1",
        "Connection: Upgrade, X-Private",
        "Upgrade: echo/1.1, other",
        "X-Private: 1",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol: chat",
        "X-Request-Id: r1",
    )
    switch = actions.head(
        "101 Switching Protocols",
        "Upgrade: Echo/1.1",
        "Connection: upgrade, X-Hop",
        "X-Hop: 1",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "Set-Cookie: a=1",
        "Set-Cookie: b=2",
    )
    target.respond(echoing(switch))
    head = join(client, request)
    assert head.one("Upgrade") == "Echo/1.1"
    assert head.one("Connection") == "Upgrade"
    assert head.one("Sec-WebSocket-Accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert head.all("Set-Cookie") == ["a=1", "b=2"]
    assert [head.one(name) for name in ("X-Hop", "Content-Length", "Transfer-Encoding")] == [
        None
    ] * 3
    for number in range(3):
        client.send(b"ping %d" % number)
        assert read(client, 6) == b"ping %d" % number
    client.finish_sending()
    assert read_to_end(client) == b""

    sent = target.only()
    assert (sent.one("Authorization") or "").startswith("Bearer ")
    assert (sent.one("Connection"), sent.one("Upgrade")) == ("Upgrade", "echo/1.1, other")
    assert sent.one("Sec-WebSocket-Protocol") == "chat"
    assert sent.one("X-Forwarded-For") == "127.0.0.1"
    assert "x-private" not in sent.names
    line = shared.wait_for_event("Tunnel ended", after=mark)
    assert line["StatusCode"] == "101"
    assert (line["RequestBytes"], line["ContentLength"]) == ("18", "18")
    assert (line["EndedBy"], line["RequestID"], line["Method"]) == ("client", "r1", "GET")
    assert line["Request"].endswith("/chat?room=1")
    assert "DurationMs" in line
    assert "Error" not in line


def test_early_bytes_of_both_sides_are_not_lost(client: Client, target: Upstream) -> None:
    target.respond(echoing(SWITCH + b"from the target"))
    join(client, ASK + b"from the client")
    assert read(client, 30) == b"from the targetfrom the client"


def test_megabytes_cross_both_ways_at_once(client: Client, target: Upstream) -> None:
    """Neither side reads before it has sent: what is read waits for the other to take it."""
    received = bytearray()

    def answer(exchange: Exchange) -> None:
        exchange.send(SWITCH)
        pieces = exchange.switched()
        sender = threading.Thread(target=exchange.send, args=(BIG,))
        sender.start()
        while len(received) < len(BIG):
            received.extend(next(pieces))
        sender.join()
        exchange.close()

    target.respond(answer)
    join(client)
    sender = threading.Thread(target=client.send, args=(BIG,))
    sender.start()
    assert read_to_end(client) == BIG
    sender.join()
    assert received == BIG


def speaking_behind_the_end(exchange: Exchange) -> None:
    """Change the protocol and, once the client has ended, send a megabyte and what came."""
    exchange.send(SWITCH)
    received = b"".join(exchange.switched())
    exchange.send(BIG, received)
    exchange.close()


def test_a_client_that_has_ended_its_side_gets_what_the_target_sends_then(
    shared: ProxyProcess, client: Client, target: Upstream
) -> None:
    mark = shared.mark()
    target.respond(speaking_behind_the_end)
    join(client)
    client.send(b"question")
    client.finish_sending()
    assert read_to_end(client) == BIG + b"question"
    line = shared.wait_for_event("Tunnel ended", after=mark)
    assert (line["EndedBy"], line["ContentLength"]) == ("client", str(len(BIG) + 8))
    assert "Error" not in line


def test_a_target_that_has_ended_its_side_gets_what_the_client_sends_then(
    shared: ProxyProcess, client: Client, target: Upstream
) -> None:
    received: queue.Queue[bytes] = queue.Queue()
    mark = shared.mark()

    def answer(exchange: Exchange) -> None:
        exchange.send(SWITCH, b"bye")
        exchange.end_sending()
        received.put(b"".join(exchange.switched()))
        exchange.close()

    target.respond(answer)
    join(client)
    assert read_to_end(client) == b"bye"
    client.send(BIG)
    client.finish_sending()
    assert received.get(timeout=DEADLINE) == BIG
    line = shared.wait_for_event("Tunnel ended", after=mark)
    assert (line["EndedBy"], line["RequestBytes"]) == ("target", str(len(BIG)))
    assert "Error" not in line


def test_a_client_that_ends_ends_the_tunnel_behind_its_last_byte(
    client: Client, target: Upstream
) -> None:
    received: queue.Queue[bytes] = queue.Queue()

    def answer(exchange: Exchange) -> None:
        exchange.send(SWITCH)
        received.put(b"".join(exchange.switched()))
        exchange.close()

    target.respond(answer)
    join(client)
    client.send(BIG)
    client.finish_sending()
    assert read_to_end(client) == b""
    assert received.get(timeout=DEADLINE) == BIG


def test_a_target_that_ends_ends_the_tunnel_behind_its_last_byte(
    client: Client, target: Upstream
) -> None:
    ended = threading.Event()

    def answer(exchange: Exchange) -> None:
        exchange.send(SWITCH, BIG)
        exchange.end_sending()
        for _ in exchange.switched():
            pass
        ended.set()
        exchange.close()

    target.respond(answer)
    join(client)
    assert read_to_end(client) == BIG
    client.close()
    assert ended.wait(DEADLINE)


def test_a_target_that_is_reset_resets_the_client(
    shared: ProxyProcess, client: Client, target: Upstream
) -> None:
    gate, mark = target.gate(), shared.mark()
    target.respond(actions.then_reset(SWITCH, gate))
    join(client)
    gate.open()
    with pytest.raises(ConnectionResetError):
        client.sock.recv(1)
    line = shared.wait_for_event("Tunnel ended", after=mark)
    assert line["EndedBy"] == "target"
    assert "reset" in line["Error"]


def test_a_target_that_leaves_without_a_word_of_tls_ends_the_tunnel(
    shared: ProxyProcess, client: Client, target: Upstream
) -> None:
    mark = shared.mark()
    target.respond(actions.then_cut(SWITCH, b"bye"))
    join(client)
    assert read_to_end(client) == b"bye"
    client.close()
    assert shared.wait_for_event("Tunnel ended", after=mark)["EndedBy"] == "target"


def test_a_client_that_is_reset_resets_the_target(
    shared: ProxyProcess, client: Client, target: Upstream
) -> None:
    mark = shared.mark()
    seen: list[int] = []
    ended = threading.Event()

    def answer(exchange: Exchange) -> None:
        exchange.send(SWITCH)
        for _ in exchange.switched():
            pass
        poll = select.poll()
        poll.register(exchange.connection.sock, 0)
        seen.extend(events for _, events in poll.poll(0))
        ended.set()

    target.respond(answer)
    join(client)
    client.send(b"x")
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()
    assert ended.wait(10)
    assert seen  # to Python's TLS the reset is an end in order, but the kernel knows
    line = shared.wait_for_event("Tunnel ended", after=mark)
    assert line["EndedBy"] == "client"


@pytest.mark.parametrize(
    ("status", "body"), [("403 Forbidden", b"no role"), ("200 OK", b"fine"), ("426 x", b"v13")]
)
def test_anything_but_101_is_an_ordinary_response(
    shared: ProxyProcess, client: Client, target: Upstream, status: str, body: bytes
) -> None:
    target.respond(actions.answer(status, body=body))
    for _ in range(6):  # more than MAX_TUNNELS: none stays taken
        response = shared.ask(ASK)
        assert (response.status, response.body) == (int(status[:3]), body)
    target.respond(echo)
    join(client)


@pytest.mark.parametrize("status", [200, 401, 426, 101])
def test_what_a_client_sends_before_its_101_is_never_a_request(
    shared: ProxyProcess, client: Client, target: Upstream, status: int
) -> None:
    """To the target it would be one of the proxy's, with its token."""
    gate, came = target.gate(), threading.Event()
    hidden = message("GET /hidden")

    def answer(exchange: Exchange) -> None:
        came.set()
        gate.wait()
        switch = actions.head("101 Switching Protocols", "Upgrade: other", "Connection: Upgrade")
        exchange.send(switch if status == 101 else actions.answer(status, body=b"no"))

    target.on("/tunnel", answer)
    client.send(ASK + hidden)
    assert came.wait(DEADLINE)
    client.send(hidden)
    gate.open()
    response = client.receive()
    assert response.status == (502 if status == 101 else status)
    assert response.one("Connection") == "close"
    assert read_to_end(client) == b""
    assert {each.target for each in target.requests} == {b"/tunnel"}


def test_a_401_gets_a_fresh_token_and_the_tunnel(launch: Launch, target: Upstream) -> None:
    """By a proxy of its own: another test's 401 is followed by 30 s without a fresh token."""
    target.script(actions.raw(actions.answer(401, body=b"stale")), echo)
    with launch().connect() as client:
        join(client)
        first, second = target.requests
        assert first.one("Upgrade") == second.one("Upgrade") == "echo"
        assert first.one("Authorization") != second.one("Authorization")
        client.send(b"ping")
        assert read(client, 4) == b"ping"


@pytest.mark.parametrize(
    "switch",
    [
        actions.head("101 Switching Protocols", "Upgrade: other", "Connection: Upgrade"),
        actions.head("101 Switching Protocols", "Upgrade: echo, other", "Connection: Upgrade"),
        actions.head("101 Switching Protocols", "Connection: Upgrade"),
    ],
    ids=["another", "one too many", "none"],
)
def test_a_protocol_that_was_not_offered_is_refused(
    client: Client, target: Upstream, switch: bytes
) -> None:
    target.respond(switch)
    response = client.ask(ASK)
    assert (response.status, code_of(response)) == (502, "TargetProtocolError")


def test_a_101_that_nobody_asked_for_is_refused(client: Client, target: Upstream) -> None:
    target.respond(SWITCH)
    assert client.ask(message("GET /tunnel")).status == 502


@pytest.mark.parametrize(
    "request_",
    [
        message("GET /x", "Upgrade: echo"),
        message("GET /x HTTP/1.0", "Connection: Upgrade", "Upgrade: echo"),
        message(
            "GET /x", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: A"
        ),
        message("GET /x", "Connection: Upgrade", "Upgrade: HTTP/2.0, TLS/1.0, h2"),
        message(
            "POST /api/v1/write",
            "Connection: Upgrade",
            "Upgrade: echo",
            "X-Prometheus-Remote-Write-Version: 0.1.0",
            body=b"batch",
        ),
        message("GET /x", "Connection: Upgrade", "Upgrade: not a token, /, a/b/c"),
    ],
    ids=["not in Connection", "HTTP/1.0", "h2c", "HTTP and TLS", "a write", "malformed"],
)
def test_an_upgrade_that_is_none_of_ours_is_left_out(
    client: Client, target: Upstream, request_: bytes
) -> None:
    assert client.ask(request_).status == 200
    assert {"upgrade", "connection", "http2-settings"}.isdisjoint(target.only().names)


def test_what_is_offered_besides_http_passes(client: Client, target: Upstream) -> None:
    target.respond(echo)
    join(client, message("GET /x", "Connection: Upgrade", "Upgrade: h2c, echo"))
    assert target.only().one("Upgrade") == "echo"


def test_a_request_with_a_body_can_change_the_protocol(client: Client, target: Upstream) -> None:
    body = b"{}" * 50_000

    def answer(exchange: Exchange) -> None:
        exchange.read_body()
        echo(exchange)

    target.respond(answer)
    join(client, message("POST /exec", "Connection: Upgrade", "Upgrade: echo", body=body) + b"in")
    assert read(client, 2) == b"in"
    assert target.only().body == body


def test_past_the_limit_further_upgrades_are_refused_and_threads_are_free(
    shared: ProxyProcess, target: Upstream, metrics_port: int
) -> None:
    """There are two threads, and four tunnels."""
    target.on("/tunnel", echo)
    with ExitStack() as open_:
        clients = [open_.enter_context(shared.connect()) for _ in range(4)]
        for client in clients:
            join(client)
        assert settled(metrics_port).sum("aad_auth_proxy_tunnels_open") == 4
        response = shared.ask(ASK)
        assert (response.status, code_of(response)) == (503, "TooManyTunnels")
        assert int(response.one("Retry-After") or 0) > 0
        for _ in range(4):
            assert shared.get("/ordinary").status == 200
        for number, client in enumerate(clients):
            client.send(b"%d" % number)
            assert read(client, 1) == b"%d" % number
    wait_until_no_tunnel(metrics_port)
    with shared.connect() as client:
        join(client)


def reset(client: Client) -> None:
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()


@pytest.mark.parametrize("moment", ["head", "asked", "switched", "sent", "received", "by target"])
def test_a_reset_at_any_moment_leaves_nothing_behind(
    shared: ProxyProcess, target: Upstream, metrics_port: int, moment: str
) -> None:
    """Neither a descriptor nor a tunnel."""

    def flood(exchange: Exchange) -> None:
        exchange.send(SWITCH)
        if moment == "by target":
            exchange.reset()
        elif moment == "received":
            exchange.send(*[BIG] * 16)
        for _ in exchange.switched():
            pass

    target.on("/tunnel", flood)
    descriptors = Path(f"/proc/{shared.pid}/fd")
    with shared.connect() as client:  # what is made once is there
        client.send(ASK)
        client.receive_head()
        reset(client)
    wait_until_no_tunnel(metrics_port)
    before = len(list(descriptors.iterdir()))
    for _ in range(6):  # more than MAX_TUNNELS
        with shared.connect() as client:
            client.send(ASK[:-2] if moment == "head" else ASK)
            if moment not in ("head", "asked"):
                assert client.receive_head().status == 101
            client.sock.settimeout(0.2)
            try:
                if moment == "sent":
                    client.send(16 * BIG)
                if moment == "by target":
                    client.sock.recv(1)
            except (TimeoutError, ConnectionResetError):
                pass
            reset(client)
        wait_until_no_tunnel(metrics_port)
    wait_until("descriptors as before", lambda: len(list(descriptors.iterdir())) <= before)
    target.reset()
    target.on("/tunnel", echo)
    with ExitStack() as open_:
        for _ in range(4):
            join(open_.enter_context(shared.connect()))


def test_bytes_and_duration_are_counted_at_the_end(
    shared: ProxyProcess, target: Upstream, metrics_port: int
) -> None:
    target.respond(echo)
    labels = {"path": "/counted", "method": "GET"}
    with shared.connect() as client:
        join(client, message("GET /counted", "Connection: Upgrade", "Upgrade: echo"))
        client.send(b"x" * 1000)
        assert read(client, 1000) == b"x" * 1000
        page = settled(metrics_port)  # nothing is in flight: it takes no thread
        assert page.sum("aad_auth_proxy_requests_total", **labels) == 0
        assert page.sum("aad_auth_proxy_tunnels_open") == 1
    wait_until_no_tunnel(metrics_port)
    page = settled(metrics_port)
    assert page.sum("aad_auth_proxy_requests_total", status_code="101", **labels) == 1
    assert page.sum("aad_auth_proxy_request_bytes_total", **labels) == 1000
    assert page.sum("aad_auth_proxy_response_bytes_total", **labels) == 1000
    name = "aad_auth_proxy_request_duration_milliseconds_count"
    assert page.sum(name, status_code="101", **labels) == 1


def test_without_tunnels_an_upgrade_is_left_out(launch: Launch, target: Upstream) -> None:
    proxy = launch(MAX_TUNNELS="0")
    assert proxy.ask(ASK).status == 200
    assert {"upgrade", "connection"}.isdisjoint(target.only().names)


@pytest.mark.parametrize("behind_tls", [False, True])
def test_through_a_forward_proxy(
    launch: Launch, target: Upstream, authority: Authority, behind_tls: bool
) -> None:
    target.on("/tunnel", echo)
    with ForwardProxy(tls=authority.context() if behind_tls else None) as forward:
        scheme = "https" if behind_tls else "http"
        proxy = launch(HTTPS_PROXY=f"{scheme}://localhost:{forward.port}")
        with proxy.connect() as client:
            join(client)
            client.send(b"ping")
            assert read(client, 4) == b"ping"
            client.finish_sending()
            assert read_to_end(client) == b""


def test_a_sidecars_way_has_no_tunnels(launch: Launch, target: Upstream) -> None:
    url = f"{target.url}/ingest"
    proxy = launch(without=("TARGET_HOST",), INGESTION_URL=url)
    request = message("GET /api/v1/write", "Connection: Upgrade", "Upgrade: echo")
    assert proxy.ask(request).status == 200
    assert {"upgrade", "connection"}.isdisjoint(target.only().names)


def test_a_client_behind_a_unix_socket(launch: Launch, target: Upstream, tmp_path: Path) -> None:
    target.respond(echo)
    proxy = launch(unix_socket=tmp_path / "socket")
    with proxy.connect() as client:
        join(client)
        client.send(b"ping")
        assert read(client, 4) == b"ping"
        client.finish_sending()
        assert read_to_end(client) == b""


def test_admission_and_overrides_hold(launch: Launch, target: Upstream) -> None:
    target.respond(echo)
    proxy = launch(
        ALLOWED_PATHS="/tunnel", OVERRIDE_REQUEST_HEADERS='{"Sec-WebSocket-Protocol": "ours"}'
    )
    refused = proxy.ask(message("GET /other", "Connection: Upgrade", "Upgrade: echo"))
    assert refused.status == 403
    assert target.requests == []
    with proxy.connect() as client:
        join(client, ASK.replace(b"Upgrade: echo", b"Upgrade: echo\r\nSec-WebSocket-Protocol: a"))
        assert target.only().one("Sec-WebSocket-Protocol") == "ours"


def test_a_drain_begins_no_tunnel_and_ends_those_there_are_behind_the_grace(
    launch: Launch, target: Upstream
) -> None:
    target.respond(echo)
    proxy = launch(SHUTDOWN_GRACE_SECONDS="4")
    with proxy.connect() as client, proxy.connect() as other, proxy.connect() as late:
        join(client)
        join(other)
        late.send(ASK[:2])
        other.send(b"x")
        assert read(other, 1) == b"x"
        proxy.signal(15)
        proxy.wait_for_line("Draining")
        late.send(ASK[2:])
        refused = late.receive()
        assert (refused.status, code_of(refused)) == (503, "ShuttingDown")
        assert refused.one("Retry-After") == "1"
        client.send(b"still here")
        assert read(client, 10) == b"still here"
        assert read_to_end(client) == read_to_end(other) == b""
    assert proxy.wait() == 0
    line = proxy.wait_for_event("Tunnel ended")
    assert line["EndedBy"] == "drain"
    assert "outlived" not in proxy.log


def test_a_reload_leaves_tunnels_open(launch: Launch, target: Upstream, tmp_path: Path) -> None:
    target.on("/tunnel", echo)
    file = tmp_path / "authproxy.yaml"
    file.write_text("LOG_LEVEL: info\n")
    proxy = launch(AUTHPROXY_CONFIG=str(file), WORKERS="2")
    with proxy.connect() as client:
        join(client)
        file.write_text("OVERRIDE_REQUEST_HEADERS: {X-New: '1'}\n")
        proxy.signal(1)
        wait_until(
            "the new settings",
            lambda: proxy.get("/new").status == 200 and bool(target.requests[-1].one("X-New")),
        )
        client.send(b"ping")
        assert read(client, 4) == b"ping"


def test_tls_on_both_sides(launch: Launch, target: Upstream, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    target.respond(echo)
    proxy = launch(ready=False, SHUTDOWN_GRACE_SECONDS="1", **certificates.settings)
    context = certificates.client_context()

    def ready() -> bool:
        with TLSClient(proxy.address, context) as client:
            return client.ask(message("GET /ready")).status == 200

    wait_until("ready", ready)
    with TLSClient(proxy.address, context) as client:
        join(client, ASK + b"early ")
        assert read(client, 6) == b"early "
        # Without reading meanwhile it would wait for ever: Python's TLS takes one thread at a time.
        client.sock.settimeout(0)
        sent, received = 0, bytearray()
        while len(received) < len(BIG):
            try:
                sent += client.sock.send(BIG[sent : sent + 16384]) if sent < len(BIG) else 0
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                pass
            try:
                received += client.sock.recv(65536)
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                pass
        assert received == BIG
        client.sock.settimeout(10)
        target.respond(speaking_behind_the_end)
        with TLSClient(proxy.address, context) as other:
            other.tell_ends_apart()
            join(other)
            other.send(b"question")
            other.finish_sending()
            assert read(other, len(BIG) + 8) == BIG + b"question"
            with pytest.raises(ssl.SSLZeroReturnError):  # close_notify, behind ours
                other.tls.recv(1)
        proxy.signal(15)
        client.tls.suppress_ragged_eofs = False  # type: ignore[attr-defined]  # unknown to typeshed
        assert client.tls.recv(1) == b""  # close_notify came
    assert proxy.wait() == 0
