"""Decoding a chunked body, without I/O (RFC 9112 section 7.1)."""

from __future__ import annotations

import re
from http.client import HTTPException

from authproxy.http1.grammar import TOKEN

#: Longest line of a chunk's size with its extensions, and all trailers.
MAX_LINE_BYTES = 1024
MAX_TRAILER_BYTES = 16 * 1024

_TOKEN = TOKEN.encode()
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_TRAILER = re.compile(_TOKEN + rb":[^\x00-\x08\x0a-\x1f\x7f]*")

# As clients have to write it: what one parser repairs and the next does not,
# makes two requests of one. No blanks stand around a size.
_LINE_END = re.compile(rb"\r\n")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;%b(?:=(?:%b|%b))?)*\r\n" % (_TOKEN, _TOKEN, _QUOTED))

# As targets may: a bare line feed ends a line as well (RFC 9112 section 2.2).
_LENIENT_LINE_END = re.compile(rb"\r?\n")
_LENIENT_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r?\n")


#: The end of a chunk, and the size of the next.
_NEXT_SIZE = re.compile(_LINE_END.pattern + _SIZE.pattern)
_LENIENT_NEXT_SIZE = re.compile(_LENIENT_LINE_END.pattern + _LENIENT_SIZE.pattern)


class MalformedChunk(HTTPException):
    """The body is not chunked as it should be, so that its end is unknown."""


class ChunkDecoder:
    """Takes the bytes as they come, and gives the data that they hold.

    `complete` says that the last chunk and the trailers, which are dropped,
    are there too; what came after them is in `rest`. `error` is what is wrong
    with the bytes after the data that was given last. `left` counts the bytes
    that the chunk which has begun still lacks. `strict` is for requests.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.complete = False
        self.error: MalformedChunk | None = None
        self.rest = b""
        self.left = 0
        self._line_end = _LINE_END if strict else _LENIENT_LINE_END
        self._size = _SIZE if strict else _LENIENT_SIZE
        self._next_size = _NEXT_SIZE if strict else _LENIENT_NEXT_SIZE
        self._within = False  # a chunk, whose line end is still to come
        self._last = False  # the last chunk has begun: trailers follow
        self._trailer_bytes = 0

    def feed(self, data: bytes) -> bytes:
        """Return the data that is in these bytes, up to what is wrong with them."""
        data = self.rest + data if self.rest else data
        pieces: list[bytes] = []
        at = 0
        try:
            while at < len(data) and not self.complete:
                if self.left:
                    piece = data[at : at + self.left]
                    pieces.append(piece)
                    self.left -= len(piece)
                    at += len(piece)
                elif (
                    self._within
                    and (match := self._next_size.match(data, at)) is not None
                    and match.end() - at <= MAX_LINE_BYTES
                ):
                    # What most of a body of tiny chunks is, in one step; all else below.
                    self.left = int(match[1], 16)
                    self._last = self.left == 0
                    self._within = not self._last
                    at = match.end()
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
            return self._trailer(data, at)
        expected = self._line_end if self._within else self._size
        match = expected.match(data, at)
        # However the bytes arrive, a line that is too long is too long.
        if (match.end() - at if match else len(data) - at + 1) > MAX_LINE_BYTES:
            raise MalformedChunk("the line of a chunk's size is too long")
        if match is None:
            if b"\n" in data[at : at + MAX_LINE_BYTES]:
                raise MalformedChunk("a chunk is malformed")
            if self._within and data[at : at + 2] not in (b"", b"\r"):
                raise MalformedChunk("a chunk is longer than it says")
            return None
        if self._within:
            self._within = False
        else:
            self.left = int(match[1], 16)
            self._last = self.left == 0
            self._within = not self._last
        return match.end()

    def _trailer(self, data: bytes, at: int) -> int | None:
        match = self._line_end.search(data, at)
        length = (match.end() if match else len(data)) - at
        if self._trailer_bytes + length > MAX_TRAILER_BYTES:
            raise MalformedChunk("the trailers are too long")
        if match is None:
            return None
        self._trailer_bytes += length
        line = data[at : match.start()]
        if not line:
            self.complete = True
        elif not _TRAILER.fullmatch(line):  # the next message, perhaps: it is no trailer
            raise MalformedChunk("a trailer is not a header field")
        return match.end()
