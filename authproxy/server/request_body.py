"""Receives the body of one request: within the budget, into memory or a temporary file."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from tempfile import TemporaryFile

from authproxy.errors import RequestBodyNotKept, RequestBodyTooLarge
from authproxy.http1.chunks import ChunkDecoder
from authproxy.server.budget import Account, Budget
from authproxy.server.client_socket import ClientSocket
from authproxy.server.memory_body import BodyMemory, MemoryBody
from authproxy.server.refusals import Refusal, malformed

#: Read at a time of what is looked at first; what goes straight to where it stays is read whole.
#: Of chunks that are mostly framing less, as each of them takes its time.
_LOOKED_AT_BYTES = 64 * 1024
_TINY_CHUNKS_BYTES = 8 * 1024


@dataclass(frozen=True)
class BodyStore:
    """Where all bodies are received: the bounds that they share, and a place to read to."""

    limit: int
    memory: BodyMemory
    budget: Budget
    scratch: memoryview = field(default_factory=lambda: memoryview(bytearray(_LOOKED_AT_BYTES)))


class RequestBody:
    """A body that is received; what waitress calls a receiver."""

    #: Why it is refused, once it is; it is not received any further then.
    refusal: Refusal | None = None

    #: It waits for room in the budget.
    starved = False

    #: Decoding it takes much CPU time for few bytes.
    costly = False

    #: There may be more to be read at once: nothing was read yet, or the last read may have
    #: left something behind.
    expects_more = True

    def __init__(self, length: int | None, store: BodyStore, on_room: Callable[[], None]) -> None:
        """`length` is None for a chunked one; `on_room` is called when there may be room again."""
        self._length = length
        self._store = store
        self._account: Account = store.budget.account(on_room)
        self._decoder = None if length is not None else ChunkDecoder(strict=True)
        self._content: MemoryBody | _BodyFile | None = None
        self._received = 0
        if length is None or length <= store.limit:
            self._content = store.memory.body(length, self._account.close)

    def __len__(self) -> int:
        return self._received

    @property
    def completed(self) -> bool:
        """Whether all of it is here."""
        if self._decoder is not None:
            return self._decoder.complete
        return self._received == self._length

    @property
    def surplus(self) -> bytes:
        """What came after the end of it, in what `receive_from` read."""
        return self._decoder.rest if self._decoder is not None and self.completed else b""

    def take(self, data: bytes) -> int:
        """Take what belongs to the body; return how many bytes that was, 0 if it is starved."""
        if self._length is not None:
            data = data[: self._length - self._received]
        return self._take_in(data) if data and self._has_room(len(data)) else 0

    def receive_from(self, sock: ClientSocket) -> int:
        """Read what has come, up to some bound; return how many bytes that was.

        None, if the sender has ended or if it is starved. Raises what sockets raise.
        """
        if self._length is not None and isinstance(self._content, MemoryBody):
            most = self._length - self._received
            if not self._has_room(most):
                return 0
            part = self._content.writable_part(most)
            if part is not None:
                return self._receive_into(part, sock, self._content)
            self._account.give_back(most)
        most = _TINY_CHUNKS_BYTES if self.costly else _LOOKED_AT_BYTES
        if self._length is not None:
            most = min(self._length - self._received, most)
        if not self._has_room(most):
            return 0
        try:
            count = sock.recv_into(self._store.scratch[:most])
        except OSError:
            self._account.give_back(most)
            raise
        if count < most:
            self._account.give_back(most - count)
        self._take_in(self._store.scratch[:count])
        self.expects_more = count == most and not self.costly
        return count

    def _has_room(self, size: int) -> bool:
        self.starved = not self._account.take(size)
        return not self.starved

    def _receive_into(self, part: memoryview, sock: ClientSocket, content: MemoryBody) -> int:
        count, most = 0, len(part)
        try:
            with part:
                count = sock.recv_into(part)
        finally:
            content.filled(count)
            if count < most:
                self._account.give_back(most - count)
        self._received += count
        self.expects_more = count == most
        return count

    def _take_in(self, data: bytes | memoryview) -> int:
        """Keep what there is room for already; return how many bytes belong to the body."""
        if self._decoder is None:
            self._keep(data)
            return len(data)
        given = len(data)
        content = self._decoder.feed(bytes(data))
        self.costly = len(content) * 4 < given
        self.expects_more = not self.costly
        self._account.give_back(given - len(content))
        self._keep(content)
        if self._decoder.error is not None:
            self.refusal = malformed(f"In the body, {self._decoder.error}.")
        elif self._received + self._decoder.left > self._store.limit:
            self.refusal = RequestBodyTooLarge(self._store.limit)
        return given - (len(self._decoder.rest) if self._decoder.complete else 0)

    def _keep(self, data: bytes | memoryview) -> None:
        if data and not (isinstance(self._content, MemoryBody) and self._content.append(data)):
            try:
                self._file().append(data)
            except OSError as error:
                self.refusal = RequestBodyNotKept(error)
        self._received += len(data)

    def _file(self) -> _BodyFile:
        """Return the file that it goes to, with all that was kept in memory so far."""
        if isinstance(self._content, _BodyFile):
            return self._content
        before, self._content = self._content, _BodyFile.make(self._account.close)
        if before is not None:
            with before.getbuffer() as kept:
                self._content.append(kept)
            before.forget()
        return self._content

    # Reading.

    def getfile(self) -> io.IOBase:
        return io.BytesIO() if self._content is None else self._content

    def getbuf(self) -> RequestBody:
        return self

    def close(self) -> None:
        """Give back all that it takes."""
        if self._content is not None:
            self._content.close()
        self._account.close()


class _BodyFile(io.FileIO):
    """A file without a name, written at its end and read from its start."""

    def __init__(self, descriptor: int, on_close: Callable[[], None]) -> None:
        super().__init__(descriptor, "r+b")
        self._on_close = on_close
        self._end = 0

    @classmethod
    def make(cls, on_close: Callable[[], None]) -> _BodyFile:
        with TemporaryFile(buffering=0) as unnamed:
            return cls(os.dup(unnamed.fileno()), on_close)

    def append(self, data: bytes | memoryview) -> None:
        """Write all of it; raises OSError."""
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self.fileno(), rest, self._end)
            rest, self._end = rest[written:], self._end + written

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._on_close()
