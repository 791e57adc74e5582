"""Reading a response of the target: a strict head over http.client's body framing.

http.client parses heads with the e-mail parser, which forgives what a proxy
must not: a broken line hides the fields after it, and with them the framing;
and it takes 103 Early Hints for the final answer. So the head is read here by
RFC 9112, and only the body's bytes are left to http.client.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http.client import HTTPException, HTTPMessage, HTTPResponse, IncompleteRead
from socket import socket
from ssl import SSLError, SSLWantReadError

from authproxy.headers import Field, list_members

#: Longest head of a response, and most interim (1xx) responses before it.
MAX_HEAD_BYTES = 256 * 1024
MAX_INTERIM_RESPONSES = 16

#: Bytes asked of the socket at a time; what has arrived is passed on at once.
READ_BYTES = 64 * 1024

_STATUS_LINE = re.compile(
    rb"HTTP/1\.([0-9])[ \t]+([1-9][0-9]{2})(?:[ \t]+([^\x00-\x08\x0a-\x1f\x7f]*))?"
)
_FIELD_LINE = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*:[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*"
)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?")
_DECIMAL = re.compile(r"[0-9]{1,18}")


class NoResponse(HTTPException):
    """The connection ended before a single byte of a response."""


class MalformedResponse(HTTPException):
    """What came is not an HTTP/1 response that can be passed on."""


def parse_status_line(line: bytes) -> tuple[int, int, str]:
    """Return (minor version, status, reason) of RFC 9112 section 4.

    Raises MalformedResponse.
    """
    match = _STATUS_LINE.fullmatch(line)
    if not match:
        raise MalformedResponse("the answer is not HTTP/1")
    minor, status, reason = match.groups()
    return int(minor), int(status), (reason or b"").decode("latin-1")


def parse_field_lines(lines: list[bytes]) -> list[Field]:
    """Return the fields of RFC 9112 section 5, in order, repeats kept.

    Obsolete line folding becomes a space, blanks before the colon go (both
    section 5.1 and 5.2 ask of proxies). Raises MalformedResponse.
    """
    unfolded: list[bytes] = []
    for line in lines:
        if line[:1] in (b" ", b"\t") and unfolded:
            unfolded[-1] += b" " + line.strip(b" \t")
        else:
            unfolded.append(line)
    fields = []
    for line in unfolded:
        match = _FIELD_LINE.fullmatch(line)
        if not match:
            raise MalformedResponse("the answer has a malformed header line")
        fields.append((match[1].decode("ascii"), match[2].decode("latin-1")))
    return fields


def _values(fields: list[Field], name: str) -> list[str]:
    return [value for key, value in fields if key.lower() == name]


def is_chunked(fields: list[Field]) -> bool:
    """Tell whether the body is chunked; any other transfer coding is refused.

    Raises MalformedResponse.
    """
    codings = [
        coding for value in _values(fields, "transfer-encoding") for coding in list_members(value)
    ]
    if codings and codings != ["chunked"]:
        raise MalformedResponse("the answer has a transfer coding other than chunked")
    return bool(codings)


def content_length(fields: list[Field]) -> int | None:
    """Return the one Content-Length (RFC 9112 section 6.3: repeats must agree).

    Raises MalformedResponse.
    """
    lengths = {
        part.strip(" \t")
        for value in _values(fields, "content-length")
        for part in value.split(",")
    }
    if not lengths:
        return None
    if len(lengths) > 1 or not _DECIMAL.fullmatch(length := lengths.pop()):
        raise MalformedResponse("the answer has no single valid Content-Length")
    return int(length)


def with_length(fields: list[Field], length: int | None) -> list[Field]:
    """Return the fields with this one Content-Length, or with none."""
    if _values(fields, "content-length") == ([] if length is None else [str(length)]):
        return fields
    others = [field for field in fields if field[0].lower() != "content-length"]
    return others if length is None else [*others, ("Content-Length", str(length))]


def is_persistent(minor_version: int, fields: list[Field]) -> bool:
    """Tell whether the connection may be used again (RFC 9112 section 9.3)."""
    options = {option for value in _values(fields, "connection") for option in list_members(value)}
    if "close" in options:
        return False
    return minor_version >= 1 or "keep-alive" in options


class TargetResponse(HTTPResponse):
    """A response of the target, read from its socket.

    `fields` are the header fields as they came. `length` counts down the
    bytes still to come where Content-Length tells; `complete` says that all
    of the body was read.
    """

    fields: list[Field]

    def __init__(self, sock: socket, method: str) -> None:
        super().__init__(sock, method=method)
        self._sock = sock

    def begin(self) -> None:
        """Read the head, passing over interim responses.

        Raises NoResponse, MalformedResponse, and what sockets raise.
        """
        try:
            started = self.fp.peek(1)
        except (ConnectionError, SSLError) as error:
            raise NoResponse("closed the connection without an answer") from error
        if not started:
            raise NoResponse("closed the connection without an answer")
        for _ in range(MAX_INTERIM_RESPONSES + 1):
            lines = self._head_lines()
            minor, self.status, self.reason = parse_status_line(lines[0])
            if self.status >= 200:
                break
        else:
            raise MalformedResponse("too many interim responses")
        self.fields = parse_field_lines(lines[1:])
        self.code = self.status
        self.version = 11 if minor else 10
        self.headers = self.msg = HTTPMessage()
        self._frame(minor)

    def _frame(self, minor: int) -> None:
        """Decide where the body ends (RFC 9112 section 6.3)."""
        self.will_close = not is_persistent(minor, self.fields)
        self.chunked = is_chunked(self.fields)
        self.chunk_left = None
        self.length = content_length(self.fields)
        if self.chunked and self.length is not None:  # one of them lies: the chunks count
            self.length = None
            self.will_close = True
        self.fields = with_length(self.fields, self.length)
        if self._method == "HEAD" or self.status in (204, 304):  # type: ignore[attr-defined]
            self.chunked = False
            self.length = 0
        elif self.length is None and not self.chunked:
            self.will_close = True
        if self.length == 0:
            self._close_conn()  # type: ignore[attr-defined]

    def _head_lines(self) -> list[bytes]:
        lines: list[bytes] = []
        room = MAX_HEAD_BYTES
        while True:
            line = self.fp.readline(room + 1)
            room -= len(line)
            if room < 0:
                raise MalformedResponse(f"the answer's head is longer than {MAX_HEAD_BYTES} bytes")
            if not line.endswith(b"\n"):
                raise MalformedResponse("closed the connection within the answer's head")
            line = line[:-2] if line.endswith(b"\r\n") else line[:-1]
            if not line and lines:
                return lines
            lines.append(line)

    def _read_next_chunk_size(self) -> int:
        """Read a chunk-size line; http.client would take signs and underscores."""
        line = self.fp.readline(1024 + 1)
        match = _CHUNK_SIZE.fullmatch(line.rstrip(b"\r\n"))
        if not match or not line.endswith(b"\n"):
            raise ValueError("invalid chunk size")  # http.client makes it IncompleteRead
        return int(match[1], 16)

    def has_arrived(self) -> bool:
        """Whether bytes of the body, or its end, can be had without waiting."""
        if self.isclosed():
            return True
        timeout = self._sock.gettimeout()
        self._sock.settimeout(0)
        try:
            return bool(self.fp.peek(1))
        except (SSLWantReadError, BlockingIOError):
            return False
        except OSError:
            return True  # reading will tell
        finally:
            self._sock.settimeout(timeout)

    @property
    def complete(self) -> bool:
        """Whether the whole body was read."""
        return self.isclosed()

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it arrives.

        Raises IncompleteRead where it ends too early, and what sockets raise.
        """
        while self.fp is not None:
            piece = self.read1(READ_BYTES)
            if self.length == 0 and self.fp is not None:
                self._close_conn()  # type: ignore[attr-defined]  # read1 leaves that to a further call
            if piece:
                yield piece
            elif self.length:
                raise IncompleteRead(b"", self.length)
