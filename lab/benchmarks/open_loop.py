"""Requests sent by the clock, not when the last response came: an open loop.

A closed loop, as wrk's is, waits with the next request while the server is
slow, and so leaves out the very requests that would have waited longest
(coordinated omission). Here each request has its intended time, and its
latency counts from then: also while it waits for a connection, and also where
this generator itself was late.
"""

from __future__ import annotations

import asyncio
import re
import selectors
from collections import deque
from dataclasses import dataclass

from lab.benchmarks.load import FailedRequests

#: More requests than this are never under way at once; the others wait, and it counts.
MAX_CONNECTIONS = 256
#: Seconds after the last intended time within which every response has to be there.
DRAIN_SECONDS = 60.0

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_LENGTH = re.compile(rb"(?i)\r\ncontent-length:[ \t]*(\d+)")
_NO_CONTENT = 204


@dataclass(frozen=True)
class Latencies:
    """What one run showed, in milliseconds: of all requests, none left out."""

    rate: float
    p50: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: list[float], rate: float) -> Latencies:
        """Return the percentiles; each is a latency that occurred."""
        ordered = sorted(seconds)

        def at(share: float) -> float:
            return ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1000

        return cls(rate, at(0.50), at(0.90), at(0.99), ordered[-1] * 1000)


class _Connection(asyncio.Protocol):
    """A kept connection with one request under way at most."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._transport: asyncio.WriteTransport | None = None
        self._intended: float | None = None
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._load.connected(self)

    def send(self, request: bytes, intended: float) -> None:
        """Send a request whose time was `intended`."""
        assert self._transport is not None
        self._intended = intended
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        status = _STATUS.match(head)
        length = _LENGTH.search(head)
        if status is None or (length is None and int(status[1]) != _NO_CONTENT):
            self._load.fail(f"a response that is not understood: {bytes(head)!r}")
        elif len(body) >= (int(length[1]) if length else 0):
            self._received.clear()
            self._answered(int(status[1]), bytes(body))

    def _answered(self, status: int, body: bytes) -> None:
        intended, self._intended = self._intended, None
        if intended is None or not 200 <= status <= 299:
            self._load.fail(f"status {status}: {body[:200]!r}")
        else:
            self._load.answered(self, intended)

    def connection_lost(self, error: Exception | None) -> None:
        self._load.lost(self, self._intended is not None)

    def close(self) -> None:
        """Close the connection, at once."""
        if self._transport is not None:
            self._transport.abort()


class _Load:
    """One run: the requests that are due, the connections that are free."""

    def __init__(self, port: int, request: bytes, requests: int) -> None:
        self._port = port
        self._request = request
        self._expected = requests
        self._due: deque[float] = deque()
        self._free: list[_Connection] = []
        self._connections: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self.latencies: list[float] = []

    def due(self, intended: float) -> None:
        """A request's time has come."""
        self._due.append(intended)
        if self._free:
            self._next(self._free.pop())
        elif len(self._connections) + len(self._opening) < MAX_CONNECTIONS:
            self.open()

    def open(self) -> None:
        """Open one more connection, for what is due by then."""
        task = self._loop.create_task(self._open())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self) -> None:
        try:
            await self._loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._port)
        except OSError as error:
            self.fail(f"no connection: {error}")

    def connected(self, connection: _Connection) -> None:
        """A connection is there, for whatever is due."""
        self._connections.add(connection)
        self._next(connection)

    def _next(self, connection: _Connection) -> None:
        if self._due:
            connection.send(self._request, self._due.popleft())
        else:
            self._free.append(connection)

    def answered(self, connection: _Connection, intended: float) -> None:
        """A response is complete."""
        self.latencies.append(self._loop.time() - intended)
        if len(self.latencies) == self._expected and not self.done.done():
            self.done.set_result(None)
        self._next(connection)

    def lost(self, connection: _Connection, busy: bool) -> None:
        """A connection was closed: no fault while nothing was under way on it."""
        self._connections.discard(connection)
        if connection in self._free:
            self._free.remove(connection)
        if busy:
            self.fail("a connection was closed without a response")

    def fail(self, reason: str) -> None:
        """End the run: what it would show is worth nothing."""
        if not self.done.done():
            self.done.set_exception(FailedRequests(reason))

    async def close(self) -> None:
        """Close all connections."""
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for connection in self._connections:
            connection.close()
        while self._connections:
            await asyncio.sleep(0)


async def _send(port: int, request: bytes, rate: float, requests: int, ready: int) -> Latencies:
    load = _Load(port, request, requests)
    loop = asyncio.get_running_loop()
    for _ in range(ready):
        load.open()
    start = loop.time() + 0.2
    for number in range(requests):
        intended = start + number / rate
        # Behind schedule, it goes on at once; yet responses are taken in between.
        await asyncio.sleep(max(intended - loop.time(), 0))
        if load.done.done():
            break
        load.due(intended)
    try:
        await asyncio.wait_for(load.done, DRAIN_SECONDS)
        return Latencies.of(load.latencies, requests / (loop.time() - start))
    except asyncio.TimeoutError as error:
        missing = requests - len(load.latencies)
        raise FailedRequests(f"{missing} responses missing after {DRAIN_SECONDS:g} s") from error
    finally:
        await load.close()


def send(port: int, request: bytes, rate: float, requests: int, ready: int = 4) -> Latencies:
    """Send so many requests at `rate` a second, and return their latencies.

    `ready` connections are open before the first one's time. Raises
    FailedRequests where a response was an error or did not come.
    """
    # epoll would wake up to a millisecond late; select does not.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    try:
        return loop.run_until_complete(_send(port, request, rate, requests, ready))
    finally:
        loop.close()
