"""Request bodies in memory: received there, and sent from there.

The kernel writes into the memory from which TLS will read. It is reserved as
addresses only, so that a body costs what has arrived of it, whatever was announced.
What all bodies take together has a bound; beyond it, and for larger ones, a body
goes to a temporary file.
"""

from __future__ import annotations

import io
import mmap
from collections.abc import Callable
from typing import Any

from authproxy.server.budget import Pool, no_callback

#: Bodies up to this size are kept in memory, and so much of it by all of them.
LARGEST_BYTES = 1024 * 1024
ALL_BYTES = 24 * 1024 * 1024

#: Bodies known to be smaller get a piece of the heap that is just large enough.
_SMALL_BYTES = 64 * 1024

#: So much memory is kept between requests: fresh memory has to be cleared and mapped,
#: which takes longer than to fill it.
_SPARE_BYTES = 4 * 1024 * 1024


class _Room:
    """Memory for one body. So much of it was `touched`, and is the process's until it goes."""

    def __init__(self, memory: bytearray | mmap.mmap) -> None:
        self.memory = memory
        self.touched = 0


def _fresh_memory() -> mmap.mmap:
    memory = mmap.mmap(-1, LARGEST_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):  # else the first byte may cost two megabytes
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory


class BodyMemory(Pool):
    """The memory for bodies, with a bound."""

    def __init__(self, limit: int = ALL_BYTES) -> None:
        super().__init__(limit)
        self._spare: list[_Room] = []
        self._spare_bytes = 0

    def body(
        self, length: int | None, on_close: Callable[[], None] = no_callback
    ) -> MemoryBody | None:
        """Return a body to be received; None where it is too long, or there is no room for it.

        `length` is None for a body of unknown length.
        """
        if length is not None and length > LARGEST_BYTES:
            return None
        size = LARGEST_BYTES if length is None else length
        if size < _SMALL_BYTES:
            if not self.take(size):
                return None
            room = _Room(bytearray(size))
            room.touched = size
        else:
            room = self._kept_room() or _Room(_fresh_memory())
        return MemoryBody(room, size, self, on_close)

    def _kept_room(self) -> _Room | None:
        with self._lock:
            if not self._spare or self._spare[-1].touched > self._left:
                return None
            room = self._spare.pop()
            self._spare_bytes -= room.touched
            self._left -= room.touched
            return room

    def keep(self, room: _Room) -> None:
        """Take the room of a body that is gone."""
        with self._lock:
            self._left += room.touched
            fits = self._spare_bytes + room.touched <= _SPARE_BYTES
            if fits and isinstance(room.memory, mmap.mmap):
                self._spare.append(room)
                self._spare_bytes += room.touched


class MemoryBody(io.RawIOBase):
    """One body: received first, then the file that it was received in."""

    def __init__(
        self, room: _Room, size: int, memory: BodyMemory, on_close: Callable[[], None]
    ) -> None:
        super().__init__()
        self._room = room
        self._size = size
        self._memory = memory
        self._on_close = on_close
        self._received = 0
        self._fresh = 0
        self._position = 0

    # Receiving.

    def __len__(self) -> int:
        return self._received

    def writable_part(self, most: int) -> memoryview | None:
        """Return where the next bytes go, `most` of them; None where there is no room for them.

        Call `filled` with how many came, once the view is released.
        """
        end = self._received + most
        fresh = max(0, end - self._room.touched)
        if end > self._size or (fresh and not self._memory.take(fresh)):
            return None
        self._room.touched += fresh
        self._fresh = fresh
        return memoryview(self._room.memory)[self._received : end]

    def filled(self, count: int) -> None:
        """So many bytes have come; what else was taken for them is given back."""
        self._received += count
        used = max(self._room.touched - self._fresh, self._received)
        if unused := self._room.touched - used:
            self._room.touched = used
            self._memory.give_back(unused)

    def append(self, data: bytes | memoryview) -> bool:
        """Take all of `data`, or nothing of it where there is no room."""
        part = self.writable_part(len(data))
        if part is None:
            return False
        with part:
            part[:] = data
        self.filled(len(data))
        return True

    # Reading.

    def getbuffer(self) -> memoryview:
        """Return the bytes themselves, which are another's after `close`."""
        return memoryview(self._room.memory)[: self._received]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._received}
        self._position = max(0, base[whence] + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self.closed:
            raise ValueError("the body is closed")
        count = max(0, min(self._received - self._position, len(buffer)))
        with memoryview(self._room.memory) as content:
            buffer[:count] = content[self._position : self._position + count]
        self._position += count
        return count

    def forget(self) -> None:
        """Close it, but say nothing of that: its content goes on elsewhere."""
        self._on_close = no_callback
        self.close()

    def close(self) -> None:
        """Give the memory back."""
        if not self.closed:
            super().close()
            self._memory.keep(self._room)
            self._room = _Room(bytearray())
            self._received = 0
            self._on_close()
