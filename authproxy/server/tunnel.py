"""One tunnel: two connections of which each gets what comes on the other, and its end.

An end of one side in order (FIN, close_notify) is passed on behind all bytes before it, and the
other direction goes on. A connection that is reset resets the other.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections.abc import Callable
from typing import Protocol

from authproxy.server.client_socket import ClientSocket
from authproxy.server.poller import READ, WRITE, Poller
from authproxy.tunnel import TunnelEnd

#: Bytes that wait for one side; while they are so many, nothing is read from the other.
BUFFER_BYTES = 64 * 1024

#: Seconds for which a side may leave what is sent to it unacknowledged, or unread, and after
#: which one that is silent and has gone is noticed.
LOST_SECONDS = 300

#: TLS's end without close_notify, and its end after ours. What speaks in a tunnel knows by itself
#: whether it was at its end.
_TLS_ENDS = (ssl.SSLEOFError, ssl.SSLZeroReturnError)


class GivesBack(Protocol):
    """Takes the client's connection back, which is to be closed; `cut`: with a reset."""

    def __call__(self, *, cut: bool) -> None: ...


class Side:
    """One of the two connections, as the poller watches it."""

    interest = 0
    other: Side

    def __init__(self, tunnel: Tunnel, name: str, sock: ClientSocket, waiting: bytes = b"") -> None:
        """`waiting` came from the other side before."""
        self._tunnel = tunnel
        self.name = name
        self.socket = sock
        #: What has come from the other side, and this one has not taken yet.
        self.waiting = bytearray(waiting)
        #: It will send no more, or cannot; nothing more is sent to it, or can be.
        self.has_ended = self.is_shut = False
        #: What it sent has no end in order; and the first thing that went wrong.
        self.truncated = False
        self.problem = ""
        self.received = 0

    @property
    def is_over(self) -> bool:
        return self.has_ended and self.is_shut

    def fileno(self) -> int:
        return self.socket.fileno()

    def wants(self) -> int:
        return self.socket.kernel_events(self._wanted())

    def can_read(self) -> bool:
        return self.socket.has_decrypted_bytes and bool(self._wanted() & READ)

    def _wanted(self) -> int:
        if self._tunnel.is_over:
            return 0
        reads = not self.has_ended and len(self.other.waiting) < BUFFER_BYTES
        # An end may have to wait for what is to be read here (`TLSSocket`).
        ends = self._passes_end and (reads or self.has_ended)
        writes = not self.is_shut and (bool(self.waiting) or ends)
        return (READ if reads else 0) | (WRITE if writes else 0)

    @property
    def _passes_end(self) -> bool:
        """Whether an end in order is to be passed on to it, behind what waits."""
        return self.other.has_ended and not self.other.truncated

    def on_events(self, events: int) -> None:
        events = self.socket.possible(events) & self._wanted()
        if events & WRITE:
            self.write()
        if events & READ:
            self.read()
            self.other.write()
            self.write()  # its end may have waited for that
        self._tunnel.after(self)

    def on_notify(self) -> None:
        """Nothing is changed by other threads."""

    def fail(self) -> None:
        """End the tunnel, after an unexpected error, which is logged."""
        self.truncated = True
        self._tunnel.end(self.name)

    def read(self) -> None:
        """Read what has come, as far as there is room for it."""
        try:
            data = self.socket.recv(BUFFER_BYTES - len(self.other.waiting))
        except BlockingIOError:
            return
        except _TLS_ENDS:
            data = b""
            # Some versions of Python have a reset look the same, 3.11 for one.
            if not self.is_shut and self.socket.was_reset():
                self.truncated = True
                self.lost("the connection was reset")
        except OSError as error:
            data = b""
            self.truncated = True
            self.lost(str(error))
        self.other.waiting += data
        self.received += len(data)
        self._tunnel.moved()
        if not data:
            self.has_ended = True
            self._tunnel.ended_by(self.name)

    def write(self) -> None:
        """Send what waits; behind it, the other side's end."""
        try:
            while self.waiting and not self.is_shut:
                with memoryview(self.waiting) as view:
                    count = self.socket.send(view)
                del self.waiting[:count]
                self._tunnel.moved()
            if self._passes_end and not self.is_shut:
                self.socket.end_sending(read_on=not self.has_ended)
                self.is_shut = True
        except BlockingIOError:
            return
        except OSError as error:
            self.lost(str(error))  # what it has sent before is still to be read

    def lost(self, problem: str) -> None:
        """Nothing can be sent to it any more."""
        self.problem = self.problem or problem
        self.is_shut = True
        self.waiting.clear()
        self._tunnel.ended_by(self.name)


