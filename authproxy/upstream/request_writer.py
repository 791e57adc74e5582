"""Sends a request while watching for the response, which need not wait for the end of it."""

from __future__ import annotations

import select
import ssl
from typing import Any

from authproxy.upstream.keep_alive import allow_unacknowledged, is_lost, unacknowledged_seconds
from authproxy.upstream.request import RawRequest
from authproxy.upstream.response_reader import ConnectionLost, ResponseReader
from authproxy.upstream.unsolicited import plain_socket

#: Bytes of a request that go out as one with its head.
FIRST_BYTES = 64 * 1024

#: From this status on the target wants no more of a body whose end it does not wait for: it
#: refused the request or leads elsewhere. What comes sooner than the end otherwise may be about
#: what has been sent so far, and the target reads on (RFC 9112 section 9.3).
_FINAL_STATUS = 300


def send(sock: Any, request: RawRequest, reader: ResponseReader) -> bool:
    """Send a request; False where the target did not take all of it.

    It closed, or responded meanwhile that it wants no more (413, 401, 429) and stopped
    reading (RFC 9112 section 9.5): what response there is is then to be read from `reader`.
    Raises UnsolicitedResponse, ConnectionLost, and TimeoutError where the target takes nothing
    for the socket's timeout.
    """
    head, body = request.head, request.outbound.body
    try:
        pieces = iter(()) if body is None else body.pieces()
        first = memoryview(next(pieces, b""))
        # The head and what fits behind it go out as one.
        room = max(0, FIRST_BYTES - len(head))
        with _Writer(sock, reader) as writer:
            return (
                writer.send(memoryview(head + first[:room]))
                and writer.send(first[room:])
                and all(writer.send(memoryview(piece)) for piece in pieces)
            )
    except OSError as error:
        if is_lost(error):
            raise ConnectionLost from error
        if isinstance(error, (ConnectionError, ssl.SSLError)):
            return False
        raise


class _Writer:
    """Sends pieces, and looks at what comes where the connection has no room for more.

    Meanwhile the socket does not block.
    """

    def __init__(self, sock: Any, reader: ResponseReader) -> None:
        self._sock = sock
        self._reader = reader
        self._silence: float = sock.gettimeout()
        self._patient = False
        self._watching = True
        self._descriptor: int = plain_socket(sock).fileno()

    def __enter__(self) -> _Writer:
        self._sock.settimeout(0)
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.settimeout(self._silence)

    def send(self, piece: memoryview) -> bool:
        """Return whether all of it was sent."""
        while piece:
            sent, wanted = self._put(piece)
            piece = piece[sent:]
            if not sent and not self._wait(wanted):
                return False
        return True

    def _put(self, piece: memoryview) -> tuple[int, int]:
        """Send what there is room for; return the bytes, and what to wait for without any."""
        try:
            return self._sock.send(piece), 0
        except (BlockingIOError, ssl.SSLWantWriteError):
            return 0, select.POLLOUT
        except ssl.SSLWantReadError:
            return 0, select.POLLIN

    def _wait(self, wanted: int) -> bool:
        """Wait until there is room; False where the target wants no more.

        A target that acknowledges but has no room for more may take its time; one that
        acknowledges nothing is lost, and the kernel tells.
        """
        left = self._silence
        while not (self._watching and self._refused()):
            if not self._patient and not self._reader.nothing_arrived():
                self._patient = True
                allow_unacknowledged(self._sock, self._silence)
            seconds = min(left, unacknowledged_seconds(self._silence))
            events = self._poll(wanted | (select.POLLIN if self._watching else 0), seconds)
            if self._watching and events & ~select.POLLOUT and not self._reader.look():
                return False
            if events & (wanted | ~select.POLLIN):
                return True
            left = self._silence if events else left - seconds
            if left <= 0:
                raise TimeoutError("the target takes no more of the request")
        return False

    def _refused(self) -> bool:
        """Whether what has come says that the target wants no more."""
        status = self._reader.status_ahead()
        self._watching = status is None
        return status is not None and status >= _FINAL_STATUS

    def _poll(self, events: int, seconds: float) -> int:
        poll = select.poll()
        poll.register(self._descriptor, events)
        ready = poll.poll(seconds * 1000)
        return ready[0][1] if ready else 0
