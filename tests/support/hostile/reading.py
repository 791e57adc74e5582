"""The one reading of a client's bytes that RFC 9112 leaves, for tests to hold the proxy against.

It shares no line with the proxy and is slow and literal. What RFC 9112 calls
invalid, what it lets a recipient mend, and what senders do not do is all
refused: folded lines, a line feed alone, blanks around a chunk's size. Of
what it leaves to the recipient only empty lines before a request are taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from tests.support.wire import Field, values

_REQUEST_LINE = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21\x22\x24-\x7e\x80-\xff]+) HTTP/(1\.[01])"
)
_FIELD = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*((?:[\x21-\x7e\x80-\xff][\t\x20-\x7e\x80-\xff]*)?)"
)
_HOST = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"
)
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_SIZE = re.compile(
    rb"([0-9A-Fa-f]{1,16})((?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*)"
)

#: Longest line of a chunk's size, and all trailers.
_CHUNK_LINE = 1024
_TRAILERS = 16 * 1024


class End(Enum):
    """How a reading ends."""

    #: With the last request, or where it ends the connection.
    CLEAN = "clean"
    #: Within a request: more could come.
    UNFINISHED = "unfinished"
    #: At something that is not a request.
    REFUSED = "refused"


@dataclass(frozen=True)
class Request:
    """A request as it was meant."""

    method: bytes
    target: bytes
    version: bytes
    fields: list[Field]
    body: bytes = b""

    @property
    def keeps_connection(self) -> bool:
        """RFC 9112 section 9.3.

        What comes behind a request for another protocol than HTTP may be in that (RFC 9110
        section 7.8), and is no request, whatever the response is.
        """
        options = self._members("Connection")
        protocols = [name for name in self._members("Upgrade") if not name.startswith("h2c")]
        if "close" in options or ("upgrade" in options and protocols):
            return False
        return self.version == b"1.1" or "keep-alive" in options

    def _members(self, name: str) -> list[str]:
        """Return the members of a field that is a list, in lower case."""
        return [
            member.strip(" \t").lower()
            for value in values(self.fields, name)
            for member in value.split(",")
        ]


@dataclass
class Reading:
    """What a stream of bytes says: the requests in it, and how it ends."""

    requests: list[Request] = field(default_factory=list)
    end: End = End.CLEAN


class _Refused(Exception):
    """What is there is not a request."""


class _Unfinished(Exception):
    """More could come."""


def read(stream: bytes) -> Reading:
    """Return what the bytes say."""
    reading = Reading()
    try:
        for request in _Reader(stream).requests():
            reading.requests.append(request)
    except _Refused:
        reading.end = End.REFUSED
    except _Unfinished:
        reading.end = End.UNFINISHED
    return reading


class _Reader:
    def __init__(self, stream: bytes) -> None:
        self.left = stream

    def requests(self) -> Iterator[Request]:
        while True:
            while self.left.startswith(b"\r\n"):
                self.left = self.left[2:]
            if not self.left:
                return
            request = self._request()
            yield request
            if not request.keeps_connection:
                return

    def _line(self) -> bytes:
        """Return what stands before the next CRLF."""
        line, end, left = self.left.partition(b"\r\n")
        if not end:
            raise _Unfinished
        self.left = left
        return line

    def _request(self) -> Request:
        if self.left[:1].isspace() and self.left != b"\r":
            raise _Refused
        head, end, self.left = self.left.partition(b"\r\n\r\n")
        if not end:
            raise _Unfinished
        first, *lines = head.split(b"\r\n")
        match = _REQUEST_LINE.fullmatch(first)
        if not match or match[1] != match[1].upper():
            raise _Refused
        fields = [self._field(line) for line in lines]
        bare = Request(match[1], match[2], match[3], fields)
        self._check_host(bare)
        return Request(bare.method, bare.target, bare.version, fields, self._body(bare))

    def _field(self, line: bytes) -> Field:
        match = _FIELD.fullmatch(line)
        if not match:
            raise _Refused
        return match[1].decode(), match[2].rstrip(b" \t").decode("latin-1")

    def _check_host(self, request: Request) -> None:
        hosts = values(request.fields, "Host")
        if len(hosts) > 1 or (request.version == b"1.1" and not hosts):
            raise _Refused
        if hosts and not _HOST.fullmatch(hosts[0]):
            raise _Refused

    def _body(self, request: Request) -> bytes:
        codings = values(request.fields, "Transfer-Encoding")
        lengths = values(request.fields, "Content-Length")
        if codings:
            is_chunked = [coding.lower() for coding in codings] == ["chunked"]
            if not is_chunked or lengths or request.version == b"1.0":
                raise _Refused
            return b"".join(self._chunks())
        if not lengths:
            return b""
        if len(lengths) > 1 or not re.fullmatch("[0-9]{1,4300}", lengths[0]):
            raise _Refused
        return self._take(int(lengths[0]))

    def _take(self, count: int) -> bytes:
        if len(self.left) < count:
            raise _Unfinished
        taken, self.left = self.left[:count], self.left[count:]
        return taken

    def _chunks(self) -> Iterator[bytes]:
        while True:
            line = self._line()
            match = _SIZE.fullmatch(line)
            if not match or len(line) > _CHUNK_LINE:
                raise _Refused
            size = int(match[1], 16)
            if size == 0:
                break
            yield self._take(size)
            if self._take(2) != b"\r\n":
                raise _Refused
        trailers = 0
        while line := self._line():
            self._field(line)
            trailers += len(line) + 2
            if trailers > _TRAILERS:
                raise _Refused
