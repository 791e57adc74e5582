"""One client's connection: one request at a time, with bounds on what it may cost."""

from __future__ import annotations

import logging
import time
from functools import partial

from authproxy.server.client_progress import ClientProgress
from authproxy.server.client_socket import ClientSocket, HandshakeFailed
from authproxy.server.exchange import Address, Site
from authproxy.server.lingering import Lingering
from authproxy.server.outbox import Disconnected, Outbox
from authproxy.server.poller import READ, WRITE, Watched
from authproxy.server.progress import Stage
from authproxy.server.reception import Reception
from authproxy.server.refusals import Refusal
from authproxy.server.request_head import Request
from authproxy.server.request_reader import HEAD_READ_BYTES, Ended, RequestReader
from authproxy.server.serving import Serving
from authproxy.server.shared import Shared
from authproxy.server.tunnel import Tunnel

log = logging.getLogger(__name__)


class Connection(Watched):
    """Reads requests in the main loop's thread; responses are written by others.

    It has one request at a time. What a client sends behind it waits, most of it in the
    kernel, until the response is written and the client has read it: a client that does not
    read its responses gets no further thread.

    It is closed when it makes no progress. Methods are for the main loop's thread except where
    they say otherwise.
    """

    def __init__(self, sock: ClientSocket, client: Address, site: Site, shared: Shared) -> None:
        self._socket = sock
        self._client = client[0]
        self._shared = shared
        self._reader = RequestReader(sock, shared.intake, self._notify)
        self._outbox = Outbox(sock, shared.outboxes, self._notify)
        self._serving = Serving(site, client, self._outbox, shared.dispatcher)
        self._reception = Reception(
            sock,
            self._client,
            shared.hooks,
            self._reader,
            self._outbox,
            self._serving,
            whole=self._hand_over,
            refused=self._refuse,
            queue=partial(shared.receive_later, self),
        )
        self.progress = ClientProgress(
            sock, self._reader, self._outbox, self._serving, shared.timeouts
        )
        self.closed = False

    def fileno(self) -> int:
        return self._socket.fileno()

    def _notify(self) -> None:
        """Have the main loop call `on_notify`; from any thread."""
        self._shared.poller.notify(self)

    # What it is doing.

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
        if self.closed or self._serving.running_tunnel:
            return 0
        if self.progress.lingering is not None:
            return self.progress.lingering.wanted
        if self._outbox.pending or self._outbox.awaited:
            return WRITE
        if self.progress.half_closed:
            return 0
        if self._serving.exchange is not None:
            return READ if self._reader.buffered < HEAD_READ_BYTES else 0
        return 0 if self._serving.closing or self._reader.waits_for_room() else READ

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
            fields = {"Client": self._client, "Problem": str(error)}
            log.info("A TLS handshake failed.", extra={"fields": fields})
            self._serving.closing = True
            self._linger()  # an alert is on its way, which a reset would destroy
        except OSError:
            self.close()

    def on_notify(self) -> None:
        """Go on after a thread: its response has ended or waits, or there is room in a budget."""
        try:
            if self._outbox.pending or self._outbox.awaited:
                self.progress.measure_reading()
            elif self._reader.in_body:
                self._reception.receive_later()
            elif self._reader.waits_for_room():
                self._reader.take_head_room()
            else:
                self._go_on()
        except OSError:
            self.close()

    def _go_on(self) -> None:
        """Read the next request, or close, once the client has read everything."""
        serving, pending = self._serving, self._outbox.pending
        tunnel = serving.tunnel
        if tunnel is not None and not (pending or tunnel.begun):
            tunnel.prepare(self._socket, self._reader.take(), self._tunnel_ended)
            self._shared.tunnels.begin(tunnel)
        lingering = self.progress.lingering is not None
        if pending or serving.exchange or lingering or self._reader.in_body:
            return
        if not serving.closing:
            self._reader.turn()
            self._reception.advance(behind=True)
            self._close_if_done()
        elif serving.cut:
            self.cut()
        else:
            self._linger()

    # Reading.

    def _read(self) -> None:
        if self._reader.in_body:
            self._reception.receive_later()
        elif not (self.closed or self.progress.lingering):
            try:
                self._reader.read_head()
            except Ended:
                self._client_ended()
                return
            # Looked at behind that: the thread that ends a response looks for input
            # behind its end, so that one of the two sees the other.
            self._reception.advance()

    def _client_ended(self) -> None:
        """Serve what has come before the end, unless the client has left altogether."""
        if self._socket.has_hung_up():
            self.close()
            return
        # Set before the exchange is looked at: as above, one of the two sees the other.
        self.progress.has_ended()
        self._go_on()

    def _close_if_done(self) -> None:
        """Close where the client has ended its side and every request has its response."""
        idle = self._serving.idle and not self._outbox.pending and not self._reception.due
        if self.progress.half_closed and idle:
            self.close()

    def receive(self) -> None:
        """Read what has come; called when it is this connection's turn."""
        try:
            self._reception.receive()
            if not self._reader.in_body:
                self._close_if_done()
        except OSError:
            self.close()

    # Requests that are whole, or refused.

    def _hand_over(self, request: Request) -> None:
        """Have a thread serve the request, whose body is there."""
        if problem := self._serving.begin(request, self._finished):
            self._refuse(problem)

    def _finished(self, *, close: bool, cut: bool, tunnel: Tunnel | None = None) -> None:
        """The response is written. Called by the thread that did so."""
        self._reader.release_head()
        self.progress.note()
        self._serving.end(close=close, cut=cut, tunnel=tunnel)
        if self.closed:
            self._reader.close()
            if tunnel is not None:
                tunnel.abandon()
        elif close or tunnel or self._reader.buffered or self.progress.half_closed:
            self._notify()

    def _tunnel_ended(self, *, cut: bool) -> None:
        """The connection is the main loop's again. Called by the tunnels' thread."""
        self._finished(close=True, cut=cut)

    def _refuse(self, refusal: Refusal, reported: bool = False) -> None:
        """Send a refusal and close; `reported`: the hook has reported it already."""
        request = self._serving.take_request()
        response = self._reception.refusal(refusal, request, reported=reported)
        if request is not None:
            request.close()
        self._reader.close()
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
        stage, served = self.progress.stage, self._serving.exchange
        if self._serving.tunnel is not None and stage is Stage.SERVED:
            return  # its thread notices a client that has left
        if self.progress.half_closed and served is not None and stage is Stage.SERVED:
            if self.progress.has_left(served, now):
                self.close()
        elif self.progress.has_timed_out(self._client, now):
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
        if self.progress.stage.waits_for_client:
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
        if tunnel := self._serving.running_tunnel:
            self._shared.tunnels.end(tunnel)  # its thread has the socket, and gives it back
            return
        in_order = self.progress.stage is Stage.IDLE
        self.closed = True
        self._shared.poller.remove(self)
        self._outbox.close()
        if not self._serving.abandon():  # else its thread gives back what the request takes
            self._reader.close()
        self._socket.close(in_order=in_order)
        self._shared.forget(self)

    fail = close  # an unexpected error, which is logged, ends it like any other
