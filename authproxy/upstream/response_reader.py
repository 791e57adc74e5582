"""Reads an upstream response from its connection: the head, then the body as it arrives."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from http.client import HTTPException, IncompleteRead
from socket import socket

from authproxy.http1.chunks import ChunkDecoder
from authproxy.http1.response_head import (
    MAX_INTERIM_RESPONSES,
    Head,
    MalformedResponse,
    parse_head,
    parse_status_line,
    split_head,
)
from authproxy.http1.upgrade import chosen_protocol
from authproxy.upstream.keep_alive import is_lost
from authproxy.upstream.unsolicited import Delivery, is_silent

#: Bytes asked of the socket at a time, and passed on at a time.
READ_BYTES = 128 * 1024


class NoResponse(HTTPException):
    """The connection ended before a single byte of a response."""


class ConnectionLost(NoResponse):
    """The kernel gave the connection up: nothing that is sent is acknowledged."""

    def __init__(self) -> None:
        super().__init__("has stopped acknowledging what is sent on the connection")


class UnsolicitedResponse(HTTPException):
    """Bytes came before a byte of the request can have reached the target."""


class ResponseReader:
    """Reads one response; made right before its request is sent.

    `complete` says that all of the body was read, `will_close` that the
    connection is not to be used again, `surplus` that more came than the
    response.
    """

    head: Head

    def __init__(self, sock: socket, method: str, offered: Sequence[str] = ()) -> None:
        """`offered` are the protocols that the target may change to."""
        self._delivery = Delivery(sock)
        self._sock = sock
        self._method = method
        self._offered = offered
        self._arrived = b""  # read, not yet passed on
        #: Of those: where the final response begins at the earliest, behind so many interim
        #: ones, and how many bytes from there on hold no whole head.
        self._final_at = self._interim = self._searched = 0
        self._failure: OSError | HTTPException | None = None  # met while reading ahead
        self._left: int | None = 0
        self._chunks: ChunkDecoder | None = None
        self.complete = False
        self.will_close = True
        self.surplus = False

    def look(self) -> bool:
        """Read what is there while the request is still being sent; False where nothing will come.

        Raises UnsolicitedResponse.
        """
        if is_silent(self._sock):
            return True
        ahead = self._read_ahead()
        self._arrived += ahead or b""
        self._refuse_unsolicited()
        return ahead != b""

    def status_ahead(self) -> int | None:
        """Return the status of the final response, where `look` has read its head.

        Raises MalformedResponse.
        """
        while (parts := split_head(self._arrived[self._final_at :], self._searched)) is not None:
            _, status, _ = parse_status_line(parts[0].partition(b"\n")[0].removesuffix(b"\r"))
            if status >= 200 or status == 101:
                return status
            self._interim += 1
            if self._interim > MAX_INTERIM_RESPONSES:
                raise MalformedResponse("too many interim responses")
            self._final_at = len(self._arrived) - len(parts[1])
            self._searched = 0
        self._searched = len(self._arrived) - self._final_at
        return None

    def nothing_arrived(self) -> bool:
        """Whether certainly not a byte of the request has reached the target's machine."""
        return self._delivery.nothing_arrived()

    def begin(self) -> None:
        """Read the head, passing over interim responses.

        Raises NoResponse, UnsolicitedResponse, MalformedResponse, and what
        sockets raise.
        """
        try:
            if not self._arrived:
                self._arrived = self._receive()
        except OSError as error:
            if is_lost(error):
                raise ConnectionLost from error
            if isinstance(error, (ConnectionError, ssl.SSLError)):
                raise NoResponse("closed the connection without a response") from error
            raise
        if not self._arrived:
            raise NoResponse("closed the connection without a response")
        self._refuse_unsolicited()
        data = self._arrived
        for _ in range(MAX_INTERIM_RESPONSES + 1):
            known = 0
            while (parts := split_head(data, known)) is None:
                more = self._receive()
                if not more:
                    raise MalformedResponse("closed the connection within the response's head")
                known = len(data)
                data += more
            head, data = parse_head(parts[0], self._method), parts[1]
            if head.status >= 200:
                break
            if head.status == 101:  # what follows is no HTTP, whatever it looks like
                if not chosen_protocol(head.fields, self._offered):
                    raise MalformedResponse(
                        "the response changes to a protocol that was not asked for"
                    )
                self.head, self._arrived = head, data
                return
        else:
            raise MalformedResponse("too many interim responses")
        self.head = head
        self._arrived = data
        self._left = head.length
        self._chunks = ChunkDecoder() if head.chunked else None
        self.will_close = not head.persistent
        if head.length == 0:
            self._end()

    def take_arrived(self) -> bytes:
        """Return what has come behind a 101."""
        arrived, self._arrived = self._arrived, b""
        return arrived

    def _refuse_unsolicited(self) -> None:
        if self._arrived and self._delivery.nothing_arrived():
            raise UnsolicitedResponse("sent a response before it had the request")

    def has_arrived(self) -> bool:
        """Whether bytes of the body, or its end, can be had without waiting."""
        if self.complete or self._arrived:
            return True
        if is_silent(self._sock):
            return False
        ahead = self._read_ahead()
        self._arrived = ahead or b""
        return ahead is not None

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it arrives.

        Raises IncompleteRead where it ends too early, and what sockets raise.
        """
        while not self.complete:
            data = self._arrived or self._receive()
            self._arrived = b""
            piece = self._unframed(data)
            if piece:
                yield piece

    def _unframed(self, data: bytes) -> bytes:
        """Return what of these bytes is body; without any, the connection has ended."""
        if self._chunks is not None:
            return self._unchunked(self._chunks, data)
        if self._left is None:  # the end of the connection ends it
            if not data:
                self._end()
            return data
        if not data:
            raise IncompleteRead(b"", self._left)
        if len(data) > self._left:
            self._arrived = data[self._left :]
            data = data[: self._left]
        self._left -= len(data)
        if not self._left:
            self._end()
        return data

    def _unchunked(self, chunks: ChunkDecoder, data: bytes) -> bytes:
        piece = chunks.feed(data)
        if chunks.complete:
            self._arrived = chunks.rest
            self._end()
        elif not data or (chunks.error and not piece):
            raise IncompleteRead(b"") from chunks.error
        elif chunks.error:
            self._failure = chunks.error
        return piece

    def _end(self) -> None:
        self.complete = True
        if self._arrived:  # more than was announced: who knows what it belongs to
            self.surplus = self.will_close = True

    def _receive(self) -> bytes:
        if self._failure is not None:
            raise self._failure
        return self._sock.recv(READ_BYTES)

    def _read_ahead(self) -> bytes | None:
        """Return what can be had without waiting, None where that is nothing at all.

        An error counts as something; the next read raises it.
        """
        timeout = self._sock.gettimeout()
        self._sock.settimeout(0)
        try:
            return self._sock.recv(READ_BYTES)
        except (ssl.SSLWantReadError, BlockingIOError):
            return None
        except OSError as error:
            self._failure = error
            return b""
        finally:
            self._sock.settimeout(timeout)
