"""Rows: clients that are slow, or gone, at every stage; what the others see of it."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from lab.faults.bench import Bench
from lab.faults.ground import SETTINGS
from lab.faults.row import Row
from tests.support import actions
from tests.support.process import wait_until
from tests.support.upstream import Exchange
from tests.support.wire import Client, message

#: Several times the threads of the proxy.
CROWD = 30
THREADS = int(SETTINGS["THREADS"])
UNREAD = 2_000_000
UNANSWERED = message("GET /unanswered")
ANSWERED = message("GET /answered")
#: SO_LINGER on, zero seconds: closing resets.
RESET = struct.pack("ii", 1, 0)
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
    """A crowd takes a kilobyte of a large response every tenth of a second."""
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


def more_than_is_kept(bench: Bench) -> None:
    """A crowd sends the first quarter of long bodies: together more than may be kept."""
    bound = 16 * 1024 * 1024
    bench.ground.launch(MAX_REQUEST_BODY_BYTES="2000000", MAX_BUFFERED_BYTES=str(bound))
    bench.flow()
    part = message("POST /api/v1/write?number=0", "Content-Length: 2000000") + bytes(500_000)
    with bench.fault(), ExitStack() as stack:
        crowd = gather(bench, stack, b"", count=2 * CROWD)
        senders = [threading.Thread(target=each.offer, args=(part,)) for each in crowd]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        bench.felt(10)
    assert 0 not in bench.ground.received


def gone(raw: bytes, bench: Bench) -> None:
    """A crowd sends something, and resets its connections; nothing of it stays behind."""
    bench.flow()
    before = _descriptors(bench)
    upstream = bench.ground.upstream
    gate = upstream.gate()
    # Each of the two is asked for in one row only, as the rows share a target.
    if raw == UNANSWERED:
        upstream.on("/unanswered", actions.raw(gate, actions.answer(200)))
    if raw == ANSWERED:
        upstream.on("/answered", _half_then(gate.wait))
    with bench.fault():
        with ExitStack() as stack:
            crowd = gather(bench, stack, raw)
            if raw in (UNANSWERED, ANSWERED):
                wait_until("the threads are taken", lambda: _held(bench) >= THREADS)
            for client in crowd:
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        bench.felt()
    gate.open()
    wait_until("their descriptors are closed", lambda: _descriptors(bench) <= before + THREADS)
    assert 0 not in bench.ground.received


def _held(bench: Bench) -> int:
    """Return how many requests of the crowd have come to the target."""
    return sum(b"answered" in each.target for each in list(bench.ground.upstream.requests))


def _half_then(wait: Callable[[], None]) -> Callable[[Exchange], None]:
    def handle(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(actions.head(200, f"Content-Length: {UNREAD}") + b"l" * (UNREAD // 2))
        wait()
        exchange.send(b"l" * (UNREAD // 2))

    return handle


GONE = {
    "before its request": b"",
    "within its head": b"POST /api/v1/write?number=0 HTTP/1.1\r\nHo",
    "within its body": HALF_BODY,
    "before the response": UNANSWERED,
    "within the response": ANSWERED,
}

ROWS = [
    Row("slow to send", "its head", partial(slow, b"", message("GET /slow")), slow=True),
    Row("slow to send", "its body", partial(slow, HALF_BODY, b"x" * 100), slow=True),
    Row(
        "slow to send",
        "60 bodies, together more than MAX_BUFFERED_BYTES",
        more_than_is_kept,
        log=("Overloaded",),
        bound="those clients; where room stays scarce, the slowest give way",
        shared=False,
    ),
    Row(
        "slow to read",
        "responses of 2 MB",
        partial(slow_readers, UNREAD, CROWD),
        slow=True,
    ),
    Row(
        "slow to read",
        "responses of 64 MB, as many as THREADS",
        partial(slow_readers, 64_000_000, THREADS),
        bound="those clients; one that takes nothing is cut after 60 s",
        slow=True,
    ),
    *(
        Row(
            "gone",
            stage,
            partial(gone, raw),
            slow=raw in (UNANSWERED, ANSWERED),
        )
        for stage, raw in GONE.items()
    ),
]
