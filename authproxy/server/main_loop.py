"""The server: listening sockets, connections and threads around one main loop, which can drain."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING

from waitress.adjustments import Adjustments

from authproxy.server.balance import Share
from authproxy.server.budget import Budget, Pool
from authproxy.server.client_socket import ClientSocket
from authproxy.server.connection import Connection
from authproxy.server.connections import Connections
from authproxy.server.exchange import Address, Site
from authproxy.server.hooks import Hooks
from authproxy.server.limits import (
    DEFAULT_TIMEOUTS,
    HEAD_MEMORY_BYTES,
    RESPONSE_MEMORY_BYTES,
    Limits,
    Timeouts,
    connection_limit,
)
from authproxy.server.listener import DEFER_SECONDS, Listener
from authproxy.server.memory_body import BodyMemory
from authproxy.server.outbox import OutboxStore
from authproxy.server.poller import Poller
from authproxy.server.progress import Stage
from authproxy.server.request_body import BodyStore
from authproxy.server.request_reader import Intake
from authproxy.server.shared import Shared
from authproxy.server.threads import Dispatcher, OverloadLog
from authproxy.server.tls_socket import ContextSource, TLSSocket
from authproxy.server.tunnels import Tunnels

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)

#: Longest wait of the main loop, and the interval at which timeouts are checked.
_TICK_SECONDS = 1.0

#: Longest wait where there is no room for further connections.
_FULL_SECONDS = 0.1

#: How long a new connection is given to send its request while draining.
_FIRST_REQUEST_SECONDS = 1.0

#: After the grace: threads and seconds in which queued requests are refused.
_REFUSING_THREADS = 4
_REFUSING_SECONDS = 2.0


class StopRequest:
    """Turns signals into a request to stop; a second one ends at once."""

    def __init__(self) -> None:
        self.requested = False
        self._callbacks: list[Callable[[], None]] = []

    def __call__(self) -> None:
        self.requested = True
        for callback in self._callbacks:
            callback()

    def when_requested(self, callback: Callable[[], None]) -> None:
        """Register a callback, which signal handlers and other threads may call."""
        self._callbacks.append(callback)
        if self.requested:
            callback()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self()
            return
        try:
            log.warning("Second signal: ending at once.", extra={"fields": {"Signal": number}})
            logging.shutdown()
        finally:
            os._exit(128 + number)


class Server:
    """Serves a WSGI application on listening sockets until a stop is requested."""

    def __init__(
        self,
        application: WSGIApplication,
        sockets: Sequence[socket.socket],
        stop: StopRequest,
        limits: Limits,
        *,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        hooks: Hooks = Hooks(),  # noqa: B008 - it is frozen
        share: Share | None = None,
        tls: ContextSource | None = None,
        is_main: bool = True,
    ) -> None:
        """Serve `application` on `sockets`, which listen already, until `stop` is requested.

        `share` is this worker's part of the connections where others accept from the same
        sockets. With `tls` all clients speak TLS. Only the log of one that `is_main` has its
        drain and its end.
        """
        self._stop = stop
        self._limits = limits
        self._hooks = hooks
        self._share = share
        self._tls = tls
        self._is_main = is_main
        self._draining = False
        self._next_tick = 0.0
        self._poller = Poller()
        overload = OverloadLog()
        self._dispatcher = Dispatcher(limits, hooks.is_probe, overload)
        self._tunnels = Tunnels(limits.tunnels, timeouts.tunnel)
        buffered = Budget(limits.buffered_bytes, limits.body_bytes)
        heads = Budget(HEAD_MEMORY_BYTES + limits.header_bytes, limits.header_bytes)
        self._connections = Connections(
            connection_limit(limits),
            self._poller,
            {"MAX_BUFFERED_BYTES": buffered, "The memory for headers": heads},
            overload,
        )
        # Nothing of our own in responses, and X-Forwarded-* pass on as they came.
        adjustments = Adjustments(
            ident=None,
            clear_untrusted_proxy_headers=False,
            url_scheme="https" if tls else "http",
        )
        bodies = BodyStore(limits.body_bytes, BodyMemory(), buffered)
        self._shared = Shared(
            timeouts=timeouts,
            hooks=hooks,
            poller=self._poller,
            intake=Intake(adjustments, limits.header_bytes, bodies, heads),
            outboxes=OutboxStore(Pool(RESPONSE_MEMORY_BYTES), buffered),
            dispatcher=self._dispatcher,
            tunnels=self._tunnels,
            receive_later=self._connections.receive_later,
            forget=self._connections.forget,
        )
        self._listeners = [
            Listener(
                sock,
                self._accepted,
                self._connections.has_room,
                share=share,
                all_taken=lambda: self._dispatcher.threads.all_taken,
            )
            for sock in sockets
        ]
        self._sites = {
            listener: Site(
                application,
                adjustments,
                adjustments.server_name,
                listener.port,
                lambda: self._draining,
                self._tunnels,
            )
            for listener in self._listeners
        }
        stop.when_requested(self._poller.wake)

    @property
    def queued(self) -> int:
        """Requests that wait for a thread."""
        return self._dispatcher.threads.queued

    @property
    def connections(self) -> list[Connection]:
        """The connections that are open."""
        return list(self._connections)

    @property
    def tunnels_alive(self) -> bool:
        """Whether the thread of tunnels runs, if it is to run."""
        return self._tunnels.alive

    def run(self) -> None:
        """Serve until a stop is requested, then drain; returns at the end of that."""
        for listener in self._listeners:
            self._poller.add(listener)
        self._loop(lambda: self._stop.requested)
        self._hooks.begin_drain()
        self._draining = True
        for listener in self._listeners:
            listener.drain()
        if self._is_main:
            log.info("Draining", extra={"fields": {"Connections": len(self._connections)}})
        self._loop(lambda: False, self._limits.shutdown_delay)
        for listener in self._listeners:
            listener.accept_waiting()
            self._poller.remove(listener)
            listener.close()
        self._listeners.clear()
        drained = self._loop(self._drained, self._limits.shutdown_grace)
        if not drained:
            # Threads may all be held by a silent target: a few more for the queue.
            self._hooks.refuse()
            self._tunnels.end_all()
            self._dispatcher.threads.add(_REFUSING_THREADS)
            drained = self._loop(self._drained, _REFUSING_SECONDS)
        if not drained:
            self._cut_all()
        # Threads log the requests that were cut; some may be held by the target.
        self._dispatcher.end(_TICK_SECONDS)
        self._tunnels.stop()
        self._poller.close()
        if self._is_main:
            log.info("Stopped")

    def _accepted(self, listener: Listener, sock: socket.socket, client: Address) -> None:
        site = self._sites[listener]
        one = TLSSocket(sock, self._tls) if self._tls else ClientSocket(sock)
        self._connections.add(Connection(one, client, site, self._shared))

    def _loop(self, until: Callable[[], bool], seconds: float | None = None) -> bool:
        """Run the main loop until the condition holds; False if time ran out first."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not until():
            wait = _TICK_SECONDS
            if deadline is not None:
                wait = min(wait, deadline - time.monotonic())
                if wait <= 0:
                    return False
            for listener in self._listeners:
                self._poller.update(listener)
                if listener.is_paused():
                    wait = min(wait, DEFER_SECONDS)
            if not self._connections.has_room():
                wait = min(wait, _FULL_SECONDS)
            self._poller.poll(0 if self._connections.has_due else wait)
            self._connections.receive()
            self._connections.make_room()
            if self._share is not None:
                self._share.put(len(self._connections))
            self._tick()
        return True

    def _tick(self) -> None:
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + _TICK_SECONDS
            self._connections.check(now)
            for act in self._hooks.periodic:
                act()

    def _drained(self) -> bool:
        """Close what is idle; True when no connection is left."""
        for connection in self._connections:
            new = not connection.has_sent
            expected = (
                new and time.monotonic() - connection.progress.made_at < _FIRST_REQUEST_SECONDS
            )
            idle = connection.progress.stage in (Stage.HANDSHAKE, Stage.IDLE) and not expected
            if idle and not connection.has_unread_bytes():
                connection.close()
        return not len(self._connections)

    def _cut_all(self) -> None:
        busy = [each for each in self._connections if each.progress.stage is not Stage.LINGERING]
        if busy:
            message = "Cut the requests that outlived the shutdown grace."
            log.warning(message, extra={"fields": {"Count": len(busy)}})
        for connection in self._connections:
            connection.cut()