class Tunnel:
    """Joins two connections. For the tunnels' thread, except where it says otherwise."""

    def __init__(
        self, target: ClientSocket, early: bytes, ended: Callable[[TunnelEnd], None]
    ) -> None:
        """`early` is what the target has sent already; `ended` is called once, in any case."""
        self._target = Side(self, "target", target)
        self._early = early
        self._ended: Callable[[TunnelEnd], None] | None = ended
        self._lock = threading.Lock()
        self._client: Side
        self._give_back: GivesBack
        self._poller: Poller
        self._forget: Callable[[Tunnel], None]
        #: The side that ended first.
        self._first = ""
        self._moved_at = 0.0
        #: Whether the client's connection is this tunnel's.
        self.begun = False
        self.is_over = False

    # In the main loop's thread.

    def prepare(self, client: ClientSocket, early: bytes, give_back: GivesBack) -> None:
        """Take over the client's connection, on which `early` has come; `start` is called next."""
        self.begun = True
        self._client = Side(self, "client", client, self._early)
        self._target.waiting += early
        self._client.received, self._target.received = len(early), len(self._early)
        self._client.other, self._target.other = self._target, self._client
        self._give_back = give_back

    # In any thread.

    def abandon(self) -> None:
        """The client has left before it could begin. Harmless when repeated."""
        self._tell(TunnelEnd("client"))

    def _tell(self, end: TunnelEnd) -> None:
        with self._lock:
            ended, self._ended = self._ended, None
        if ended is not None:
            ended(end)

    # In the tunnels' thread.

    def start(self, poller: Poller, forget: Callable[[Tunnel], None]) -> None:
        """Move bytes from now on, with this poller; `forget` is called at the end."""
        self._poller, self._forget = poller, forget
        self._moved_at = time.monotonic()
        for side in (self._client, self._target):
            side.socket.notice_loss(LOST_SECONDS)
            side.write()
            poller.add(side)
        self._end_if_over()

    def moved(self) -> None:
        """Bytes have moved."""
        self._moved_at = time.monotonic()

    def ended_by(self, name: str) -> None:
        """This side has ended, or is lost."""
        self._first = self._first or name

    def after(self, side: Side) -> None:
        """Go on after something has happened on one side."""
        if not self._end_if_over():
            self._poller.update(side.other)

    def check(self, now: float, silence: float) -> None:
        """End it if no byte has moved for so long, or a side has gone; called once a second."""
        for side in (self._client, self._target):
            # It has ended in order, so nothing is read there that would tell.
            if side.has_ended and not side.is_shut and side.socket.has_hung_up():
                side.lost("the connection is gone")
                self.after(side)
                return
        if now - self._moved_at > silence:
            self.end("silence")

    def _end_if_over(self) -> bool:
        """End it where one side is over, and the other has got all that came from there."""
        for side in (self._client, self._target):
            if side.is_over and not side.other.waiting and (side.truncated or side.other.is_shut):
                self.end(self._first)
                return True
        return self.is_over

    def end(self, by: str) -> None:
        """End it now; `by` is as `TunnelEnd` has it. Harmless when repeated."""
        if self.is_over:
            return
        self.is_over = True
        client, target = self._client, self._target
        cut = client.truncated or target.truncated
        for side in (client, target):
            self._poller.remove(side)
        if cut:
            target.socket.reset_on_close()
        elif not target.is_shut:
            with contextlib.suppress(OSError):  # it is closed in any case
                target.socket.end_sending()
        self._forget(self)
        problem = client.problem or target.problem
        self._tell(TunnelEnd(by, client.received, target.received, problem))
        self._give_back(cut=cut)
