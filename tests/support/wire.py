"""HTTP/1.1 as bytes on a socket: a client for tests that hides nothing.

No HTTP library stands between a test and the wire: what is sent is what the
test wrote, and what came back is read by a strict parser that refuses what a
lenient one would mend.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

#: How long a test waits for something that should come at once, in seconds.
#: Generous: it only passes when something is broken.
DEADLINE = 50.0

Address = tuple[str, int] | str
Field = tuple[str, str]

_STATUS_LINE = re.compile(r"HTTP/(1\.[01]) ([0-9]{3}) ?([^\r\n]*)")
_FIELD_LINE = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\r\n\0]*?)[ \t]*")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]+)[ \t]*(;[^\r\n]*)?")
_PIECE = 256 * 1024


class WireError(AssertionError):
    """What came over the wire is not HTTP/1.1 as RFC 9112 has it."""


class Truncated(WireError):
    """The connection ended before the message did.

    `seen` holds the bytes of the message that had arrived.
    """

    def __init__(self, message: str, seen: bytes = b"") -> None:
        super().__init__(f"{message} (after {seen[-200:]!r})")
        self.seen = seen


def to_bytes(text: bytes | str) -> bytes:
    """Return `text` as it goes over the wire: latin-1, byte for byte."""
    return text.encode("latin-1") if isinstance(text, str) else text


def message(
    start: bytes | str,
    *lines: bytes | str,
    body: bytes | None = None,
    host: bytes | str | None = "proxy.test",
) -> bytes:
    """Return a request: `start` is method and target, `lines` are field lines.

    Adds the version where `start` has none, Host unless `host` is None, and
    Content-Length for a body whose framing `lines` do not give.
    """
    raw = [to_bytes(line) for line in lines]
    first = to_bytes(start)
    if not re.search(rb" HTTP/[0-9.]+\Z", first):
        first += b" HTTP/1.1"
    names = {line.partition(b":")[0].strip().lower() for line in raw}
    if host is not None and b"host" not in names:
        raw.insert(0, b"Host: " + to_bytes(host))
    if body is not None and not names & {b"content-length", b"transfer-encoding"}:
        raw.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([first, *raw, b"", body or b""])


def chunks(*parts: bytes, end: bool = True, trailers: Iterable[bytes] = ()) -> bytes:
    """Return `parts` in chunked coding, ended by the last chunk unless `end` is False."""
    coded = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    if end:
        coded += b"0\r\n" + b"".join(line + b"\r\n" for line in trailers) + b"\r\n"
    return coded


def values(fields: Iterable[Field], name: str) -> list[str]:
    """Return the values of every field called `name`, in the order of arrival."""
    return [value for key, value in fields if key.lower() == name.lower()]


def parse_fields(lines: Iterable[str]) -> list[Field]:
    """Return field lines as pairs; raises WireError for one that is not a field."""
    fields = []
    for line in lines:
        match = _FIELD_LINE.fullmatch(line)
        if not match:
            raise WireError(f"not a header field: {line!r}")
        fields.append((match[1], match[2]))
    return fields


class Fields:
    """The header fields of a message, in their order."""

    fields: list[Field]

    def all(self, name: str) -> list[str]:
        return values(self.fields, name)

    def one(self, name: str) -> str | None:
        """Return the value of a field that may come once; raises if it came twice."""
        found = self.all(name)
        if len(found) > 1:
            raise WireError(f"{name} came {len(found)} times: {found}")
        return found[0] if found else None


@dataclass
class Response(Fields):
    """One final response as it came over the wire."""

    version: str
    status: int
    reason: str
    fields: list[Field]
    head: bytes
    body: bytes = b""
    trailers: list[Field] = field(default_factory=list)
    interim: list[Response] = field(default_factory=list)

    @property
    def framing(self) -> str | int:
        """`chunked`, `eof`, or the Content-Length; raises where it is ambiguous."""
        coding, length = self.one("Transfer-Encoding"), self.one("Content-Length")
        if coding is not None:
            if length is not None:
                raise WireError("both Transfer-Encoding and Content-Length")
            if coding.lower() != "chunked":
                raise WireError(f"Transfer-Encoding {coding!r}")
            return "chunked"
        if length is None:
            return "eof"
        if not re.fullmatch("[0-9]+", length):
            raise WireError(f"Content-Length {length!r}")
        return int(length)


class Stream:
    """Buffered reading of a socket, with the errors of a broken message."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""

    def fill(self, most: int = _PIECE) -> bool:
        """Take in what has come; False at the end of the stream."""
        try:
            data = self.sock.recv(most)
        except TimeoutError:
            raise WireError(f"nothing came in time; so far {self.buffer[-200:]!r}") from None
        self.buffer += data
        return bool(data)

    def until(self, mark: bytes, what: str) -> bytes:
        """Return the bytes up to and with `mark`."""
        start = 0
        while (at := self.buffer.find(mark, start)) < 0:
            start = max(0, len(self.buffer) - len(mark))
            try:
                more = self.fill()
            except ConnectionError as error:
                raise Truncated(f"{what}: {error}", self.buffer) from error
            if not more:
                raise Truncated(f"the stream ended within {what}", self.buffer)
        return self.take(at + len(mark))

    def take(self, count: int) -> bytes:
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def pieces(self, count: int) -> Iterator[bytes]:
        """Yield exactly `count` bytes as they arrive."""
        while count:
            if not self.buffer and not self.fill():
                raise Truncated(f"the stream ended {count} bytes before the body did")
            piece = self.take(min(count, len(self.buffer)))
            count -= len(piece)
            yield piece

    def to_end(self) -> Iterator[bytes]:
        """Yield what comes until the peer closes."""
        while self.buffer or self.fill():
            yield self.take(len(self.buffer))

    def chunked(self, trailers: list[Field]) -> Iterator[bytes]:
        """Yield the content of a chunked body as it arrives; fill `trailers` at its end."""
        while True:
            line = self.until(b"\r\n", "a chunk size")[:-2]
            match = _CHUNK_LINE.fullmatch(line)
            if not match:
                raise WireError(f"not a chunk size: {line!r}")
            size = int(match[1], 16)
            if size == 0:
                break
            yield from self.pieces(size)
            if (ending := self.until(b"\r\n", "a chunk's end")) != b"\r\n":
                raise WireError(f"a chunk is longer than it says: {ending!r}")
        while (line := self.until(b"\r\n", "the trailers")) != b"\r\n":
            trailers.extend(parse_fields([line[:-2].decode("latin-1")]))


