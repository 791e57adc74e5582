"""A real WebSocket client and server, with the proxy between them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from tests.conftest import Launch
from tests.support.authority import Authority
from tests.support.process import ProxyProcess, wait_until
from tests.support.tls_client import Certificates, TLSClient
from tests.support.wire import message

CHAT = Subprotocol("chat")
MEGABYTE = os.urandom(1024 * 1024)


def echo(connection: ServerConnection) -> None:
    for received in connection:
        if received == "close":
            connection.close(4000, "as asked")
        else:
            connection.send(received)


@pytest.fixture(scope="module")
def websockets(authority: Authority) -> Iterator[Server]:
    with serve(
        echo, "localhost", 0, ssl=authority.context(), subprotocols=[CHAT], max_size=None
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def settings_for(websockets: Server) -> dict[str, str]:
    return {"TARGET_HOST": f"localhost:{websockets.socket.getsockname()[1]}"}


@pytest.fixture(scope="module")
def shared(launch_for_module: Launch, websockets: Server) -> ProxyProcess:
    return launch_for_module(**settings_for(websockets), WORKERS="2")


@pytest.fixture
def client(shared: ProxyProcess) -> Iterator[ClientConnection]:
    port = shared.port
    with connect(f"ws://127.0.0.1:{port}/chat", subprotocols=[CHAT], max_size=None) as client:
        yield client


def test_messages_of_any_size_and_pings_come_back(client: ClientConnection) -> None:
    assert client.subprotocol == "chat"
    for content in ("hello", b"", b"x" * 65536, MEGABYTE):
        client.send(content)
        assert client.recv() == content
    assert client.ping().wait(10)


def test_many_large_messages_are_on_their_way_at_once(client: ClientConnection) -> None:
    def send() -> None:
        for _ in range(8):
            client.send(MEGABYTE)

    sender = threading.Thread(target=send)
    sender.start()
    assert [client.recv() == MEGABYTE for _ in range(8)] == [True] * 8
    sender.join()


def test_the_closing_handshake_passes(client: ClientConnection, shared: ProxyProcess) -> None:
    mark = shared.mark()
    client.send("close")
    with pytest.raises(ConnectionClosed, match="as asked"):
        client.recv()
    line = shared.wait_for_event("Tunnel ended", after=mark)
    assert (line["StatusCode"], line["Method"]) == ("101", "GET")
    assert "Error" not in line


def test_what_is_no_websocket_is_refused_by_the_server(shared: ProxyProcess) -> None:
    """The server's own response comes through."""
    assert shared.get("/chat").status == 426


def test_tls_on_both_sides(
    launch: Launch, websockets: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    certificates = Certificates(tmp_path_factory.mktemp("tls"))
    proxy = launch(ready=False, **settings_for(websockets), **certificates.settings)
    context = certificates.client_context()
    port = proxy.port

    def ready() -> bool:
        with TLSClient(proxy.address, context) as probe:
            return probe.ask(message("GET /ready")).status == 200

    wait_until("ready", ready)
    with connect(
        f"wss://127.0.0.1:{port}/", ssl=context, subprotocols=[CHAT], max_size=None
    ) as client:
        client.send(MEGABYTE)
        assert client.recv() == MEGABYTE
