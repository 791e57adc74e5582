"""The upstream response, as requests has it: the head is there, the body is still to be read."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from functools import cached_property
from http.client import HTTPException

from requests import PreparedRequest, Response
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPHeaderDict
from urllib3.connection import HTTPConnection

from authproxy.cancellation import Cancellation
from authproxy.errors import ClientDisconnected, TargetProtocolError, TargetTimeout
from authproxy.tls_stream import TLSStream
from authproxy.upstream.pool import ConnectionPool
from authproxy.upstream.response_reader import ResponseReader

#: How much, and for how long, a response is read that no client gets.
BEGINNING_BYTES = 16 * 1024
BEGINNING_SECONDS = 0.5


class RawResponse:
    """The response on its connection, which goes back to the pool when it is read."""

    def __init__(
        self,
        reader: ResponseReader,
        connection: HTTPConnection,
        pool: ConnectionPool,
        cancellation: Cancellation,
    ) -> None:
        self._reader = reader
        self._connection = connection
        self._pool = pool
        self._cancellation = cancellation
        self._read_timeout = connection.sock.gettimeout()
        self._released = False
        self.head = reader.head
        self.has_arrived = reader.has_arrived
        if reader.complete:
            self.close()

    def stream(self, amt: int | None = None, decode_content: bool = False) -> Iterator[bytes]:
        """Yield the body as it arrives: whatever is asked for, as long as it comes, never decoded.

        Raises TargetTimeout or TargetProtocolError where it ends too early,
        ClientDisconnected where the client made it end.
        """
        try:
            for piece in self._reader.pieces():
                if self._reader.complete:
                    self.close()  # the client may ask again as soon as it has this piece
                yield piece
        except TimeoutError as error:
            raise TargetTimeout("the target stopped sending within its response") from error
        except (HTTPException, OSError, ValueError) as error:
            if self._cancellation.cancelled:
                raise ClientDisconnected from error
            raise TargetProtocolError("the target's response ended too early") from error
        finally:
            self.close()

    def switched(self) -> tuple[socket.socket | TLSStream, bytes]:
        """Return the connection behind a 101, and what has come on it; `close` is still due."""
        return self._connection.sock, self._reader.take_arrived()

    def beginning(self) -> bytes:
        """Return what comes of the body at once, and end the exchange."""
        content = bytearray()
        if self._released:
            return b""
        deadline = time.monotonic() + BEGINNING_SECONDS
        self._connection.sock.settimeout(BEGINNING_SECONDS)
        try:
            for piece in self._reader.pieces():
                content += piece
                if len(content) >= BEGINNING_BYTES or time.monotonic() > deadline:
                    break
        except (HTTPException, OSError):
            pass  # it was not wanted anyway
        finally:
            self._connection.sock.settimeout(self._read_timeout)
            self.close()
        return bytes(content)

    def close(self) -> None:
        """End the exchange; a connection with unread bytes is closed. Harmless when repeated."""
        if self._released:
            return
        self._released = True
        self._cancellation.on_cancel(None)
        if self._reader.surplus:
            self._pool.distrust()
        if not self._reader.complete or self._reader.will_close or self._cancellation.cancelled:
            self._connection.close()
        else:
            self._pool.give_back(self._connection)


class UpstreamResponse(Response):
    """The target's response, with the fields as they came.

    `fields` has them in order, with repeats; `headers` joins repeats. The body
    is read by `body()`, as by `iter_content`, and is never decoded.
    """

    raw: RawResponse

    def __init__(self, request: PreparedRequest, raw: RawResponse) -> None:
        super().__init__()
        self.request = request
        self.url = request.url or ""
        self.raw = raw
        self.fields = raw.head.fields
        self.status = self.status_code = raw.head.status
        self.reason = raw.head.reason
        #: Whether bytes of the body, or its end, can be had without waiting.
        self.has_arrived = raw.has_arrived
        del self.headers  # few look at it, and it costs 2 % of a small request

    @cached_property
    def headers(self) -> CaseInsensitiveDict[str]:  # type: ignore[override]
        """The fields by name, repeats joined."""
        return CaseInsensitiveDict(HTTPHeaderDict(self.fields))

    def field(self, name: str) -> str | None:
        """Return the values of a header field, joined; `name` in lower case."""
        values = [value for key, value in self.fields if key.lower() == name]
        return ", ".join(values) if values else None

    def body(self) -> Iterator[bytes]:
        """Yield the body as it arrives. Raises what `RawResponse.stream` does."""
        return self.raw.stream()

    def beginning(self) -> bytes:
        """Return what comes of the body at once, and end the exchange.

        For a response that no client gets: its connection is kept where that
        was all of the body, and a slow or endless one holds up no request.
        """
        return self.raw.beginning()
