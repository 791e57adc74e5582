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

from authproxy.errors import RequestBodyNotKept

#: Bodies up to this size are kept in memory, and so much of it by all of them.
LARGEST_BYTES = 1024 * 1024
ALL_BYTES = 24 * 1024 * 1024

#: After how long a sender may try again where no file could take its body.
_NO_ROOM_RETRY_SECONDS = 5

#: Room comes in powers of two. So much of it is kept between requests: fresh
#: memory has to be cleared and mapped, which takes longer than to fill it.
_LEAST_KEPT = 64 * 1024
_SPARE_BYTES = 4 * 1024 * 1024


def not_kept(why: OSError) -> RequestBodyNotKept:
    """Return the error for a body that memory is not for, where no file can take it either."""
    reason = why.strerror or str(why)
    return RequestBodyNotKept(
        f"the temporary directory cannot take the request's body ({reason}); see to TMPDIR",
        retry_after=_NO_ROOM_RETRY_SECONDS,
    )


class BodyMemory:
    """The memory for bodies, with a bound."""

    def __init__(self, limit: int = ALL_BYTES) -> None:
        self._left = limit
        self._lock = threading.Lock()
        self._spare: dict[int, list[bytearray]] = {}
        self._spare_bytes = 0

    def receiver(self, length: int) -> MemoryBody | None:
        """Return what receives a body of this length, or None where there is no room for it."""
        if length > LARGEST_BYTES:
            return None
        size = length if length < _LEAST_KEPT else 1 << (length - 1).bit_length()
        with self._lock:
            if size > self._left:
                return None
            self._left -= size
            room = None
            if kept := self._spare.get(size):
                room = kept.pop()
                self._spare_bytes -= size
        return MemoryBody(bytearray(size) if room is None else room, length, self)

    def give_back(self, room: bytearray) -> None:
        """Take the room of a body that is gone."""
        size = len(room)
        with self._lock:
            self._left += size
            if size >= _LEAST_KEPT and self._spare_bytes + size <= _SPARE_BYTES:
                self._spare.setdefault(size, []).append(room)
                self._spare_bytes += size


class MemoryBody(io.RawIOBase):
    """One body: first what waitress calls a receiver, then the file that it was received in."""

    error: Any = None

    def __init__(self, room: bytearray, length: int, memory: BodyMemory) -> None:
        super().__init__()
        self._room = room
        self._length = length
        self._memory = memory
        self._received = 0
        self._position = 0

    # Receiving.

    def __len__(self) -> int:
        return self._received

    @property
    def completed(self) -> bool:
        """Whether all of it is here."""
        return self._received == self._length

    def received(self, data: bytes) -> int:
        """Take what belongs to the body; return how many bytes that was."""
        taken = data[: self._length - self._received]
        self._room[self._received : self._received + len(taken)] = taken
        self._received += len(taken)
        return len(taken)

    def receive_from(self, sock: socket.socket) -> int:
        """Read from the socket what is there; raises what sockets raise."""
        with memoryview(self._room) as whole, whole[self._received : self._length] as room:
            count = sock.recv_into(room)
        self._received += count
        return count

    def getfile(self) -> MemoryBody:
        return self

    def getbuf(self) -> MemoryBody:
        return self

    # Reading.

    def getbuffer(self) -> memoryview:
        """Return the bytes themselves, which are another's after `close`."""
        return memoryview(self._room)[: self._length]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}
        self._position = max(0, base[whence] + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self.closed:
            raise ValueError("the body is closed")
        piece = self._room[self._position : min(self._length, self._position + len(buffer))]
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def close(self) -> None:
        """Give the memory back."""
        if not self.closed:
            super().close()
            self._memory.give_back(self._room)
            self._room = bytearray()
            self._length = self._received = 0
