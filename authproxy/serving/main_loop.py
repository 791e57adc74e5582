"""waitress in a main loop of our own, which can drain."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from waitress import wasyncore
from waitress.adjustments import Adjustments

from authproxy.http1.memory_body import BodyMemory
from authproxy.serving.acceptors import LEFT_SECONDS, Listener, Refused, TcpListener, UnixListener
from authproxy.serving.balance import Share
from authproxy.serving.connection import DEFAULT_TIMEOUTS, Connection, Timeouts
from authproxy.serving.limits import Limits, adjustments_for
from authproxy.serving.request_parser import Judge
from authproxy.serving.threads import Threads
from authproxy.serving.watched import Watched

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)

#: Longest wait of the main loop, and the interval of looking after timeouts.
_TICK_SECONDS = 1.0

#: How long a new connection is given to send its request while draining.
_FIRST_WORD_SECONDS = 1.0

#: After the grace: threads and seconds for telling queued requests so.
_REFUSING_THREADS = 4
_REFUSING_SECONDS = 2.0


class Lifecycle(Protocol):
    """What the application wants to know of the server's end."""

    def begin_drain(self) -> None: ...

    def refuse(self) -> None: ...


class StopRequest:
    """Turns signals into a request to stop; a second one ends at once."""

    def __init__(self) -> None:
        self.requested = False
        self.wake: Callable[[], None] = lambda: None

    def __call__(self) -> None:
        self.requested = True
        self.wake()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self()
            return
        try:
            log.warning("Second signal: ending at once.", extra={"fields": {"Signal": number}})
        finally:
            os._exit(128 + number)


class Server:
    """Serves a WSGI application on listening sockets until told to stop."""

    def __init__(
        self,
        application: WSGIApplication,
        sockets: Sequence[socket.socket],
        lifecycle: Lifecycle,
        stop: StopRequest,
        limits: Limits,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        refused: Refused | None = None,
        urgent: frozenset[str] = frozenset(),
        share: Share | None = None,
        judge: Judge | None = None,
    ) -> None:
        """`urgent` request targets are served also where all threads are taken."""
        self._lifecycle = lifecycle
        self._stop = stop
        self._limits = limits
        self._share = share
        self._watched = Watched()
        self._chores: list[Callable[[], None]] = []
        self._next_chores = 0.0
        self._threads = Threads(limits.threads)
        self._spare = Threads(1)
        adjustments = adjustments_for(limits)
        body_memory = BodyMemory()
        self._listeners = [self._listener(application, sock, adjustments) for sock in sockets]
        for listener in self._listeners:
            listener.timeouts = timeouts
            listener.body_memory = body_memory
            listener.limits = limits
            listener.spare = self._spare
            listener.urgent = urgent
            listener.share = share
            listener.refused = refused
            listener.judge = judge
        stop.wake = self._listeners[0].pull_trigger

    def _listener(
        self, application: WSGIApplication, sock: socket.socket, adjustments: Adjustments
    ) -> Listener:
        kind = UnixListener if sock.family == socket.AF_UNIX else TcpListener
        return kind(
            application,
            map=self._watched,
            _sock=sock,
            dispatcher=self._threads,
            adj=adjustments,
            sockinfo=(sock.family, sock.type, sock.proto, sock.getsockname()),
            bind_socket=False,
        )

    @property
    def queued(self) -> int:
        """Requests that wait for a thread."""
        return self._threads.queued

    def add_chore(self, chore: Callable[[], None]) -> None:
        """Have the main loop call this about once a second."""
        self._chores.append(chore)

    def end_when_closed(self, descriptor: int) -> None:
        """Also drain when the other end of this pipe closes."""
        _Lifeline(descriptor, self._watched, self._stop)

    def run(self) -> None:
        """Serve until a stop is requested, then drain; returns when all is over."""
        self._loop(lambda: self._stop.requested)
        self._lifecycle.begin_drain()
        for listener in self._listeners:
            listener.draining = True
        log.info("Draining", extra={"fields": {"Connections": len(self._connections())}})
        self._loop(lambda: False, self._limits.shutdown_delay)
        for listener in self._listeners:
            listener.accept_waiting()
            listener.stop_accepting()
        drained = self._loop(self._drained, self._limits.shutdown_grace)
        if not drained:
            # Threads may all be held by a silent target: a few more for the queue.
            self._lifecycle.refuse()
            self._threads.add(_REFUSING_THREADS)
            drained = self._loop(self._drained, _REFUSING_SECONDS)
        if not drained:
            self._cut()
        # Let them log what they have to; the target may hold some.
        self._threads.end(_TICK_SECONDS)
        self._spare.end(_TICK_SECONDS)
        for listener in self._listeners:
            listener.close_trigger()
        self._watched.close()
        log.info("Stopped")

    def _loop(self, until: Callable[[], bool], seconds: float | None = None) -> bool:
        """Turn the main loop until the condition holds; False if time ran out first."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not until():
            wait = _TICK_SECONDS
            if deadline is not None:
                wait = min(wait, deadline - time.monotonic())
                if wait <= 0:
                    return False
            if any(listener.paused for listener in self._listeners):
                wait = min(wait, LEFT_SECONDS)
            self._watched.turn(wait)
            self._listeners[0].make_room()
            if self._share is not None:
                self._share.put(len(self._watched))
            self._do_chores()
        return True

    def _connections(self) -> list[Connection]:
        return [held for held in self._watched.values() if isinstance(held, Connection)]

    def _do_chores(self) -> None:
        now = time.monotonic()
        if now >= self._next_chores:
            self._next_chores = now + _TICK_SECONDS
            for connection in self._connections():
                connection.end_if_stuck(now)
            for chore in self._chores:
                chore()

    def _drained(self) -> bool:
        """Close what is idle; True when no connection is left."""
        for connection in self._connections():
            new = not connection.has_spoken
            expected = new and time.time() - connection.creation_time < _FIRST_WORD_SECONDS
            if connection.idle and not expected and not connection.has_unread_bytes():
                connection.handle_close()
        return not self._connections()

    def _cut(self) -> None:
        busy = [held for held in self._connections() if held.lingering_since is None]
        if busy:
            message = "Cut the requests that outlived the shutdown grace."
            log.warning(message, extra={"fields": {"Count": len(busy)}})
        for connection in self._connections():
            connection.cut()


class _Lifeline(wasyncore.file_dispatcher):
    """Watches a pipe that nobody writes to: when it closes, its holder is dead."""

    def __init__(self, descriptor: int, map: dict[int, Any], stop: StopRequest) -> None:
        super().__init__(descriptor, map)
        self._stop = stop

    def writable(self) -> bool:
        return False

    def handle_read(self) -> None:
        self.handle_close()

    def handle_close(self) -> None:
        self.close()
        log.warning("The parent process is gone.")
        self._stop()
