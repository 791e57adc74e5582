"""Decoding a chunked body, without I/O (RFC 9112 section 7.1)."""

from __future__ import annotations

import re
from http.client import HTTPException

#: Longest line of a chunk's size with its extensions, and all trailers.
MAX_LINE_BYTES = 1024
MAX_TRAILER_BYTES = 16 * 1024

# A bare line feed ends a line as well (RFC 9112 section 2.2).
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r?\n")
_LINE_END = re.compile(rb"\r?\n")
_EMPTY_LINE = re.compile(rb"\n\r?\n")


class MalformedChunk(HTTPException):
    """The body is not chunked as it should be; where it ends, nobody knows."""


class ChunkDecoder:
    """Takes the bytes as they come, and gives the data that they hold.

    `complete` says that the last chunk and the trailers, which are dropped,
    are there too; what came after them is in `rest`. `error` is what is wrong
    with the bytes after the data that was given last.
    """

    def __init__(self) -> None:
        self.complete = False
        self.error: MalformedChunk | None = None
        self.rest = b""
        self._left = 0  # of the chunk that has begun
        self._within = False  # a chunk, whose line end is still to come
        self._last = False  # the last chunk has begun: trailers follow

    def feed(self, data: bytes) -> bytes:
        """Return the data that is in these bytes, up to what is wrong with them."""
        data = self.rest + data if self.rest else data
        pieces: list[bytes] = []
        at = 0
        try:
            while at < len(data) and not self.complete:
                if self._left:
                    piece = data[at : at + self._left]
                    pieces.append(piece)
                    self._left -= len(piece)
                    at += len(piece)
                elif (after := self._line(data, at)) is None:
                    break
                else:
                    at = after
        except MalformedChunk as error:
            self.error = error
        self.rest = data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _line(self, data: bytes, at: int) -> int | None:
        """Return where the line at this place ends, or None where more has to come."""
        if self._last:
            return self._trailers(data, at)
        expected = _LINE_END if self._within else _SIZE
        match = expected.match(data, at)
        if match is None:
            if b"\n" in data[at : at + MAX_LINE_BYTES] or len(data) - at >= MAX_LINE_BYTES:
                raise MalformedChunk("the answer has a malformed chunk")
            if self._within and data[at : at + 2] not in (b"", b"\r"):
                raise MalformedChunk("the answer has a chunk that is longer than it says")
            return None
        if self._within:
            self._within = False
        else:
            self._left = int(match[1], 16)
            self._last = self._left == 0
            self._within = not self._last
        return match.end()

    def _trailers(self, data: bytes, at: int) -> int | None:
        match = _LINE_END.match(data, at) or _EMPTY_LINE.search(data, at)
        if match is None:
            if len(data) - at > MAX_TRAILER_BYTES:
                raise MalformedChunk("the answer has endless trailers")
            return None
        self.complete = True
        return match.end()
