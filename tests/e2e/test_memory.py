"""Memory stays flat whatever the size of what passes."""

from __future__ import annotations

import threading

import pytest

from tests.conftest import Launch
from tests.support import actions
from tests.support.process import ProxyProcess
from tests.support.upstream import Exchange, Upstream
from tests.support.wire import DEADLINE, chunks, message

PIECE = bytes(range(256)) * 4096
PIECES = 286  # Of a mebibyte each: 300 million bytes.
SIZE = PIECES * len(PIECE)
ALLOWED_GROWTH = 40_000_000


@pytest.fixture(scope="module")
def roomy(launch_for_module: Launch) -> ProxyProcess:
    return launch_for_module(MAX_REQUEST_BODY_BYTES="400000000")


class Growth:
    """How much memory a process took beyond what it had, at its worst."""

    def __init__(self, proxy: ProxyProcess) -> None:
        for _ in range(3):
            assert proxy.ask(message("POST /warm", body=b"w" * 1_000_000)).status == 200
        self._proxy = proxy
        self._before = proxy.peak_bytes()

    def check(self) -> None:
        growth = self._proxy.peak_bytes() - self._before
        assert growth < ALLOWED_GROWTH, f"grew by {growth:,} bytes"


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_three_hundred_megabytes_go_up_in_flat_memory(
    roomy: ProxyProcess, target: Upstream, chunked: bool
) -> None:
    sizes: list[int] = []

    def swallow(exchange: Exchange) -> None:
        sizes.append(exchange.discard_body())
        exchange.send(actions.answer(200))

    target.on("/up", swallow)
    growth = Growth(roomy)
    with roomy.connect() as client:
        if chunked:
            client.send(message("POST /up", "Transfer-Encoding: chunked"))
        else:
            client.send(message("POST /up", f"Content-Length: {SIZE}"))
        piece = chunks(PIECE, end=False) if chunked else PIECE
        for _ in range(PIECES):
            client.send(piece)
        if chunked:
            client.send(chunks())
        assert client.receive().status == 200
    assert sizes == [SIZE]
    growth.check()


@pytest.mark.parametrize("framing", ["length", "chunked", "end"])
def test_three_hundred_megabytes_come_down_in_flat_memory(
    roomy: ProxyProcess, target: Upstream, framing: str
) -> None:
    lines = {
        "length": [f"Content-Length: {SIZE}"],
        "chunked": ["Transfer-Encoding: chunked"],
        "end": ["Connection: close"],
    }[framing]
    piece = chunks(PIECE, end=False) if framing == "chunked" else PIECE

    def pour(exchange: Exchange) -> None:
        exchange.send(actions.head(200, *lines))
        for _ in range(PIECES):
            exchange.send(piece)
        if framing == "chunked":
            exchange.send(chunks())
        elif framing == "end":
            exchange.close()

    target.on("/down", pour)
    growth = Growth(roomy)
    with roomy.connect() as client:
        client.send(message("GET /down"))
        response = client.receive_head()
        received = sum(len(part) for part in client.body_of(response))
    assert received == SIZE
    growth.check()


def test_an_answer_that_nobody_reads_is_not_taken_in(roomy: ProxyProcess, target: Upstream) -> None:
    """The target is made to wait, so that a slow reader costs a bounded buffer."""
    blocked = threading.Event()
    sent = [0]

    def pour(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(actions.head(200, f"Content-Length: {SIZE}"))
        exchange.connection.sock.settimeout(1)
        try:
            for _ in range(PIECES):
                exchange.send(PIECE)
                sent[0] += len(PIECE)
        except TimeoutError:
            exchange.cut()
        finally:
            blocked.set()

    target.on("/unread", pour)
    growth = Growth(roomy)
    with roomy.connect() as client:
        client.send(message("GET /unread"))
        client.receive_head()
        assert blocked.wait(DEADLINE)
        assert sent[0] < SIZE // 2
        assert roomy.get("/other").status == 200
        growth.check()
