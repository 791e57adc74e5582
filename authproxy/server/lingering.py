"""Closing in two steps: the sending side first, then all, once the client has ended or is silent.

Closing a socket with unread bytes resets it, and the reset destroys the response on its way. So
what the client still sends is read and dropped for a while.
"""

from __future__ import annotations

from authproxy.server.client_socket import ClientSocket
from authproxy.server.poller import READ, WRITE
from authproxy.server.progress import Pace

#: How much a client may go on sending after its last response. An ordinary
#: one reads a 413 only when it has sent its whole body.
LINGER_BYTES = 512 * 1024 * 1024


class Lingering:
    """What becomes of a connection after its last response. Used by the main loop's thread."""

    def __init__(self, sock: ClientSocket, scratch: memoryview, now: float) -> None:
        """`scratch` takes what is dropped; `now` is monotonic, as all times here."""
        self._socket = sock
        self._scratch = scratch
        self._dropped = 0
        #: The end of the sending side waits for the socket to take it.
        self._ending = True
        self.pace = Pace(now)
        self.progress_at = now

    @property
    def wanted(self) -> int:
        """The events to go on with."""
        return WRITE if self._ending else READ

    def go_on(self, now: float) -> bool:
        """Do the next step, and return whether the connection is to be closed. Raises OSError."""
        if self._ending:
            try:
                self._socket.end_sending()
            except BlockingIOError:
                return False
            self._ending = self._socket.has_decrypted_bytes = False  # dropped with the rest
            return False
        count = self._socket.discard(self._scratch)
        self._dropped += count
        self.progress_at = now
        return not count or self._dropped > LINGER_BYTES
