"""What a client has not read yet: in memory, and beyond a limit in a temporary file.

What its socket takes goes out at once, from the thread that serves the request. The rest
is kept for the main loop, so that a slow client holds no thread; up to a limit, beyond
which the thread waits for that client.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from tempfile import TemporaryFile

from authproxy.server.budget import Budget, Pool, no_callback
from authproxy.server.client_socket import ClientSocket

log = logging.getLogger(__name__)

#: Bytes of one response that wait in memory; what waits beyond them does so in a file.
MEMORY_BYTES = 256 * 1024

#: Where no more waits, the response needs no thread, however slowly the client reads.
MOST_BYTES = 4 * 1024 * 1024

#: Most bytes of one send.
_SEND_BYTES = 256 * 1024


class Disconnected(ConnectionError):
    """The connection to the client is closed."""


@dataclass(frozen=True)
class OutboxStore:
    """The bounds that all outboxes share: on memory, and on memory and files together."""

    memory: Pool
    budget: Budget


class Outbox:
    """The bytes on their way to one client.

    One thread at a time writes; the main loop flushes and closes, and waits for nothing.
    """

    def __init__(
        self, sock: ClientSocket, store: OutboxStore, on_change: Callable[[], None]
    ) -> None:
        """`on_change` is called by a thread that has left bytes for `flush`."""
        self._socket = sock
        self._store = store
        self._on_change = on_change
        self._changed = threading.Condition()
        self._pieces: deque[memoryview] = deque()
        self._in_memory = 0
        self._file: _Spill | None = None
        self._spilling = False
        self._disk_full = self._disk_logged = False
        self.closed = False
        #: Bytes that wait for the client, and whether a thread waits to write more: in
        #: either case `flush` is due once the socket takes bytes.
        self.pending = 0
        self.awaited = False
        #: Bytes that the socket took, and when it last took some (monotonic).
        self.taken = 0
        self.taken_at = 0.0

    # In the thread that writes.

    def write(self, data: bytes, *, wait: bool = True) -> None:
        """Send the bytes, or keep them for the main loop.

        Without `wait` they are kept in any case, which is for few bytes. Raises Disconnected.
        """
        rest, kept = memoryview(data), False
        while rest:
            with self._changed:
                rest = self._send(rest)
                if rest and self._keep(rest, force=not wait):
                    rest, kept = rest[:0], True
                elif rest and not self._may_spill(len(rest)):
                    self._wait_for_client()
                    continue
            if rest:
                rest, kept = self._spill(rest), True
        if kept:
            self._on_change()

    def _send(self, data: memoryview) -> memoryview:
        """Return what the socket did not take."""
        if self.closed:
            raise Disconnected
        if self.pending:
            return data
        try:
            return data[self._send_some(data) :]
        except OSError:
            raise Disconnected from None

    def _keep(self, data: memoryview, *, force: bool) -> bool:
        """Keep it in memory, if there is room for it."""
        size, memory, budget = len(data), self._store.memory, self._store.budget
        if force and self._file is None:
            memory.force(size)
            budget.force(size)
        else:
            if self._file is not None or self._in_memory + size > MEMORY_BYTES:
                return False
            if not memory.take(size):
                return False
            if not budget.take(size):
                memory.give_back(size)
                return False
        self._pieces.append(memoryview(bytes(data)))
        self._in_memory += size
        self.pending += size
        return True

    def _may_spill(self, size: int) -> bool:
        if self._disk_full or self.pending + size > MOST_BYTES:
            return False
        self._spilling = self._store.budget.take(size)
        return self._spilling

    def _spill(self, data: memoryview) -> memoryview:
        """Write to the file, not under the lock; return what it could not take."""
        problem, file = None, self._file
        try:
            file = file or _Spill()
            file.write(data)
        except OSError as error:
            problem = error
        with self._changed:
            self._spilling = False
            if problem is None and not self.closed and file is not None:
                self._file = file
                file.commit()
                self.pending += len(data)
                return data[:0]
            self._store.budget.give_back(len(data))
            if file is not None and (self.closed or not len(file)):
                file.close()
                self._file = None
            if self.closed:
                raise Disconnected
            self._disk_full = True
        if not self._disk_logged:
            self._disk_logged = True
            fields = {"Problem": f"the temporary directory cannot take it ({problem})"}
            log.warning("A response waits in memory.", extra={"fields": fields})
        return data

    def _wait_for_client(self) -> None:
        """Hold this thread, and so the target, until the socket takes bytes again."""
        self.awaited = True
        self._on_change()
        while self.awaited and not self.closed:
            self._changed.wait()

    # In the main loop.

    def flush(self) -> None:
        """Send what the socket takes of what waits. Raises OSError."""
        with self._changed:
            while piece := self._next():
                count = self._send_some(piece)
                self._skip(count)
                if count < len(piece):
                    break
            if not self.pending:
                self._disk_full = False
            self.awaited = False
            self._changed.notify()

    def close(self) -> None:
        """Drop what waits; who writes, or waits to, gets Disconnected."""
        with self._changed:
            self._store.memory.give_back(self._in_memory)
            self._store.budget.give_back(self.pending)
            self.closed = True
            self._on_change = no_callback
            self._pieces.clear()
            self._in_memory = self.pending = 0
            file, self._file = self._file, None
            if file is not None and not self._spilling:
                file.close()
            self._changed.notify()

    def _next(self) -> memoryview | bytes:
        if self._pieces:
            return self._pieces[0][:_SEND_BYTES]
        return self._file.read(_SEND_BYTES) if self._file else b""

    def _skip(self, count: int) -> None:
        self.pending -= count
        self._store.budget.give_back(count)
        if self._pieces:
            self._store.memory.give_back(count)
            self._in_memory -= count
            self._pieces[0] = self._pieces[0][count:]
            if not self._pieces[0]:
                self._pieces.popleft()
        elif self._file is not None:
            self._file.skip(count)
            if not len(self._file) and not self._spilling:
                self._file.close()
                self._file = None

    # In either, with the lock held.

    def _send_some(self, data: memoryview | bytes) -> int:
        """Return how many bytes the socket took. Raises OSError."""
        try:
            count = self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        self.taken += count
        self.taken_at = time.monotonic()
        return count


class _Spill:
    """A file without a name; what a failed write left behind in it does not count."""

    def __init__(self) -> None:
        self._file = TemporaryFile(buffering=0)  # noqa: SIM115 - lives as long as this
        self._start = self._end = self._written = 0

    def __len__(self) -> int:
        return self._end - self._start

    def write(self, data: memoryview) -> None:
        """Write all of it behind the end, where it does not count yet. Raises OSError."""
        self._written = self._end
        while data:
            count = os.pwrite(self._file.fileno(), data, self._written)
            data, self._written = data[count:], self._written + count

    def commit(self) -> None:
        """Have what was written count."""
        self._end = self._written

    def read(self, most: int) -> bytes:
        return os.pread(self._file.fileno(), min(most, len(self)), self._start)

    def skip(self, count: int) -> None:
        self._start += count

    def close(self) -> None:
        self._file.close()
