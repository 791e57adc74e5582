"""The request of a connection, from its head to the end of its response, and what follows that."""

from __future__ import annotations

from authproxy.server.application_task import ApplicationTask
from authproxy.server.exchange import Address, Exchange, Finished, Site
from authproxy.server.outbox import Outbox
from authproxy.server.refusals import Refusal
from authproxy.server.request_head import Request
from authproxy.server.threads import Dispatcher
from authproxy.server.tunnel import Tunnel


class Serving:
    """One request at a time: received by the main loop's thread, then served by another.

    From `begin` to `end` it is that other thread's, except for `abandon`.
    """

    def __init__(self, site: Site, client: Address, outbox: Outbox, dispatcher: Dispatcher) -> None:
        self._site = site
        self._client = client
        self._outbox = outbox
        self._dispatcher = dispatcher
        #: The request that is received or served, and its exchange while a thread serves it.
        self.request: Request | None = None
        self.exchange: Exchange | None = None
        #: What the connection becomes behind its last response; the exchange lasts as long.
        self.tunnel: Tunnel | None = None
        #: To be closed once all is sent: in order or, if the response is truncated, with a reset.
        self.closing = self.cut = False

    @property
    def takes_request(self) -> bool:
        """Whether the next request may begin, as far as the one before is concerned."""
        return not (self.exchange or self.closing)

    @property
    def idle(self) -> bool:
        """Whether there is no request, nor will the connection be closed in any case."""
        return self.request is None and self.takes_request

    @property
    def running_tunnel(self) -> Tunnel | None:
        """What the connection has become: the tunnels' thread has its socket."""
        tunnel = self.tunnel  # whose thread may put an end to it
        return tunnel if tunnel is not None and tunnel.begun else None

    def begin(self, request: Request, finished: Finished) -> Refusal | None:
        """Have a thread serve the request, whose body is there; return why none can, if so.

        `finished` is called by that thread, and has to call `end`.
        """
        threads = self._dispatcher.threads_for(request.command, request.request_uri)
        if isinstance(threads, Refusal):
            return threads
        self.exchange = Exchange(
            self._site,
            self._client,
            self._outbox,
            finished,
            may_wait=threads.may_wait,
            takes_interim=request.version == "1.1",
        )
        threads.add_task(ApplicationTask(self.exchange, request))
        return None

    def end(self, *, close: bool, cut: bool, tunnel: Tunnel | None) -> None:
        """The response is written. Called by the thread that did so."""
        self.closing, self.cut, self.tunnel = close, cut, tunnel
        self.request = None
        if tunnel is None:
            self.exchange = None  # from here on it is the main loop's

    def take_request(self) -> Request | None:
        """Return the request that was received so far, which is refused: the last one."""
        request, self.request = self.request, None
        self.closing = True
        return request

    def abandon(self) -> bool:
        """The connection is closed. Return whether a thread is still at work, which is told."""
        exchange, self.closing = self.exchange, True
        if exchange is None:
            if self.request is not None:
                self.request.close()
            return False
        exchange.cancellation.cancel()
        if self.tunnel is not None:
            self.tunnel.abandon()
        return True
