"""What of an answer waits for its client: in memory, and beyond a limit in a file.

waitress's own buffer loses its place where the file cannot grow, which ends the
answer. Here what was not taken is still the caller's.
"""

from __future__ import annotations

import os
from collections import deque
from tempfile import TemporaryFile


class AnswerBuffer:
    """Bytes that leave in the order in which they came; `limit` of them stay in memory.

    The names are those by which waitress knows its buffers. With `limit` None
    everything stays in memory.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._pieces: deque[memoryview] = deque()
        self._in_memory = 0
        self._file: _Spill | None = None

    def __len__(self) -> int:
        return self._in_memory + (len(self._file) if self._file else 0)

    def append(self, data: bytes) -> None:
        """Take all of `data`; or nothing of it, and raise OSError, where no file can be had."""
        full = self.limit is not None and self._in_memory + len(data) > self.limit
        if self._file is None and full:
            self._file = _Spill()
        if self._file is not None:
            self._file.append(data)
        else:
            self._pieces.append(memoryview(data))
            self._in_memory += len(data)

    def get(self, most: int) -> memoryview | bytes:
        """Return what leaves next, `most` bytes of it at most; it stays until `skip`."""
        if self._pieces:
            return self._pieces[0][:most]
        return self._file.get(most) if self._file else b""

    def skip(self, count: int, allow_prune: bool = False) -> None:
        """Drop so many bytes of what `get` returned."""
        if not self._pieces:
            if self._file:
                self._file.skip(count)
            return
        self._in_memory -= count
        rest = self._pieces[0][count:]
        if rest:
            self._pieces[0] = rest
        else:
            self._pieces.popleft()

    def close(self) -> None:
        """Drop everything."""
        self._pieces.clear()
        self._in_memory = 0
        if self._file is not None:
            self._file.close()
            self._file = None


class _Spill:
    """A file without a name; what a failed write left behind in it does not count."""

    def __init__(self) -> None:
        self._file = TemporaryFile(buffering=0)  # noqa: SIM115 - lives as long as this
        self._start = self._end = 0

    def __len__(self) -> int:
        return self._end - self._start

    def append(self, data: bytes) -> None:
        rest, at = memoryview(data), self._end
        while rest:
            written = os.pwrite(self._file.fileno(), rest, at)
            rest, at = rest[written:], at + written
        self._end = at

    def get(self, most: int) -> bytes:
        return os.pread(self._file.fileno(), min(most, len(self)), self._start)

    def skip(self, count: int) -> None:
        self._start += count

    def close(self) -> None:
        self._file.close()
