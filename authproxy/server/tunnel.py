"""One tunnel: two connections of which each gets what comes on the other, until both have ended.

Once one side has ended and the other was sent all that came from it, that one's sending side is
ended too (close_notify, FIN), while the other direction goes on. Where bytes are lost, or one side
is reset, both are closed, with a reset.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from authproxy.server.client_socket import ClientSocket
from authproxy.server.lingering import Lingering
from authproxy.server.poller import READ, WRITE, Poller, Watched
from authproxy.server.tls_socket import TLSSocket
from authproxy.tls_stream import TLSStream
from authproxy.tunnel import Switched, TunnelEnd

#: Bytes that wait for one side; while they are so many, nothing is read from the other.
BUFFER_BYTES = 64 * 1024

#: Seconds for which a side may leave what is sent to it unacknowledged, or unread, and after
#: which one that is silent and has gone is noticed.
LOST_SECONDS = 300

#: Seconds in which a target may take what it was sent before the end, and end its side too.
LINGER_SECONDS = 5


class GivesBack(Protocol):
    """Takes the client's connection back, which is to be closed; `cut`: with a reset."""

    def __call__(self, *, cut: bool) -> None: ...


class Side(Watched):
    """One of the two connections, as the poller watches it."""

    other: Side

    def __init__(self, tunnel: Tunnel, name: str, sock: ClientSocket, waiting: bytes = b"") -> None:
        """`waiting` came from the other side before."""
        self._tunnel = tunnel
        self.name = name
        self.socket = sock
        #: What has come from the other side, and this one has not taken yet.
        self.waiting = bytearray(waiting)
        #: It will send no more; it is sent no more; what it sent has no end in order.
        self.has_ended = self.finished = self.truncated = False
        #: The first thing that went wrong.
        self.problem = ""
        self.received = 0
        #: Set at the end of the tunnel, for the target alone.
        self.lingering: Lingering | None = None

    def fileno(self) -> int:
        return self.socket.fileno()

    def wants(self) -> int:
        return self.socket.kernel_events(self._wanted())

    def can_read(self) -> bool:
        return self.socket.has_decrypted_bytes and bool(self._wanted() & READ)

    def _wanted(self) -> int:
        if self.lingering is not None:
            return self.lingering.wanted
        if self._tunnel.is_over:
            return 0
        reads = not self.has_ended and len(self.other.waiting) < BUFFER_BYTES
        return (READ if reads else 0) | (WRITE if self.waiting or self._ends_next else 0)

    @property
    def _ends_next(self) -> bool:
        """Whether the end of the other side, if that was in order, is still to be passed on."""
        return self.other.has_ended and not (self.other.truncated or self.finished)

    @property
    def is_gone(self) -> bool:
        """Whether nothing crosses any more in either direction of its connection."""
        return self.has_ended and self.finished

    def on_events(self, events: int) -> None:
        if self.lingering is not None:
            self._tunnel.linger()
            return
        events = self.socket.possible(events) & self._wanted()
        if events & WRITE:
            self.write()
        if events & READ:
            self.read()
            self.other.write()
        self._tunnel.after(self)

    def fail(self) -> None:
        """End the tunnel, after an unexpected error, which is logged."""
        self.truncated = True
        self._tunnel.end(self.name)

    def read(self) -> None:
        """Read what has come, as far as there is room for it."""
        problem = ""
        try:
            data = self.socket.recv(BUFFER_BYTES - len(self.other.waiting))
        except BlockingIOError:
            return
        except OSError as error:
            data, problem = b"", str(error)
        self.other.waiting += data
        self.received += len(data)
        self._tunnel.moved()
        if not data:
            if problem:
                self.lost(problem, truncated=True)
            self.has_ended = True
            self._tunnel.ended_by(self.name)
            self.check()

    def check(self) -> None:
        """Find out whether one that has ended its side is gone, which no event may tell."""
        if self.has_ended and not self.finished and self.socket.has_hung_up():
            self.lost("", truncated=False)

    def write(self) -> None:
        """Send what waits and, behind the last byte of the other side, its end."""
        try:
            while self.waiting:
                with memoryview(self.waiting) as view:
                    count = self.socket.send(view)
                del self.waiting[:count]
                self._tunnel.moved()
            if self._ends_next:
                self.socket.end_sending()
                self.finished = True
        except BlockingIOError:
            return
        except OSError as error:
            # What it sent before is still to be read. A broken pipe is behind an end in order.
            self.lost(str(error), truncated=isinstance(error, ConnectionResetError))

    def lost(self, problem: str, *, truncated: bool) -> None:
        """Nothing can be sent to it any more. One that has ended its side may leave as it likes."""
        if not self.has_ended:
            self.problem = self.problem or problem
            self.truncated = self.truncated or truncated
        self.waiting.clear()
        self.finished = True
        self._tunnel.ended_by(self.name)


