"""TLS whose records are encrypted and decrypted in memory, and cross the socket many at a time.

Python's `SSLSocket` reads each record by two calls of the kernel and writes it by one of its own,
and cannot end one direction without reading on in the other. Here OpenSSL has memory on its far
side, and the socket is ours.
"""

from __future__ import annotations

import io
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

#: Bytes of records that are read from the socket at a time, and bytes that are encrypted at a
#: time. Each connection keeps so much memory for either.
CHUNK_BYTES = 128 * 1024

#: The longest record (RFC 8446 section 5.2): room for less could not take one.
_RECORD_BYTES = 5 + 16 * 1024 + 256

#: Bytes that OpenSSL may have to say by itself, to updates of keys, to a peer that reads nothing.
_MOST_UNASKED = 16 * 1024

#: What says that there is nothing to read, or no room to write: of a socket, or of TLS below.
_BLOCKED = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

T = TypeVar("T")


class TLSStream:
    """Has the methods of a socket that are used here; its timeout is the socket's at the start.

    With a timeout of zero ssl.SSLWantReadError and ssl.SSLWantWriteError say what to wait for;
    what `send` could not send is then to be sent again with the same bytes. An end of the
    connection without close_notify is ssl.SSLEOFError (RFC 8446 section 6.1).

    For one thread at a time.
    """

    def __init__(
        self,
        sock: Any,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        server_side: bool = False,
    ) -> None:
        """`sock` is a connected socket, or TLS in which this is another; it is not to be used."""
        self._socket = sock
        #: The TCP connection, which may be looked at and shut down by others.
        self.tcp: socket.socket = getattr(sock, "tcp", sock)
        self._timeout: float | None = sock.gettimeout()
        sock.settimeout(0)
        self._received, self._encrypted = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._encrypted, server_side, server_hostname)
        #: Records that the socket has not taken; how many bytes of `send` are in them.
        self._unsent: memoryview | bytes = b""
        self._taken = 0
        #: What was decrypted early; whether there may be more; what reading has failed with.
        self._early, self._more = b"", False
        self._failure: OSError | None = None
        self._ended = False

    def fileno(self) -> int:
        return self.tcp.fileno()

    def gettimeout(self) -> float | None:
        return self._timeout

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def setblocking(self, blocks: bool) -> None:
        self._timeout = None if blocks else 0.0

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        """Return a file to read from, which http.client has for the response to CONNECT."""
        return io.BufferedReader(_File(self))

    def close(self) -> None:
        """Close the socket, without close_notify."""
        self._socket.close()

    @property
    def context(self) -> ssl.SSLContext:
        return self._tls.context

    @property
    def has_buffered(self) -> bool:
        """Whether there may be bytes, or an end, to read that the kernel no longer has."""
        return self._more or bool(self._early) or getattr(self._socket, "has_buffered", False)

    def do_handshake(self) -> None:
        self._in_time(self._handshake)

    def _handshake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._receive()
            except ssl.SSLError:
                self._flush_if_possible()  # an alert that says why
                raise
            else:
                self._more = True  # it may have come right behind
                self._flush_if_possible()
                return

    def getpeercert(self, binary_form: bool = False) -> Any:
        return self._tls.getpeercert(binary_form)

    # Reading.

    def recv(self, most: int) -> bytes:
        """Return what has come, `most` bytes at most; none at the end."""
        return self._in_time(lambda: self._read(most), select.POLLIN)

    def recv_into(self, buffer: Any) -> int:
        """Read what has come, and as much as there is room for; zero at the end."""
        with memoryview(buffer) as room:
            return self._in_time(lambda: self._read_into(room), select.POLLIN)

    def _read(self, most: int) -> bytes:
        scratch = _borrowed()
        try:
            return bytes(scratch[: self._read_into(scratch[:most])])
        finally:
            _SPARE.append(scratch)

    def _read_into(self, room: memoryview) -> int:
        """Decrypt what has come until there is no room for more."""
        if early := self._early[: len(room)]:
            self._early = self._early[len(early) :]
            room[: len(early)] = early
            return len(early)
        if self._failure is not None:
            raise self._failure
        read, pending, count = self._tls.read, self._tls.pending, 0
        received = not self._more
        if received:
            self._receive(len(room))
        while True:
            self._more = True  # an end, or an error, that is met behind some bytes is met again
            try:
                while (left := len(room) - count) and (got := read(left, room[count:])):
                    count += int(got)
                    # To ask OpenSSL for what is not there gives the interpreter lock away.
                    if not (self._received.pending or pending()):
                        self._more = False
                        return count
                return count
            except ssl.SSLWantReadError:
                self._more = False
                if count:
                    return count
                if received and not getattr(self._socket, "has_buffered", False):
                    raise  # what came was nothing to read; who waits is not held up by more of it
                self._receive(len(room))
                received = True
            except ssl.SSLZeroReturnError:  # the end, once this side has ended too
                return count
            except OSError as error:
                self._failure = error
                if count:
                    return count
                raise

    def _receive(self, most: int = 0) -> None:
        """Take records from the socket, so many bytes at most, but a whole one.

        Raises ssl.SSLWantReadError where there are none, and ConnectionAbortedError where the peer
        asks for more and more without reading what it gets.
        """
        if self._encrypted.pending:
            self._flush_if_possible()
        if self._encrypted.pending > _MOST_UNASKED:
            raise ConnectionAbortedError("the peer asks for new keys, and does not read")
        scratch = _borrowed()
        try:
            if got := self._socket.recv_into(scratch[: max(most, _RECORD_BYTES)]):
                self._received.write(scratch[:got])
            else:
                self._received.write_eof()
            self._more = True
        except _BLOCKED:
            self._flush_if_possible()  # an update of keys may ask for another
            raise ssl.SSLWantReadError from None
        except OSError as error:
            self._failure, self._more = error, True
            raise
        finally:
            _SPARE.append(scratch)

    # Writing.

    def send(self, data: Any) -> int:
        """Return how many bytes were sent, records and all."""
        return self._in_time(lambda: self._send(data))

    def sendall(self, data: Any) -> None:
        view = memoryview(data)
        while view:
            view = view[self.send(view) :]

    def _send(self, data: Any) -> int:
        self._flush()
        while not self._taken and data:
            with memoryview(data) as view, view[:CHUNK_BYTES] as chunk:
                try:
                    self._taken = self._tls.write(chunk)
                except ssl.SSLWantReadError:  # the peer negotiates anew, which TLS 1.2 allows
                    self._flush()
                    self._receive()
        self._flush()
        taken, self._taken = self._taken, 0
        return taken

    def end_sending(self) -> None:
        """Send close_notify; what comes from the peer can still be read (RFC 8446 section 6.1)."""
        self._in_time(self._end_sending)

    def _end_sending(self) -> None:
        self._flush()
        if not self._ended:
            self._decrypt_early()
            with suppress(ssl.SSLError):  # it is sent; the peer's own is not there, which is raised
                self._tls.unwrap()
            self._ended = True
        self._flush()
        if isinstance(self._socket, TLSStream):
            self._socket.end_sending()

    def _decrypt_early(self) -> None:
        """Decrypt what is there: OpenSSL would drop it at the end of this side."""
        pieces, self._more = [self._early], True
        try:
            while piece := self._tls.read(CHUNK_BYTES):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            self._more = False
        except OSError as error:
            self._failure = error
        self._early = b"".join(pieces)

    def _flush(self) -> None:
        """Send what is encrypted. Raises ssl.SSLWantWriteError where there is no room for it."""
        while True:
            if not self._unsent:
                if not self._encrypted.pending:
                    return
                self._unsent = memoryview(self._encrypted.read())
            try:
                count = self._socket.send(self._unsent)
            except _BLOCKED:
                raise ssl.SSLWantWriteError from None
            self._unsent = self._unsent[count:]

    def _flush_if_possible(self) -> None:
        with suppress(OSError):  # reading and the next writing tell
            self._flush()

    def _in_time(self, act: Callable[[], T], first: int = 0) -> T:
        """Call `act` until it need not wait, for the timeout at most.

        `first` are events without which there is nothing to do, unless something is buffered.
        """
        if self._timeout == 0:
            return act()
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        events = 0 if self.has_buffered else first
        while True:
            if events and not self._happens(events, deadline):
                raise TimeoutError("the operation timed out")
            try:
                return act()
            except ssl.SSLWantReadError:
                events = select.POLLIN
            except ssl.SSLWantWriteError:
                events = select.POLLOUT

    def _happens(self, events: int, deadline: float | None) -> bool:
        poll = select.poll()
        poll.register(self.tcp, events)
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        return bool(poll.poll(left))


#: Memory that no thread uses just now: to clear fresh memory costs more than to fill it.
_SPARE: deque[memoryview] = deque()


def _borrowed() -> memoryview:
    """Return CHUNK_BYTES of memory, to be given back before a thread waits for a peer."""
    try:
        return _SPARE.pop()
    except IndexError:
        return memoryview(bytearray(CHUNK_BYTES))


class _File(io.RawIOBase):
    """Reads from a stream, which it does not close."""

    def __init__(self, stream: TLSStream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._stream.recv_into(buffer)
