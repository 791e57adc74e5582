"""A connection to the target that waits by itself, instead of having `ssl` do it.

With a timeout, `ssl` polls before each write, and tries to read before it
polls: each of these gives the interpreter lock away and has to get it back,
and between many threads that is most of what a small request costs.
"""

from __future__ import annotations

import select
import ssl
from socket import socket

_WOULD_BLOCK = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)


class PatientSocket:
    """Sends and receives on a socket; `timeout` is the longest silence, in seconds.

    The socket is a plain or TLS one without blocking, or any other, which has
    to wait by itself (that of TLS through a proxy with TLS).
    """

    def __init__(self, sock: socket, timeout: float) -> None:
        self.timeout = timeout
        self._sock = sock
        self._waits_itself = sock.gettimeout() != 0
        self._poll = select.poll()

    def send_all(self, data: bytes | memoryview) -> None:
        """Send everything. Raises TimeoutError, and what sockets raise."""
        left = memoryview(data)
        while left:
            try:
                left = left[self._sock.send(left) :]
            except _WOULD_BLOCK as why:
                self._wait(why, select.POLLOUT)

    def receive(self, most: int, *, wait_first: bool = False) -> bytes:
        """Wait for bytes and return them, none at the end.

        `wait_first` saves a try where nothing can be there yet. Raises
        TimeoutError, and what sockets raise.
        """
        if wait_first and not self._waits_itself:
            self._wait(None, select.POLLIN)
        while True:
            try:
                return self._sock.recv(most)
            except _WOULD_BLOCK as why:
                self._wait(why, select.POLLIN)

    def receive_now(self, most: int) -> bytes | None:
        """Return bytes that are there, none at the end, None where there are none yet."""
        if self._waits_itself:
            return None
        try:
            return self._sock.recv(most)
        except _WOULD_BLOCK:
            return None

    def _wait(self, why: OSError | None, wanted: int) -> None:
        if isinstance(why, ssl.SSLWantReadError):
            wanted = select.POLLIN
        elif isinstance(why, ssl.SSLWantWriteError):
            wanted = select.POLLOUT
        self._poll.register(self._sock.fileno(), wanted)
        if not self._poll.poll(self.timeout * 1000):
            raise TimeoutError
