"""Request bodies of known length in memory: received there, and sent from there.

waitress would read a body in pieces, append each to a buffer, and copy the
buffer to a file beyond half a megabyte. Here the kernel writes into the memory
from which TLS will read. What all bodies take together has a bound; beyond it,
and for larger ones, waitress's way is taken.
"""

from __future__ import annotations

import io
import socket
import threading
from typing import Any

#: Bodies up to this size are kept in memory, and so much of it by all of them.
LARGEST_BYTES = 1024 * 1024
ALL_BYTES = 24 * 1024 * 1024


class BodyMemory:
    """What is left of the memory for bodies."""

    def __init__(self, limit: int = ALL_BYTES) -> None:
        self._left = limit
        self._lock = threading.Lock()

    def receiver(self, length: int) -> MemoryBody | None:
        """Return what receives a body of this length, or None where it has no room."""
        if length > LARGEST_BYTES:
            return None
        with self._lock:
            if length > self._left:
                return None
            self._left -= length
        return MemoryBody(length, self)

    def give_back(self, length: int) -> None:
        """Take note that a body is gone."""
        with self._lock:
            self._left += length


class MemoryBody(io.RawIOBase):
    """One body: first what waitress calls a receiver, then the file that it was received in."""

    error: Any = None

    def __init__(self, length: int, memory: BodyMemory) -> None:
        super().__init__()
        self._content = bytearray(length)
        self._memory = memory
        self._received = 0
        self._position = 0

    # Receiving.

    def __len__(self) -> int:
        return self._received

    @property
    def completed(self) -> bool:
        """Whether all of it is here."""
        return self._received == len(self._content)

    def received(self, data: bytes) -> int:
        """Take what belongs to the body; return how many bytes that was."""
        taken = data[: len(self._content) - self._received]
        self._content[self._received : self._received + len(taken)] = taken
        self._received += len(taken)
        return len(taken)

    def receive_from(self, sock: socket.socket) -> int:
        """Read from the socket what is there; raises what sockets raise."""
        with memoryview(self._content) as whole, whole[self._received :] as room:
            count = sock.recv_into(room)
        self._received += count
        return count

    def getfile(self) -> MemoryBody:
        return self

    def getbuf(self) -> MemoryBody:
        return self

    # Reading.

    def getbuffer(self) -> memoryview:
        """Return the bytes themselves; release the view before `close`."""
        return memoryview(self._content)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._content)}
        self._position = max(0, base[whence] + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        piece = self._content[self._position : self._position + len(buffer)]
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def close(self) -> None:
        """Give the memory back."""
        if not self.closed:
            super().close()
            self._memory.give_back(len(self._content))
            self._content = bytearray()
