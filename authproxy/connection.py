"""One client's connection: waitress's channel, with bounds on what it may cost."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import socket
import struct
import termios
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel

from authproxy.request_parser import RequestParser
from authproxy.response_tasks import ApplicationTask, ErrorReplyTask

log = logging.getLogger(__name__)

#: Read while no body is expected: waitress copies what is left of a read for
#: each request in it, so that a large read of tiny requests would be dear.
_HEAD_READ_BYTES = 8192

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


class Connection(HTTPChannel):
    """A connection, which ends when it makes no progress, and ends politely.

    Politely: closing a socket with unread bytes resets it, and the reset
    destroys the response on its way. So the sending side is shut down first,
    and what the client still sends is read and dropped for a while.
    """

    logger = log
    task_class = ApplicationTask
    error_task_class = ErrorReplyTask

    close_when_flushed: bool = False

    #: Reset instead of closing, once all is sent: the response is truncated.
    cut_when_flushed = False

    #: When lingering began, and how many bytes were dropped since.
    lingering_since: float | None = None
    dropped_bytes = 0

    _last_queued = 0

    def __init__(self, server: Any, *args: Any, **kwargs: Any) -> None:
        self.timeouts: Timeouts = server.timeouts
        #: When a byte last moved, or the last response ended (monotonic).
        self.progress_at = time.monotonic()
        super().__init__(server, *args, **kwargs)

    def parser_class(self, adj: Adjustments) -> RequestParser:
        """Return what reads the next request.

        A request behind another is left to the application to judge: that one
        may have been turned away, and this be the rest of its body.
        """
        early = self.server.judge is not None and not self.requests
        return RequestParser(adj, self._judge if early else None)

    def _judge(self, head: Mapping[str, Any]) -> str | None:
        caller: str | None = self.server.judge({**head, "REMOTE_ADDR": self.addr[0]})
        return caller

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

    def recv(self, buffer_size: int) -> bytes:
        in_body = self.request is not None and self.request.body_rcv is not None
        lingering = self.lingering_since is not None
        data: bytes = super().recv(buffer_size if in_body or lingering else _HEAD_READ_BYTES)
        self.progress_at = time.monotonic()
        return data

    def send(self, data: bytes, do_close: bool = True) -> int:
        sent: int = super().send(data, do_close=do_close)
        if sent:
            self.progress_at = time.monotonic()
        return sent

    def write_soon(self, data: bytes) -> int:
        if not self.total_outbufs_len:  # the target may have been silent for long
            self.progress_at = time.monotonic()
        written: int = super().write_soon(data)
        return written

    def service(self) -> None:
        super().service()
        self.progress_at = time.monotonic()

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
            self.dropped_bytes += len(self.recv(self.adj.recv_bytes))
        except OSError:
            self.handle_close()
        if self.dropped_bytes > LINGER_BYTES:
            self.handle_close()

    def handle_write(self) -> None:
        if not self.close_when_flushed or self.will_close:
            super().handle_write()
            return
        self._flush_exception(self._flush_some)
        if self.will_close:  # the socket failed
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