class Tunnel:
    """Joins two connections. For the tunnels' thread, except where it says otherwise."""

    def __init__(self, switched: Switched, give_back: Callable[[], None]) -> None:
        """`give_back` is called once, in any case: it is one of the server's tunnels no more."""
        target = switched.target
        target.setblocking(False)
        if isinstance(target, TLSStream):
            self._target = Side(self, "target", TLSSocket.of_target(target))
        else:
            self._target = Side(self, "target", ClientSocket(target))
        self._early = switched.early
        self._ended: list[Callable[[TunnelEnd], None]] = [lambda _: give_back(), switched.ended]
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
        #: How it has ended, and when at the latest the connection to the target is closed.
        self._end: TunnelEnd | None = None
        self._closes_at = 0.0

    @property
    def is_over(self) -> bool:
        return self._end is not None

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
            due, self._ended = self._ended, []
        for ended in due:
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
        """End it if no byte has moved for so long; called once a second."""
        if self._end is not None:
            if now > self._closes_at:
                self._close()
            return
        for side in (self._client, self._target):
            side.check()
        if not self._end_if_over() and now - self._moved_at > silence:
            self.end("silence")

    def _end_if_over(self) -> bool:
        """End it where one side is gone, once the other was sent what came from there."""
        sides = (self._client, self._target)
        if not self.is_over and any(s.is_gone and not s.other.waiting for s in sides):
            self._part(self._first)
        return self.is_over

    def end(self, by: str) -> None:
        """End it now; `by` is as `TunnelEnd` has it. Harmless when repeated."""
        if not self.is_over:
            self._part(by)
        self.linger()
        self._close()

    def _part(self, by: str) -> None:
        """Give the client's connection back, and end the target's, which may still take bytes."""
        client, target = self._client, self._target
        problem = client.problem or target.problem
        self._end = TunnelEnd(by, client.received, target.received, problem)
        for side in (client, target):
            self._poller.remove(side)
        truncated = client.truncated or target.truncated
        if truncated or target.waiting:
            target.socket.reset_on_close()
        if truncated or target.waiting or target.is_gone:
            self._close()
        else:
            # To close it with unread bytes would destroy what it has not got yet.
            now = time.monotonic()
            self._closes_at = now + LINGER_SECONDS
            target.lingering = Lingering(target.socket, memoryview(bytearray(BUFFER_BYTES)), now)
            self._poller.add(target)
        self._give_back(cut=truncated or bool(client.waiting))

    def linger(self) -> None:
        """Go on with the target's end."""
        lingering = self._target.lingering
        try:
            if lingering is not None and lingering.go_on(time.monotonic()):
                self._close()
        except BlockingIOError:
            pass
        except OSError:
            self._close()

    def _close(self) -> None:
        """Close the connection to the target. Harmless when repeated."""
        self._poller.remove(self._target)
        self._target.lingering = None
        self._forget(self)
        if self._end is not None:
            self._tell(self._end)
