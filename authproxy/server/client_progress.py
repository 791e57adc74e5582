"""Whether a client makes progress: when a byte last moved, how fast, and when it has timed out.

Or has left. One that has ended its side while its request is served waits for the response, or is
gone: both are a FIN on the wire. Which it is shows only when something is sent: the kernel of a
client that has left responds with a reset.
"""

from __future__ import annotations

import logging
import time

from authproxy.server.client_socket import ClientSocket
from authproxy.server.exchange import Exchange
from authproxy.server.limits import Timeouts
from authproxy.server.lingering import Lingering
from authproxy.server.outbox import Disconnected, Outbox
from authproxy.server.progress import Pace, Stage, is_overdue
from authproxy.server.request_reader import RequestReader
from authproxy.server.serving import Serving

log = logging.getLogger(__name__)

#: Seconds to the first probe of a client that has ended its side, which most responses precede;
#: each next one comes when this many times the time has passed.
_FIRST_PROBE_SECONDS = 1.0
_LATER_PROBES = 4


class ReadingPace(Pace):
    """How fast a client reads a response that waits for it.

    Begun when it has to wait; before, the target may have been silent. A socket whose client
    does not read never becomes writable: so its kernel is asked.
    """

    __slots__ = ("_socket", "_unsent", "progress_at")

    def __init__(self, sock: ClientSocket, now: float) -> None:
        """`now` is monotonic, as all times here."""
        super().__init__(now)
        self._socket = sock
        self._unsent = sock.unsent_bytes()
        #: When the client was last seen to have read something.
        self.progress_at = now

    def look(self, now: float) -> None:
        """Note how much the client has read of what the kernel holds for it."""
        unsent = self._socket.unsent_bytes()
        if unsent != self._unsent:
            self.moved += max(0, self._unsent - unsent)
            self._unsent, self.progress_at = unsent, now


class ClientProgress:
    """The progress of one connection's client. Used by the main loop's thread, except `note`."""

    def __init__(
        self,
        sock: ClientSocket,
        reader: RequestReader,
        outbox: Outbox,
        serving: Serving,
        timeouts: Timeouts,
    ) -> None:
        self._socket = sock
        self._reader = reader
        self._outbox = outbox
        self._serving = serving
        self._timeouts = timeouts
        self._noted_at = self.made_at = time.monotonic()
        self._reading: ReadingPace | None = None
        #: Whether it has ended its side: nothing more is to be read.
        self.half_closed = False
        self._half_closed_at = self._next_probe = 0.0
        #: Set once its last response is sent.
        self.lingering: Lingering | None = None

    @property
    def stage(self) -> Stage:
        """What is awaited of the connection."""
        if self.lingering:
            return Stage.LINGERING
        if self._outbox.pending or self._outbox.awaited:
            return Stage.WRITING
        if not self._serving.takes_request:
            return Stage.SERVED
        if not self._socket.established:
            return Stage.HANDSHAKE
        if self._reader.waits_for_room():
            return Stage.ROOM
        if self._reader.in_body:
            return Stage.BODY
        return Stage.HEAD if self._reader.buffered else Stage.IDLE

    @property
    def at(self) -> float:
        """When a byte last moved, or the last response ended (monotonic)."""
        measured = self.lingering or self._reading
        others = self._noted_at if measured is None else measured.progress_at
        return max(others, self._reader.read_at, self._outbox.taken_at)

    @property
    def pace(self) -> Pace:
        """How fast the client reads or sends what it has to."""
        if self.lingering is not None:
            return self.lingering.pace
        return self._reader.pace if self._reading is None else self._reading

    def note(self) -> None:
        """A response has ended just now. Any thread may call."""
        self._noted_at = time.monotonic()

    def measure_reading(self) -> ReadingPace:
        """From now on a response waits for the client to read it. Harmless when repeated."""
        if self._reading is None:
            self._reading = ReadingPace(self._socket, time.monotonic())
        return self._reading

    def has_read(self) -> None:
        """Nothing waits for it any more."""
        self._reading, self._noted_at = None, self.at

    def has_ended(self) -> None:
        """It has ended its side of the connection."""
        self.half_closed, self._half_closed_at = True, time.monotonic()
        self._next_probe = self._half_closed_at + _FIRST_PROBE_SECONDS

    def has_left(self, served: Exchange, now: float) -> bool:
        """Tell whether a client that has ended its side has left; called about once a second.

        Before the response has begun, an interim response is the probe. Where none may be sent,
        the client counts as gone when it has taken no byte for a while.
        """
        since = self._half_closed_at
        if self._socket.has_hung_up():
            return True
        if not served.may_probe:
            return now - max(since, self._outbox.taken_at) > self._timeouts.half_closed
        if now < self._next_probe:
            return False
        self._next_probe = since + _LATER_PROBES * (now - since)
        try:
            served.probe()
        except Disconnected:
            return True
        return False

    def has_timed_out(self, client: str, now: float) -> bool:
        """Tell whether it has, and log it; called about once a second. `client` is its address."""
        stage = self.stage
        if stage is Stage.WRITING:
            self.measure_reading().look(now)
        if not is_overdue(stage, now - self.at, self.pace.seconds(now), self._timeouts):
            return False
        fields = {"fields": {"Client": client}}
        if stage is Stage.WRITING:
            log.info("Cut a client that stopped reading.", extra=fields)
        if stage in (Stage.HEAD, Stage.BODY):
            log.info("Closed a connection with half a request.", extra=fields)
        if stage is Stage.HANDSHAKE:
            log.info("Closed a connection without a whole TLS handshake.", extra=fields)
        return True
