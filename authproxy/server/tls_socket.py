"""A client's socket with TLS: handshake, records, and the end of both directions.

OpenSSL's objects are not made for two threads, and Python releases its own lock while it calls
them: here each call has a lock around it, which is never held while waiting for a client.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import threading
from collections.abc import Callable
from typing import NoReturn

from authproxy.server.client_socket import CleartextRequest, ClientSocket, HandshakeFailed
from authproxy.server.poller import READ, WRITE

#: Returns the context for a handshake that begins now. One that verifies certificates has
#: CERT_OPTIONAL: a client without one is refused by a response, except for probes.
ContextSource = Callable[[], ssl.SSLContext]

#: What a method begins with, and no record of TLS.
_CAPITALS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")

#: Bytes of the largest record (RFC 8446 section 5.1). OpenSSL takes more only as a whole.
_RECORD_BYTES = 16 * 1024


class TLSSocket(ClientSocket):
    """Does the handshake as its first bytes come, with what the context is then."""

    def __init__(self, sock: socket.socket, context: ContextSource) -> None:
        super().__init__(sock)
        self._context = context
        self._tls: ssl.SSLSocket | None = None
        self._lock = threading.Lock()
        self._cleartext = self._ended = False
        self.established = self.is_identified = False
        #: The events on which reading and writing can go on: of a handshake, or of an update
        #: of keys, each may have to wait for the other.
        self._reads_on, self._writes_on = READ, WRITE

    @classmethod
    def of_target(cls, tls: ssl.SSLSocket) -> TLSSocket:
        """Return one for a connection whose handshake is done, of which this side is the client."""
        one = cls(tls, lambda: tls.context)
        one._tls = tls
        one.established = one.is_identified = True
        one.has_decrypted_bytes = tls.pending() > 0
        return one

    def kernel_events(self, wanted: int) -> int:
        reading = self._reads_on if wanted & READ else 0
        return reading | (self._writes_on if wanted & WRITE else 0)

    def possible(self, events: int) -> int:
        reading = READ if events & self._reads_on else 0
        return reading | (WRITE if events & self._writes_on else 0)

    def recv(self, most: int) -> bytes:
        buffer = bytearray(most)
        with memoryview(buffer) as view:
            count = self.recv_into(view)
        return bytes(buffer[:count])

    def recv_into(self, buffer: memoryview) -> int:
        """Read records until there is no room, or none is whole. Raises HandshakeFailed too."""
        self._reads_on = READ
        with self._lock:
            tls = self._handshaken()
            count, waits = 0, False
            try:
                while count < len(buffer):
                    with buffer[count:] as rest:
                        got = tls.recv_into(rest)
                    if not got:
                        break
                    count += got
            except OSError as error:
                if not count:
                    self._wait_or_raise(error)
                waits = isinstance(error, (ssl.SSLWantReadError, ssl.SSLWantWriteError))
            # The end, or an error, that was met behind some bytes is for the next read, and the
            # kernel need not have an event for it.
            met = 0 < count < len(buffer) and not waits
            self.has_decrypted_bytes = met or tls.pending() > 0
            return count

    def _wait_or_raise(self, error: OSError) -> NoReturn:
        self.has_decrypted_bytes = False
        if isinstance(error, ssl.SSLWantWriteError):
            self._reads_on = WRITE
        if isinstance(error, (ssl.SSLWantReadError, ssl.SSLWantWriteError)):
            raise BlockingIOError from None
        raise error

    def _handshaken(self) -> ssl.SSLSocket:
        """Return the TLS connection once its handshake is done."""
        tls = self._tls or self._begin()
        if not self.established:
            try:
                tls.do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
                self._wait_or_raise(error)
            except ssl.SSLError as error:
                raise HandshakeFailed(_reason(error)) from None
            self.established = True
            needs_none = tls.context.verify_mode is ssl.CERT_NONE
            self.is_identified = needs_none or tls.getpeercert(binary_form=True) is not None
        return tls

    def _begin(self) -> ssl.SSLSocket:
        first = self.next_byte()
        if not first:
            raise ConnectionResetError
        if first[0] in _CAPITALS:
            self._cleartext = True
            raise CleartextRequest
        self._socket = self._tls = self._context().wrap_socket(
            self._socket, server_side=True, do_handshake_on_connect=False
        )
        return self._tls

    def send(self, data: memoryview | bytes) -> int:
        """Send record after record. What has to wait is to be sent again with the same bytes."""
        if self._cleartext:
            return super().send(data)
        self._writes_on = WRITE
        with self._lock, memoryview(data) as view:
            tls, count = self._handshaken(), 0
            try:
                while count < len(view):
                    with view[count : count + _RECORD_BYTES] as record:
                        count += tls.send(record)
            except ssl.SSLWantReadError:
                self._writes_on = READ
            except ssl.SSLWantWriteError:
                pass  # the usual case: the kernel has no room
            if not count:
                raise BlockingIOError
            return count

    def end_sending(self) -> None:
        """Send close_notify, then end TCP's side; without the former the end is a truncation."""
        if self._ended:
            return
        if self.established:
            with self._lock:
                self._close_notify()
        self._ended = True
        socket.socket.shutdown(self._socket, socket.SHUT_WR)

    def _close_notify(self) -> None:
        assert self._tls is not None  # established
        try:
            self._tls.unwrap()
        except ssl.SSLWantWriteError:
            raise BlockingIOError from None
        except ssl.SSLError:
            pass  # it is sent; the client's own is not there, or comes behind other bytes

    def has_unread_bytes(self) -> bool:
        return self.has_decrypted_bytes or super().has_unread_bytes()

    def was_reset(self) -> bool:
        # Some versions of Python have a reset look like an end without close_notify, 3.11 for one.
        if self._socket.family == socket.AF_UNIX:
            return False  # which hangs up at its end, too
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return self.has_hung_up() and code != errno.EPIPE  # as the kernel has it after an end

    def close(self, *, in_order: bool) -> None:
        if in_order and self.established and not self._ended:
            with self._lock, contextlib.suppress(OSError):  # it closes in any case
                self._close_notify()
        super().close(in_order=in_order)


def _reason(error: ssl.SSLError) -> str:
    """Return why a handshake failed; of a certificate, what is wrong with it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client's certificate cannot be verified ({error.verify_message})"
    return (error.reason or "the client ended it").replace("_", " ").lower()
