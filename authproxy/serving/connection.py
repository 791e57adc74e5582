"""One client's connection: waitress's channel, with bounds on what it may cost."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import socket
import struct
import termios
import time
from dataclasses import dataclass
from typing import Any

from waitress.channel import HTTPChannel

from authproxy.serving.channel import Channel

log = logging.getLogger(__name__)

#: SO_LINGER on, zero seconds: close sends a reset, which no client can take
#: for the end of a body.
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Timeouts:
    """How long a connection may make no progress, in seconds."""

    #: Idle between requests. Prometheus closes after five minutes: a little
    #: more, so that its next request never crosses our closing.
    idle: float = 330

    #: Without a byte within a request; also for a whole header.
    request: float = 60

    #: A response waits, and the client takes not one byte of it.
    stall: float = 60

    #: After the last response, while the client is still sending: in all,
    #: and without a byte.
    linger: float = 30
    linger_silence: float = 2


DEFAULT_TIMEOUTS = Timeouts()

#: How much a client may go on sending after its last response. An ordinary
#: one reads a 413 only when it has sent its whole body.
LINGER_BYTES = 512 * 1024 * 1024


class Connection(Channel):
    """A connection, which ends when it makes no progress, and ends politely.

    Politely: closing a socket with unread bytes resets it, and the reset
    destroys the response on its way. So the sending side is shut down first,
    and what the client still sends is read and dropped for a while.
    """

    #: Reset instead of closing, once all is sent: the response is truncated.
    cut_when_flushed = False

    #: When lingering began, and how many bytes were dropped since.
    lingering_since: float | None = None
    dropped_bytes = 0

    _last_queued = 0

    def __init__(self, server: Any, *args: Any, **kwargs: Any) -> None:
        self.timeouts: Timeouts = server.timeouts
        super().__init__(server, *args, **kwargs)

    # What it is doing.

    @property
    def idle(self) -> bool:
        """Whether it is between requests, with nothing left to send."""
        busy = self.requests or self.request is not None or self.total_outbufs_len
        return not busy and not self.close_when_flushed and self.lingering_since is None

    @property
    def has_spoken(self) -> bool:
        """Whether the client has sent anything yet."""
        return bool(self.last_activity != self.creation_time)

    def has_unread_bytes(self) -> bool:
        """Whether the next request waits in the kernel already."""
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:  # nothing there, or the connection is gone
            return False

    # Progress.

    def end_if_stuck(self, now: float) -> None:
        """End the connection if it has made no progress for too long.

        Called from the main loop, not through waitress's `maintenance`, which
        waits for the socket to become writable: that of a client which does
        not read never does.
        """
        silence = now - self.progress_at
        if self.lingering_since is not None:
            lingered = now - self.lingering_since
            if silence > self.timeouts.linger_silence or lingered > self.timeouts.linger:
                self.handle_close()
        elif self.total_outbufs_len:
            queued = self._queued_in_kernel()
            if queued != self._last_queued:
                self._last_queued, self.progress_at = queued, now
            elif silence > self.timeouts.stall:
                log.info("Cut a client that stopped reading.", extra=self._fields())
                self.cut()
        elif self.requests:
            return  # the target's turn, which has timeouts of its own
        elif self.request is not None:
            head_age = 0 if self.request.headers_finished else now - self.request.began
            if max(silence, head_age) > self.timeouts.request:
                log.info("Closed a connection with half a request.", extra=self._fields())
                self.handle_close()
        elif silence > self.timeouts.idle:
            self.handle_close()

    def _queued_in_kernel(self) -> int:
        """Bytes that the kernel holds for the client.

        It holds megabytes, and takes more only when a third has gone: a slow
        reader shows here long before there is anything to send again.
        """
        with contextlib.suppress(OSError):
            (queued,) = struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, bytes(4)))
            return int(queued)
        return 0

    # The end.

    def readable(self) -> bool:
        return self.lingering_since is not None or bool(super().readable())

    def writable(self) -> bool:
        return self.lingering_since is None and bool(super().writable())

    def handle_read(self) -> None:
        if self.lingering_since is None:
            super().handle_read()
            return
        try:
            self.dropped_bytes += len(HTTPChannel.recv(self, self.adj.recv_bytes))
            self.progress_at = time.monotonic()
        except OSError:
            self.handle_close()
        if self.dropped_bytes > LINGER_BYTES:
            self.handle_close()

    def handle_write(self) -> None:
        if not self.close_when_flushed or self.will_close:
            super().handle_write()
            return
        _, failed = self._flush_exception(self._flush_some)
        if failed:
            self.handle_close()
        elif self.connected and not self.total_outbufs_len:
            self.close_when_flushed = False
            if self.cut_when_flushed:
                self.cut()
            else:
                self._linger()

    def _linger(self) -> None:
        self.lingering_since = self.progress_at = time.monotonic()
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.handle_close()

    def cut(self) -> None:
        """End the connection so that the client sees that something is missing."""
        if self.socket is not None:
            with contextlib.suppress(OSError):  # a Unix socket knows no reset
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.handle_close()

    def _fields(self) -> dict[str, Any]:
        return {"fields": {"Client": self.addr[0]}}
