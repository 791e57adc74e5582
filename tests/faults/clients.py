"""Rows: clients that are slow, or gone, at every stage; what the others see of it."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from tests.faults.bench import Bench
from tests.faults.ground import SETTINGS
from tests.faults.row import Row
from tests.support import actions
from tests.support.process import wait_until
from tests.support.upstream import Exchange
from tests.support.wire import Client, Truncated, message

#: Several times the threads of the proxy.
CROWD = 30
THREADS = int(SETTINGS["THREADS"])
UNREAD = 2_000_000
HALF_BODY = message("POST /api/v1/write?number=0", "Content-Length: 5000", body=b"half")


def _descriptors(bench: Bench) -> int:
    return len(os.listdir(f"/proc/{bench.proxy.pid}/fd"))


def gather(bench: Bench, stack: ExitStack, raw: bytes, *, count: int = CROWD) -> list[Client]:
    """Connect so many clients that read little, and have each send `raw`."""
    crowd = []
    for _ in range(count):
        client = stack.enter_context(bench.proxy.connect())
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.offer(raw)
        crowd.append(client)
    return crowd


def slow(first: bytes, each: bytes, bench: Bench) -> None:
    """A crowd sends `first`, and then a byte of `each` every tenth of a second."""
    bench.flow()
    with bench.fault(), ExitStack() as stack:
        crowd = gather(bench, stack, first)
        for at in range(20):
            for client in crowd:
                client.offer(each[at : at + 1])
            bench.rest(0.1)
        bench.felt()


def slow_readers(size: int, count: int, bench: Bench) -> None:
    """A crowd takes a kilobyte of a large answer every tenth of a second."""
    bench.flow()
    large = f"/large-{size}."  # The rows share a target.
    bench.ground.upstream.on(large, actions.raw(actions.answer(200, body=b"l" * size)))
    with bench.fault(), ExitStack() as stack:
        crowd = gather(bench, stack, message(f"GET {large}"), count=count)
        for client in crowd:
            client.receive_head()
        for _ in range(20):
            for client in crowd:
                client.stream.fill(1024)
            bench.rest(0.1)
        if size <= UNREAD:
            bench.felt()


def gone(raw: bytes, bench: Bench) -> None:
    """Crowds send something, and reset their connections; nothing of them stays behind."""
    bench.flow()
    before = _descriptors(bench)
    upstream = bench.ground.upstream
    gate = upstream.gate()
    upstream.on("/answered", _half_then(gate.wait))
    upstream.on("/unanswered", actions.raw(gate, actions.answer(200)))
    with bench.fault():
        for _ in range(3):
            for _ in range(CROWD // 3):
                _connect_and_reset(bench, raw)
        if b"answered" not in raw:
            bench.felt()
    gate.open()
    wait_until("their descriptors are closed", lambda: _descriptors(bench) <= before + THREADS)
    assert 0 not in bench.ground.received


def _half_then(wait: Callable[[], None]) -> Callable[[Exchange], None]:
    def handle(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(actions.head(200, f"Content-Length: {UNREAD}") + b"l" * (UNREAD // 2))
        wait()
        exchange.send(b"l" * (UNREAD // 2))

    return handle


def _connect_and_reset(bench: Bench, raw: bytes) -> None:
    with bench.proxy.connect() as client:
        client.send(raw)
        if b"/answered" in raw:
            try:
                client.sock.settimeout(0.2)
                client.sock.recv(1024)
            except (TimeoutError, Truncated):
                pass  # All threads are taken: it goes without an answer.
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


GONE = {
    "before its request": b"",
    "within its head": b"POST /api/v1/write?number=0 HTTP/1.1\r\nHo",
    "within its body": HALF_BODY,
    "before the answer": message("GET /unanswered"),
    "within the answer": message("GET /answered"),
}

ROWS = [
    Row("slow to send", "its head", partial(slow, b"", message("GET /slow")), slow=True),
    Row("slow to send", "its body", partial(slow, HALF_BODY, b"x" * 100), slow=True),
    Row(
        "slow to read",
        "answers of 2 MB",
        partial(slow_readers, UNREAD, CROWD),
        slow=True,
    ),
    Row(
        "slow to read",
        "answers of 64 MB, as many as THREADS",
        partial(slow_readers, 64_000_000, THREADS),
        bound="those clients; one that takes nothing is cut after 60 s",
        slow=True,
    ),
    *(
        Row(
            "gone",
            stage,
            partial(gone, raw),
            bound="TARGET_READ_TIMEOUT_SECONDS" if b"answered" in raw else "",
            slow=b"answered" in raw,
        )
        for stage, raw in GONE.items()
    ),
]
