"""A client's socket with TLS: handshake, records, and the end of both directions.

OpenSSL's objects are not made for two threads, and Python releases its own lock while it calls
them: here each call has a lock around it, which is never held while waiting for a client.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import TypeVar

from authproxy.server.client_socket import CleartextRequest, ClientSocket, HandshakeFailed
from authproxy.server.poller import READ, WRITE
from authproxy.tls_stream import TLSStream

T = TypeVar("T")

#: Returns the context for a handshake that begins now. One that verifies certificates has
#: CERT_OPTIONAL: a client without one is refused by a response, except for probes.
ContextSource = Callable[[], ssl.SSLContext]

#: What a method begins with, and no record of TLS.
_CAPITALS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")


class TLSSocket(ClientSocket):
    """Does the handshake as its first bytes come, with what the context is then."""

    def __init__(self, sock: socket.socket, context: ContextSource) -> None:
        super().__init__(sock)
        self._context = context
        self._tls: TLSStream | None = None
        self._lock = threading.Lock()
        self._cleartext = self._ended = False
        self.established = self.is_identified = False
        #: The events on which reading and writing can go on: of a handshake, or of an update
        #: of keys, each may have to wait for the other.
        self._reads_on, self._writes_on = READ, WRITE

    @classmethod
    def of_target(cls, tls: TLSStream) -> TLSSocket:
        """Return one for a connection whose handshake is done, of which this side is the client."""
        one = cls(tls.tcp, lambda: tls.context)
        one._tls = tls
        one.established = one.is_identified = True
        one.has_decrypted_bytes = tls.has_buffered
        return one

    def kernel_events(self, wanted: int) -> int:
        reading = self._reads_on if wanted & READ else 0
        return reading | (self._writes_on if wanted & WRITE else 0)

    def possible(self, events: int) -> int:
        reading = READ if events & self._reads_on else 0
        return reading | (WRITE if events & self._writes_on else 0)

    def recv(self, most: int) -> bytes:
        return self._read(lambda tls: tls.recv(most), b"")

    def recv_into(self, buffer: memoryview) -> int:
        """Read records until there is no room, or none is whole. Raises HandshakeFailed too."""
        return self._read(lambda tls: tls.recv_into(buffer), 0)

    def _read(self, read: Callable[[TLSStream], T], nothing: T) -> T:
        """Return what `read` does. An end without close_notify counts as one in order.

        Requests, and what is spoken in a tunnel, have an end of their own (RFC 9112 section 9.8).
        """
        self._reads_on, self.has_decrypted_bytes = READ, False
        with self._lock:
            try:
                tls = self._handshaken()
                got = read(tls)
            except ssl.SSLWantWriteError:
                self._reads_on = WRITE
                raise BlockingIOError from None
            except ssl.SSLWantReadError:
                raise BlockingIOError from None
            except ssl.SSLEOFError:
                return nothing
            self.has_decrypted_bytes = bool(got) and tls.has_buffered
            return got

    def _handshaken(self) -> TLSStream:
        """Return the TLS connection once its handshake is done."""
        tls = self._tls or self._begin()
        if not self.established:
            try:
                tls.do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                raise HandshakeFailed(_reason(error)) from None
            self.established = True
            needs_none = tls.context.verify_mode is ssl.CERT_NONE
            self.is_identified = needs_none or tls.getpeercert(binary_form=True) is not None
        return tls

    def _begin(self) -> TLSStream:
        first = self.next_byte()
        if not first:
            raise ConnectionResetError
        if first[0] in _CAPITALS:
            self._cleartext = True
            raise CleartextRequest
        self._tls = TLSStream(self.socket, self._context(), server_side=True)
        return self._tls

    def send(self, data: memoryview | bytes) -> int:
        """Send record after record. What has to wait is to be sent again with the same bytes."""
        if self._cleartext:
            return super().send(data)
        self._writes_on = WRITE
        with self._lock, memoryview(data) as view:
            count = 0
            try:
                tls = self._handshaken()
                while count < len(view):
                    with view[count:] as rest:
                        count += tls.send(rest)
            except ssl.SSLWantReadError:
                self._writes_on = READ
            except ssl.SSLWantWriteError:
                pass  # the usual case: the kernel has no room
            if self._tls is not None and self._tls.has_buffered:  # it read, to negotiate anew
                self.has_decrypted_bytes = True
            if not count:
                raise BlockingIOError
            return count

    def end_sending(self) -> None:
        """Send close_notify, then end TCP's side; without the former the end is a truncation."""
        if self._ended:
            return
        if self.established:
            self._close_notify()
        self._ended = True
        super().end_sending()

    def _close_notify(self) -> None:
        assert self._tls is not None  # established
        with self._lock:
            try:
                self._tls.end_sending()
            except ssl.SSLWantWriteError:
                raise BlockingIOError from None
            finally:
                self.has_decrypted_bytes = self._tls.has_buffered

    def has_unread_bytes(self) -> bool:
        return self.has_decrypted_bytes or super().has_unread_bytes()

    def close(self, *, in_order: bool) -> None:
        if in_order and self.established and not self._ended:
            with contextlib.suppress(OSError):  # it closes in any case
                self._close_notify()
        super().close(in_order=in_order)


def _reason(error: ssl.SSLError) -> str:
    """Return why a handshake failed; of a certificate, what is wrong with it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client's certificate cannot be verified ({error.verify_message})"
    return (error.reason or "the client ended it").replace("_", " ").lower()
