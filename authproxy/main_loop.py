"""waitress in a main loop of our own, which can drain."""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import BaseWSGIServer, TcpWSGIServer, UnixWSGIServer
from waitress.task import ThreadedTaskDispatcher

from authproxy.connection import DEFAULT_TIMEOUTS, Connection, Timeouts
from authproxy.limits import Limits, adjustments_for

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


#: Told of each request that never reached the application: method, target, user
#: agent and the status that it was answered with.
Refused = Callable[[str, str, str, int], None]


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


class _Listener(BaseWSGIServer):
    """One listening socket."""

    logger = log
    channel_class = Connection
    draining = False
    timeouts = DEFAULT_TIMEOUTS
    refused: Refused | None = None
    _paused_until = 0.0
    _trigger_closed = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # A signal handler may pull while the main thread closes: re-entrant.
        self._trigger_lock = threading.RLock()
        super().__init__(*args, **kwargs)

    def maintenance(self, now: float) -> None:
        """Left to `Server`, which goes on when this listener is closed."""

    def readable(self) -> bool:
        return time.monotonic() >= self._paused_until and bool(super().readable())

    def accept(self) -> Any:
        try:
            return super().accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                # The connection stays in the queue: trying again at once would spin.
                log.warning("Cannot accept.", extra={"fields": {"Problem": error.strerror}})
                self._paused_until = time.monotonic() + _TICK_SECONDS
            raise

    def accept_waiting(self) -> None:
        """Accept what the kernel has queued; closing the socket would reset it."""
        while self.readable():
            held = len(self._map)
            self.handle_accept()
            if len(self._map) == held:
                return

    def stop_accepting(self) -> None:
        """Close the socket, but not the trigger that connections still pull."""
        wasyncore.dispatcher.close(self)

    def pull_trigger(self) -> None:
        with self._trigger_lock:
            if not self._trigger_closed:
                super().pull_trigger()

    def close_trigger(self) -> None:
        """From now on pulling it does nothing; its descriptor may be another's soon."""
        with self._trigger_lock:
            self._trigger_closed = True
            self.trigger.close()


class _TcpListener(_Listener, TcpWSGIServer):
    def fix_addr(self, addr: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return an IPv4 client's address as it is written, also on a socket for both kinds."""
        return (str(addr[0]).removeprefix("::ffff:"), *addr[1:])


class _UnixListener(_Listener, UnixWSGIServer):
    def fix_addr(self, addr: object) -> tuple[str, None]:
        return ("", None)  # no address, so that X-Forwarded-For gains no invented one


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
    ) -> None:
        self._lifecycle = lifecycle
        self._stop = stop
        self._limits = limits
        self._map: dict[int, Any] = {}
        self._chores: list[Callable[[], None]] = []
        self._next_chores = 0.0
        # Its one line is about the depth of the queue, at each request that
        # has to wait: noise.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._dispatcher = ThreadedTaskDispatcher()
        self._dispatcher.logger = log
        self._dispatcher.set_thread_count(limits.threads)
        adjustments = adjustments_for(limits)
        self._listeners = [self._listener(application, sock, adjustments) for sock in sockets]
        for listener in self._listeners:
            listener.timeouts = timeouts
            listener.refused = refused
        stop.wake = self._listeners[0].pull_trigger

    def _listener(
        self, application: WSGIApplication, sock: socket.socket, adjustments: Adjustments
    ) -> _Listener:
        kind = _UnixListener if sock.family == socket.AF_UNIX else _TcpListener
        return kind(
            application,
            map=self._map,
            _sock=sock,
            dispatcher=self._dispatcher,
            adj=adjustments,
            sockinfo=(sock.family, sock.type, sock.proto, sock.getsockname()),
            bind_socket=False,
        )

    def add_chore(self, chore: Callable[[], None]) -> None:
        """Have the main loop call this about once a second."""
        self._chores.append(chore)

    def end_when_closed(self, descriptor: int) -> None:
        """Also drain when the other end of this pipe closes."""
        _Lifeline(descriptor, self._map, self._stop)

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
            self._dispatcher.set_thread_count(self._limits.threads + _REFUSING_THREADS)
            drained = self._loop(self._drained, _REFUSING_SECONDS)
        if not drained:
            self._cut()
        self._end_threads()
        for listener in self._listeners:
            listener.close_trigger()
        wasyncore.close_all(self._map)
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
            wasyncore.loop(timeout=wait, use_poll=True, map=self._map, count=1)
            self._do_chores()
        return True

    def _connections(self) -> list[Connection]:
        return [held for held in self._map.values() if isinstance(held, Connection)]

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

    def _end_threads(self) -> None:
        """Let the threads end, and log what they have to; the target may hold some."""
        self._dispatcher.set_thread_count(0)
        ended = self._dispatcher.thread_exit_cv
        with ended:
            ended.wait_for(lambda: not self._dispatcher.threads, _TICK_SECONDS)

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
