"""One client's connection: one request at a time, with bounds on what it may cost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from authproxy.server.application_task import ApplicationTask
from authproxy.server.client_progress import ClientProgress
from authproxy.server.client_socket import ClientSocket, HandshakeFailed
from authproxy.server.exchange import CONTINUE, Address, Exchange, Site
from authproxy.server.head_checks import HeadChecks
from authproxy.server.hooks import Hooks
from authproxy.server.limits import Timeouts
from authproxy.server.lingering import Lingering
from authproxy.server.outbox import Disconnected, Outbox, OutboxStore
from authproxy.server.poller import READ, WRITE, Poller
from authproxy.server.progress import Stage
from authproxy.server.refusals import Refusal
from authproxy.server.request_head import Request
from authproxy.server.request_reader import HEAD_READ_BYTES, Ended, Intake, RequestReader
from authproxy.server.threads import Dispatcher
from authproxy.server.tunnel import Tunnel
from authproxy.server.tunnels import Tunnels

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shared:
    """What all connections of a server share."""

    timeouts: Timeouts
    hooks: Hooks
    poller: Poller
    intake: Intake
    outboxes: OutboxStore
    dispatcher: Dispatcher
    tunnels: Tunnels
    #: Has `receive` called when it is the connection's turn.
    receive_later: Callable[[Connection], None]
    #: Removes a closed connection from those that are open.
    forget: Callable[[Connection], None]


class Connection:
    """Reads requests in the main loop's thread; responses are written by others.

    It has one request at a time. What a client sends behind it waits, most of it in the
    kernel, until the response is written and the client has read it: a client that does not
    read its responses gets no further thread.

    It is closed when it makes no progress.

    Methods are for the main loop's thread except where they say otherwise.
    """

    interest = 0

    def __init__(
        self,
        sock: ClientSocket,
        client: Address,
        site: Site,
        shared: Shared,
    ) -> None:
        self._socket = sock
        self._client = client
        self._site = site
        self._shared = shared
        self._checks = HeadChecks(shared.hooks, sock, client[0])
        self._reader = RequestReader(sock, shared.intake, self._notify)
        self._outbox = Outbox(sock, shared.outboxes, self._notify)
        self.progress = ClientProgress(sock, self._reader, self._outbox, shared.timeouts)
        #: The request that is received or served, and its exchange while a thread serves it.
        self._request: Request | None = None
        self._served: Exchange | None = None
        #: What it becomes behind its last response; the exchange lasts as long.
        self._tunnel: Tunnel | None = None
        #: To be closed once all is sent: in order or, if the response is truncated, with a reset.
        self._closing = self._cut = False
        self.closed = False
        #: Whether it is queued to receive.
        self._due = False

    def fileno(self) -> int:
        return self._socket.fileno()

    def _notify(self) -> None:
        """Have the main loop call `on_notify`; from any thread."""
        self._shared.poller.notify(self)

    # What it is doing.

    @property
    def stage(self) -> Stage:
        """What is awaited of it."""
        if self.progress.lingering:
            return Stage.LINGERING
        if self._outbox.pending or self._outbox.awaited:
            return Stage.WRITING
        if self._served or self._closing:
            return Stage.SERVED
        if not self._socket.established:
            return Stage.HANDSHAKE
        if self._reader.waits_for_room():
            return Stage.ROOM
        if self._reader.in_body:
            return Stage.BODY
        return Stage.HEAD if self._reader.buffered else Stage.IDLE

    @property
    def holds_room(self) -> bool:
        """Whether it holds room in a budget: for a body, a large head, or a waiting response."""
        return self._outbox.pending > 0 or self._reader.holds_room

    @property
    def is_costly(self) -> bool:
        """Whether receiving takes much CPU time for few bytes."""
        return self._reader.is_costly

    @property
    def has_sent(self) -> bool:
        """Whether the client has sent anything yet."""
        return self._reader.has_sent

    def has_unread_bytes(self) -> bool:
        """Whether the next request waits in the kernel already."""
        return self._socket.has_unread_bytes()

    # The poller's side.

    def wants(self) -> int:
        """Return the events to wait for."""
        return self._socket.kernel_events(self._wanted())

    def can_read(self) -> bool:
        return self._socket.has_decrypted_bytes and bool(self._wanted() & READ)

    def _wanted(self) -> int:
        """Return what it would do: read, write, or neither."""
        if self.closed or (self._tunnel is not None and self._tunnel.begun):
            return 0
        if self.progress.lingering is not None:
            return self.progress.lingering.wanted
        if self._outbox.pending or self._outbox.awaited:
            return WRITE
        if self.progress.half_closed is not None:
            return 0
        if self._served is not None:
            return READ if self._reader.buffered < HEAD_READ_BYTES else 0
        return 0 if self._closing or self._reader.waits_for_room() else READ

    def on_events(self, events: int) -> None:
        """Read and write what the socket allows."""
        events = self._socket.possible(events) & self._wanted()
        try:
            if self.progress.lingering is not None:
                if events and self.progress.lingering.go_on(time.monotonic()):
                    self.close()
                return
            if events & WRITE:
                self._outbox.flush()
                if not (self._outbox.pending or self._outbox.awaited):
                    self.progress.has_read()
                self._go_on()
            if events & READ:
                self._read()
        except HandshakeFailed as error:
            fields = {"Client": self._client[0], "Problem": str(error)}
            log.info("A TLS handshake failed.", extra={"fields": fields})
            self._closing = True
            self._linger()  # an alert is on its way, which a reset would destroy
        except OSError:
            self.close()

    def on_notify(self) -> None:
        """Go on after a thread: its response has ended or waits, or there is room in a budget."""
        try:
            if self._outbox.pending or self._outbox.awaited:
                self.progress.measure_reading()
            elif self._reader.in_body:
                self._receive_later()
            elif self._reader.waits_for_room():
                self._reader.take_head_room()
            else:
                self._go_on()
        except OSError:
            self.close()

    def fail(self) -> None:
        """Close, after an unexpected error."""
        self.close()

    def _go_on(self) -> None:
        """Read the next request, or close, once the client has read everything."""
        if self._tunnel is not None and not (self._outbox.pending or self._tunnel.begun):
            self._tunnel.prepare(self._socket, self._reader.take(), self._tunnel_ended)
            self._shared.tunnels.begin(self._tunnel)
        lingering = self.progress.lingering is not None
        if self._outbox.pending or self._served or lingering or self._reader.in_body:
            return
        if not self._closing:
            self._reader.turn()
            self._advance(behind=True)
            self._close_if_done()
        elif self._cut:
            self.cut()
        else:
            self._linger()

    # Reading.

    def _read(self) -> None:
        if self._reader.in_body:
            self._receive_later()
        elif not (self.closed or self.progress.lingering):
            try:
                self._reader.read_head()
            except Ended:
                self._client_ended()
                return
            # Looked at behind that: the thread that ends a response looks for input
            # behind its end, so that one of the two sees the other.
            self._advance()

    def _client_ended(self) -> None:
        """Serve what has come before the end, unless the client has left altogether."""
        if self._socket.has_hung_up():
            self.close()
            return
        # Set before `_served` is looked at: as above, one of the two sees the other.
        self.progress.has_ended()
        self._go_on()

    def _close_if_done(self) -> None:
        """Close where the client has ended its side and every request has its response."""
        busy = self._request or self._served or self._outbox.pending or self._due or self._closing
        if self.progress.half_closed and not busy:
            self.close()

    def _advance(self, *, behind: bool = False, at_length: bool = False) -> None:
        """Begin with the next request, if the one before is done and its head is whole.

        `behind`: it may have come with the one before it. `at_length`: heads that take long
        to parse may be parsed now.
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
            if problem := self._checks.problem(request):
                self._refuse(problem)
            elif not request.has_body:
                self._hand_over(request)
            elif behind and self._reader.has_whole_body(request):
                # A refusal would close the connection: it is the application's to refuse.
                self._begin_body(request)
            elif problem := self._checks.admit(request):
                self._refuse(problem, reported=True)
            else:
                self._begin_body(request)

    def _begin_body(self, request: Request) -> None:
        self._reader.begin_body(request)
        if request.awaits_100:
            self._outbox.write(CONTINUE, wait=False)
        self._receive_later()  # some of it may be there already

    def _receive_later(self) -> None:
        if not self._due:
            self._due = True
            self._shared.receive_later(self)

    def receive(self) -> None:
        """Read what has come; called when it is this connection's turn."""
        self._due = False
        try:
            if self._reader.in_body:
                self._receive_body()
            else:
                self._advance(at_length=True)
                self._close_if_done()
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
        """Have a thread serve the request, whose body is there."""
        threads = self._shared.dispatcher.threads_for(request.command, request.request_uri)
        if isinstance(threads, Refusal):
            self._refuse(threads)
            return
        self._served = Exchange(
            self._site,
            self._client,
            self._outbox,
            self._finished,
            may_wait=threads.may_wait,
            takes_interim=request.version == "1.1",
        )
        threads.add_task(ApplicationTask(self._served, request))

    def _finished(self, *, close: bool, cut: bool, tunnel: Tunnel | None = None) -> None:
        """The response is written. Called by the thread that did so."""
        self._closing, self._cut, self._tunnel = close, cut, tunnel
        self._reader.release_head()
        self.progress.note()
        self._request = None
        if tunnel is None:
            self._served = None  # from here on it is the main loop's
        if self.closed:
            self._reader.close()
            if tunnel is not None:
                tunnel.abandon()
        elif close or tunnel or self._reader.buffered or self.progress.half_closed:
            self._notify()

    def _tunnel_ended(self, *, cut: bool) -> None:
        """The connection is the main loop's again. Called by the tunnels' thread."""
        self._finished(close=True, cut=cut)

    def _refuse(self, refusal: Refusal, *, reported: bool = False) -> None:
        """Send a refusal and close; `reported`: the hook has reported it already."""
        request, self._request = self._request, None
        response = self._checks.refuse(refusal, request, reported=reported)
        if request is not None:
            request.close()
        self._reader.close()
        self._closing = True
        try:
            self._outbox.write(response, wait=False)
            self._go_on()
        except Disconnected:
            self.close()

    # The end.

    def check(self, now: float) -> None:
        """Close the connection if it has timed out; `now` is monotonic.

        Called about once a second: a socket whose client does not read never becomes writable.
        """
        stage, served = self.stage, self._served
        if self._tunnel is not None and stage is Stage.SERVED:
            return  # its thread notices a client that has left
        if self.progress.half_closed and served is not None and stage is Stage.SERVED:
            if self.progress.has_left(served, now):
                self.close()
        elif self.progress.has_timed_out(stage, self._client[0], now):
            if stage is Stage.WRITING:
                self.cut()
            else:
                self.close()

    def _linger(self) -> None:
        now = time.monotonic()
        lingering = Lingering(self._socket, self._shared.intake.bodies.scratch, now)
        self.progress.lingering = lingering
        try:
            lingering.go_on(now)
        except OSError:
            self.close()

    def give_way(self) -> None:
        """Close, so that others have room; a truncated response is seen as such."""
        if self.stage.waits_for_client:
            self.cut()
        else:
            self.close()

    def cut(self) -> None:
        """Close with a reset, so that the client sees a truncated response."""
        if not self.closed:
            self._socket.reset_on_close()
        self.close()

    def close(self) -> None:
        """Close the socket, and cancel what is done for the client."""
        if self.closed:
            return
        if self._tunnel is not None and self._tunnel.begun:
            self._shared.tunnels.end(self._tunnel)  # its thread has the socket, and gives it back
            return
        in_order = self.stage is Stage.IDLE
        self.closed = True
        self._shared.poller.remove(self)
        self._outbox.close()
        served = self._served
        if served is not None:  # its thread gives back what the request takes
            served.cancellation.cancel()
            if self._tunnel is not None:
                self._tunnel.abandon()
        else:
            self._reader.close()
            if self._request is not None:
                self._request.close()
        self._socket.close(in_order=in_order)
        self._shared.forget(self)
