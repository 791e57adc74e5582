"""One client's connection: one request at a time, with bounds on what it may cost."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from authproxy.server.client_socket import has_unread_bytes, reset_on_close, untaken_bytes
from authproxy.server.exchange import Address, Exchange, Site
from authproxy.server.hooks import Hooks
from authproxy.server.limits import Timeouts
from authproxy.server.outbox import Disconnected, Outbox, OutboxStore
from authproxy.server.pace import Pace
from authproxy.server.poller import READ, WRITE, Poller
from authproxy.server.refusals import Refusal, RefusedRequest, refusal_response
from authproxy.server.request_head import Request
from authproxy.server.request_reader import HEAD_READ_BYTES, Intake, RequestReader
from authproxy.server.response_tasks import ApplicationTask
from authproxy.server.stages import Stage, is_overdue
from authproxy.server.threads import Threads

log = logging.getLogger(__name__)

#: How much a client may go on sending after its last response. An ordinary
#: one reads a 413 only when it has sent its whole body.
LINGER_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True)
class Surroundings:
    """What all connections of a server share, and whom they hand requests to."""

    timeouts: Timeouts
    hooks: Hooks
    poller: Poller
    intake: Intake
    outboxes: OutboxStore
    #: Has a thread serve a whole request, or says why it is refused.
    serve: Callable[[Connection, Request], Refusal | None]
    #: Has `receive` called when it is the connection's turn.
    receive_later: Callable[[Connection], None]
    #: Takes note that the connection is closed.
    forget: Callable[[Connection], None]


class Connection:
    """Reads requests in the main loop's thread; responses are written by others.

    It has one request at a time. What a client sends behind it waits, most of it in the
    kernel, until the response is there and has been taken, so that no thread is given to a
    client that does not take what it has asked for already.

    It ends when it makes no progress, and ends politely: closing a socket with unread bytes
    resets it, and the reset destroys the response on its way. So the sending side is shut
    down first, and what the client still sends is read and dropped for a while.

    Methods are for the main loop's thread but where they say otherwise.
    """

    interest = 0

    def __init__(
        self,
        sock: socket.socket,
        client: Address,
        site: Site,
        surroundings: Surroundings,
    ) -> None:
        self._socket = sock
        self._client = client
        self._site = site
        self._all = surroundings
        self._reader = RequestReader(sock, surroundings.intake, self._touch)
        self._outbox = Outbox(sock, surroundings.outboxes, self._touch)
        #: The request that is being received or served; and what the thread has that serves it.
        self._request: Request | None = None
        self._served: Exchange | None = None
        #: It ends once all is sent: in order, or with a reset, as something is missing.
        self._closing = self._cut = False
        self._lingering = False
        self._dropped = 0
        self.closed = False
        #: It is in the queue of those that have something to be received.
        self._due = False
        #: How fast the client takes what waits for it, or sends what is dropped.
        self._taking: Pace | None = None
        self._untaken = 0
        self.made_at = self._progress_at = time.monotonic()

    def fileno(self) -> int:
        return self._socket.fileno()

    def _touch(self) -> None:
        """Have the main loop look at what has changed; from any thread."""
        self._all.poller.touch(self)

    # What it is doing.

    @property
    def stage(self) -> Stage:
        """What is awaited of it."""
        if self._lingering:
            return Stage.LINGERING
        if self._outbox.pending or self._outbox.awaited:
            return Stage.TAKEN
        if self._served or self._closing:
            return Stage.SERVED
        if self._reader.waits_for_room():
            return Stage.ROOM
        if self._reader.in_body:
            return Stage.BODY
        return Stage.HEAD if self._reader.buffered else Stage.IDLE

    @property
    def progress_at(self) -> float:
        """When a byte last moved, or the last response ended (monotonic)."""
        return max(self._progress_at, self._reader.read_at, self._outbox.taken_at)

    @property
    def pace(self) -> Pace:
        """How fast the client gets on with what it has to do."""
        return self._reader.pace if self._taking is None else self._taking

    @property
    def keeps_bytes(self) -> bool:
        """Whether it takes room of others: for a body, a large head, or what waits for it."""
        return self._outbox.pending > 0 or self._reader.keeps_bytes

    @property
    def is_costly(self) -> bool:
        """Whether receiving takes long for what comes of it."""
        return self._reader.is_costly

    @property
    def has_spoken(self) -> bool:
        """Whether the client has sent anything yet."""
        return self._reader.has_spoken

    def has_unread_bytes(self) -> bool:
        """Whether the next request waits in the kernel already."""
        return has_unread_bytes(self._socket)

    # The poller's side.

    def wants(self) -> int:
        """Return the events to wait for."""
        if self.closed:
            return 0
        if self._lingering:
            return READ
        if self._outbox.pending or self._outbox.awaited:
            return WRITE
        if self._served is not None:
            return READ if self._reader.buffered < HEAD_READ_BYTES else 0
        return 0 if self._closing or self._reader.waits_for_room() else READ

    def on_events(self, events: int) -> None:
        """Read and write what can be."""
        try:
            if events & WRITE:
                self._outbox.flush()
                if not (self._outbox.pending or self._outbox.awaited):
                    self._taking = None
                self._go_on()
            if events & READ:
                self._read()
        except OSError:
            self.close()

    def attend(self) -> None:
        """See to what a thread has left: a response that has ended or waits, or room."""
        try:
            if self._outbox.pending or self._outbox.awaited:
                self._note_wait()
            elif self._reader.in_body:
                self._receive_later()
            elif self._reader.waits_for_room():
                self._reader.take_head_room()
            else:
                self._go_on()
        except OSError:
            self.close()

    def fail(self) -> None:
        """Give up: a bug has shown."""
        self.close()

    def _note_wait(self) -> None:
        """From now on a response waits for the client; the target may have been silent for long."""
        if self._taking is None:
            self._progress_at = time.monotonic()
            self._taking = Pace(self._progress_at)
            self._untaken = untaken_bytes(self._socket)

    def _go_on(self) -> None:
        """Take the next step, if the client has taken everything."""
        if self._outbox.pending or self._served or self._lingering or self._reader.in_body:
            return
        if not self._closing:
            self._reader.turn()
            self._advance(behind=True)
        elif self._cut:
            self.cut()
        else:
            self._linger()

    # Reading.

    def _read(self) -> None:
        if self._lingering:
            self._drop()
        elif self._reader.in_body:
            self._receive_later()
        elif not self.closed:
            self._reader.read_head()
            # Looked at behind that: the thread that ends a response looks for input
            # behind its end, so that one of the two sees the other.
            self._advance()

    def _advance(self, *, behind: bool = False, at_length: bool = False) -> None:
        """Begin with the request that waits, if it is its turn and its head is there.

        `behind`: it may have come along with the one before it. `at_length`: there is time.
        """
        while not (self._served or self._closing or self.closed or self._outbox.pending):
            if self._request is not None:
                return
            request = self._reader.next_request(at_length=at_length)
            if request is None:
                if self._reader.is_costly:
                    self._receive_later()
                return
            if isinstance(request, Refusal):
                self._refuse(request)
                return
            self._request = request
            if request.refusal is not None:
                self._refuse(request.refusal)
            elif not request.has_body:
                self._hand_over(request)
            elif (behind and self._reader.has_whole_body(request)) or self._is_admitted(request):
                self._begin_body(request)

    def _is_admitted(self, request: Request) -> bool:
        """Have it judged before its body is waited for.

        Who is turned away has to connect anew; so a request that came whole behind another is
        left to the application.
        """
        admit = self._all.hooks.admit_head
        if admit is not None:
            outcome = admit(request.as_environ(self._client[0]))
            if isinstance(outcome, Refusal):
                self._refuse(outcome, reported=True)
                return False
            request.admitted = outcome
        return True

    def _begin_body(self, request: Request) -> None:
        self._reader.begin_body(request)
        if request.awaits_100:
            self._outbox.write(b"HTTP/1.1 100 Continue\r\n\r\n", wait=False)
        self._receive_later()  # some of it may be there already

    def _receive_later(self) -> None:
        if not self._due:
            self._due = True
            self._all.receive_later(self)

    def receive(self) -> None:
        """Read what has come; called when it is this connection's turn."""
        self._due = False
        try:
            if self._reader.in_body:
                self._receive_body()
            else:
                self._advance(at_length=True)
        except OSError:
            self.close()

    def _receive_body(self) -> None:
        request, outcome = self._request, self._reader.receive_body()
        if request is None:
            return
        if isinstance(outcome, Refusal):
            self._refuse(outcome)
        elif outcome:
            request.body_received()
            self._hand_over(request)

    # Requests that are whole, or refused.

    def _hand_over(self, request: Request) -> None:
        refusal = self._all.serve(self, request)
        if refusal is not None:
            self._refuse(refusal)

    def serve_in(self, threads: Threads, request: Request, *, may_wait: bool) -> None:
        """Have a thread serve the request; `may_wait`: for a client that is slow to take it."""
        self._served = Exchange(
            self._site, self._client, self._outbox, self._finished, may_wait=may_wait
        )
        threads.add_task(ApplicationTask(self._served, request))

    def _finished(self, *, close: bool, cut: bool) -> None:
        """The response is written. Called by the thread that did so."""
        self._closing, self._cut = close, cut
        self._reader.release_head()
        self._progress_at = time.monotonic()
        self._request = None
        self._served = None  # from here on the main loop goes on with it
        if self.closed:
            self._reader.close()
        elif close or self._reader.buffered:
            self._touch()

    def _refuse(self, refusal: Refusal, *, reported: bool = False) -> None:
        """Turn the request away, the last one here; `reported`: the hook did so itself."""
        request, self._request = self._request, None
        headers: Mapping[str, str] = {} if request is None else request.headers
        method = "" if request is None else request.command
        if not reported:
            target = "" if request is None else request.request_uri
            self._all.hooks.on_refused(
                RefusedRequest(refusal, method, target, headers, self._client[0])
            )
        if request is not None:
            request.close()
        version = "1.1" if request is None or request.version != "1.0" else "1.0"
        response = refusal_response(
            refusal, headers, time.time(), version=version, has_body=method != "HEAD"
        )
        self._reader.close()
        self._closing = True
        try:
            self._outbox.write(response, wait=False)
            self._go_on()
        except Disconnected:
            self.close()

    # The end.

    def check(self, now: float) -> None:
        """End the connection if it has made no progress for too long; `now` is monotonic.

        Called about once a second: a socket whose client does not read never becomes writable.
        """
        stage = self.stage
        if stage is Stage.TAKEN:
            self._note_what_is_taken(now)
        silence, lasting = now - self.progress_at, self.pace.seconds(now)
        if not is_overdue(stage, silence, lasting, self._all.timeouts):
            return
        fields = {"fields": {"Client": self._client[0]}}
        if stage is Stage.TAKEN:
            log.info("Cut a client that stopped reading.", extra=fields)
            self.cut()
            return
        if stage in (Stage.HEAD, Stage.BODY):
            log.info("Closed a connection with half a request.", extra=fields)
        self.close()

    def _note_what_is_taken(self, now: float) -> None:
        """See how much less the kernel holds for the client."""
        self._note_wait()
        untaken = untaken_bytes(self._socket)
        if untaken != self._untaken:
            self.pace.moved += max(0, self._untaken - untaken)
            self._untaken, self._progress_at = untaken, now

    def _linger(self) -> None:
        self._lingering = True
        self._progress_at = time.monotonic()
        self._taking = Pace(self._progress_at)
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()

    def _drop(self) -> None:
        count = self._socket.recv_into(self._all.intake.bodies.scratch)
        self._dropped += count
        self._progress_at = time.monotonic()
        if not count or self._dropped > LINGER_BYTES:
            self.close()

    def give_way(self) -> None:
        """End, so that others have room; what is missing then looks so."""
        if self.stage.is_clients_turn:
            self.cut()
        else:
            self.close()

    def cut(self) -> None:
        """End the connection so that the client sees that something is missing."""
        if not self.closed:
            reset_on_close(self._socket)
        self.close()

    def close(self) -> None:
        """Close the socket, and end what is done for the client."""
        if self.closed:
            return
        self.closed = True
        self._all.poller.remove(self)
        self._outbox.close()
        served = self._served
        if served is not None:  # its thread gives back what the request takes
            served.abort_signal.abort()
        else:
            self._reader.close()
            if self._request is not None:
                self._request.close()
        self._socket.close()
        self._all.forget(self)