class Client:
    """One connection to the proxy."""

    def __init__(self, address: Address, *, timeout: float = DEADLINE) -> None:
        if isinstance(address, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(timeout)
            try:
                self.sock.connect(address)
            except OSError:
                self.sock.close()
                raise
        else:
            self.sock = socket.create_connection(address, timeout=timeout)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = Stream(self.sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def offer(self, data: bytes) -> None:
        """Send as much as the peer takes: it may refuse and close before the end."""
        try:
            self.send(data)
        except ConnectionError:
            pass  # What it had to say is there to be read.

    def finish_sending(self) -> None:
        """Close our half of the connection."""
        self.sock.shutdown(socket.SHUT_WR)

    def ask(self, raw: bytes) -> Response:
        """Send a whole request and return the whole answer to it."""
        self.send(raw)
        return self.receive(method=raw.split(b" ", 1)[0])

    def receive_head(self) -> Response:
        """Return the next final response without its body, interim ones beside it."""
        interim: list[Response] = []
        while True:
            head = self.stream.until(b"\r\n\r\n", "a response head")
            first, *lines = head[:-4].decode("latin-1").split("\r\n")
            match = _STATUS_LINE.fullmatch(first)
            if not match:
                raise WireError(f"not a status line: {first!r}")
            response = Response(match[1], int(match[2]), match[3], parse_fields(lines), head)
            if response.status >= 200 or response.status == 101:
                response.interim = interim
                return response
            interim.append(response)

    def body_of(self, response: Response, method: bytes | str = b"GET") -> Iterator[bytes]:
        """Yield the body of a response whose head was just read, as it arrives."""
        framing = response.framing
        bare = to_bytes(method) == b"HEAD" or response.status in (204, 304)
        if bare:
            return iter(())
        if framing == "chunked":
            return self.stream.chunked(response.trailers)
        if framing == "eof":
            return self.stream.to_end()
        assert isinstance(framing, int)
        return self.stream.pieces(framing)

    def receive(self, method: bytes | str = b"GET") -> Response:
        """Return the next final response, whole; raises Truncated if it was cut."""
        response = self.receive_head()
        pieces: list[bytes] = []
        try:
            for piece in self.body_of(response, method):
                pieces.append(piece)
        except (Truncated, ConnectionError) as error:
            raise Truncated(f"the response was cut: {error}", b"".join(pieces)) from error
        response.body = b"".join(pieces)
        return response

    def is_closed_by_peer(self) -> bool:
        """Wait for the peer to close; False if it sends something more instead."""
        try:
            return not self.stream.buffer and not self.stream.fill()
        except ConnectionError:
            return True


def exchange(address: Address, raw: bytes, *, timeout: float = DEADLINE) -> Response:
    """Send one request on a connection of its own and return the answer."""
    with Client(address, timeout=timeout) as client:
        return client.ask(raw)


def read_exactly(pieces: Iterator[bytes], count: int) -> bytes:
    """Return the next `count` bytes of a body; raises if they come in otherwise cut pieces."""
    seen = b""
    while len(seen) < count:
        piece = next(pieces, None)
        if piece is None:
            raise Truncated("the body ended early", seen)
        seen += piece
    if len(seen) != count:
        raise WireError(f"{len(seen)} bytes came where {count} were due: {seen!r}")
    return seen
