"""What is sent to the target: a request that can be sent more than once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from requests import PreparedRequest

from authproxy.cancellation import Cancellation
from authproxy.http1.headers import Field
from authproxy.server.memory_body import MemoryBody

#: Bytes of a request body that go out at a time.
WRITE_BYTES = 256 * 1024


@dataclass(frozen=True)
class RequestBody:
    """A body that was received whole and can be sent more than once."""

    stream: BinaryIO
    length: int

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Yield the body from its start; a piece is valid until the next."""
        if isinstance(self.stream, MemoryBody):  # nothing needs to be copied
            with self.stream.getbuffer() as content:
                yield content
            return
        self.stream.seek(0)
        left = self.length
        while left and (piece := self.stream.read(min(left, WRITE_BYTES))):
            left -= len(piece)
            yield piece

    def close(self) -> None:
        """Free the body: its response has begun, it will not be sent again."""
        self.stream.close()


@dataclass(frozen=True)
class OutboundRequest:
    """A request as it goes to the target, without its Authorization."""

    method: str
    target: str
    fields: Sequence[Field]
    body: RequestBody | None = None
    #: Comes when the client has left.
    cancellation: Cancellation = field(default_factory=Cancellation)
    #: Protocols that the target may change to.
    upgrade: tuple[str, ...] = ()

    def head(self, authorization: str) -> bytes:
        """Return the request line and header fields as they go on the wire.

        The framing is our own: one Content-Length where there was a body,
        none where there was not (RFC 9112 section 6). An empty `authorization`
        is left out.
        """
        lines = [f"{self.method} {self.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self.fields]
        if authorization:
            lines.append(f"Authorization: {authorization}")
        if self.upgrade:
            lines += ["Connection: Upgrade", f"Upgrade: {', '.join(self.upgrade)}"]
        if self.body is not None:
            lines.append(f"Content-Length: {self.body.length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class RawRequest(PreparedRequest):
    """One sending of an OutboundRequest, as a Session takes it.

    It is not prepared by requests, which would requote the URL, add and join
    fields, and frame the body anew: `head` and the body are sent as they are.
    """

    def __init__(
        self, origin: str, outbound: OutboundRequest, authorization: str, *, reconnect: bool
    ) -> None:
        super().__init__()
        self.method = outbound.method
        self.url = origin + outbound.target  # tells the Session which adapter it is for
        self.outbound = outbound
        self.head = outbound.head(authorization)
        #: Whether it needs a connection that was not used before.
        self.reconnect = reconnect
