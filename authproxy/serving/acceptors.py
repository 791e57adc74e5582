"""The listening sockets in the main loop: what they accept, and who serves it."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

from waitress import wasyncore
from waitress.server import BaseWSGIServer, TcpWSGIServer, UnixWSGIServer

from authproxy.errors import Overloaded
from authproxy.http1.memory_body import BodyMemory
from authproxy.serving.balance import Share
from authproxy.serving.connection import DEFAULT_TIMEOUTS, Connection
from authproxy.serving.limits import Limits
from authproxy.serving.request_parser import Judge
from authproxy.serving.threads import Threads

log = logging.getLogger(__name__)

#: How long a connection is left to the other workers.
LEFT_SECONDS = 0.05

#: How long nothing is accepted where the process has no descriptors left.
_PAUSE_SECONDS = 1.0

#: After how long a sender that found the queue full may try again, and how
#: often the log says that there are such.
_OVERLOADED_RETRY_SECONDS = 1
_SILENT_SECONDS = 10.0

#: Where there is room for no more connections: the share of them that is closed
#: at a time, those that have been idle longest.
_CLOSED_SHARE = 1 / 32

#: How long one has to have been idle for that: a new one may be about to speak.
_IDLE_SECONDS = 0.25

#: How long they are not looked for where none was found.
_ALL_BUSY_SECONDS = 0.1

#: Told of each request that never reached the application: method, target and user
#: agent, and the status, code and message that it was answered with.
Refused = Callable[[str, str, str, int, str, str], None]


class Listener(BaseWSGIServer):
    """One listening socket."""

    logger = log
    channel_class = Connection
    draining = False
    timeouts = DEFAULT_TIMEOUTS
    body_memory: BodyMemory
    refused: Refused | None = None
    judge: Judge | None = None
    limits: Limits
    #: A thread that never waits for the target, and the GET requests that it
    #: serves: a probe is answered however many requests hang.
    spare: Threads
    urgent: frozenset[str] = frozenset()
    #: Where other workers accept from the same socket.
    share: Share | None = None
    _paused_until = 0.0
    _left_over_until = 0.0
    _silent_until = 0.0
    _all_busy_until = 0.0
    _trigger_closed = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # A signal handler may pull while the main thread closes: re-entrant.
        self._trigger_lock = threading.RLock()
        super().__init__(*args, **kwargs)

    def maintenance(self, now: float) -> None:
        """Left to `Server`, which goes on when this listener is closed."""

    def readable(self) -> bool:
        return not self.paused and bool(super().readable())

    @property
    def paused(self) -> bool:
        """Whether nothing is accepted at the moment."""
        if self.share is not None and not self.draining and self.share.leaves_to_others():
            return True
        return time.monotonic() < max(self._paused_until, self._all_busy_until)

    def handle_accept(self) -> None:
        """Accept a connection, unless another worker should have it."""
        if not self._leave_to_others():
            super().handle_accept()

    def make_room(self) -> None:
        """Close connections that have been idle longest where no further one could be accepted.

        Else clients that keep connections and say nothing would keep all others out.
        """
        limit = self.adj.connection_limit
        if len(self._map) < limit or time.monotonic() < self._all_busy_until:
            return
        before = time.monotonic() - _IDLE_SECONDS
        held = [each for each in self._map.values() if isinstance(each, Connection)]
        idle = [each for each in held if each.idle and each.progress_at < before]
        idle.sort(key=lambda connection: connection.progress_at)
        silent = (each for each in idle if not each.has_unread_bytes())
        closed = list(islice(silent, 1 + int(limit * _CLOSED_SHARE)))
        for connection in closed:
            connection.handle_close()
        if not closed:
            self._all_busy_until = time.monotonic() + _ALL_BUSY_SECONDS
        self._warn(f"{limit} connections are all there is room for", IdleClosed=len(closed))

    def _leave_to_others(self) -> bool:
        """Leave a connection alone for a moment where it would be served sooner elsewhere.

        For a moment only: the other workers may have died, or be busy too.
        """
        now = time.monotonic()
        left_over, self._left_over_until = now < self._left_over_until, 0.0
        if self.share is None or self.draining or left_over:
            return False
        if not self.task_dispatcher.all_taken and not self.share.is_exceeded():
            return False
        self._paused_until = now + LEFT_SECONDS
        # If it is still there right after that, nobody else wanted it.
        self._left_over_until = now + 2 * LEFT_SECONDS
        return True

    def add_task(self, connection: Connection) -> None:
        """Have a request served; or refused, where too many wait."""
        request = connection.requests[0]
        is_get = getattr(request, "command", "") in ("GET", "HEAD")
        if request.error or (is_get and request.request_uri in self.urgent):
            self.spare.add_task(connection)
        elif not self.task_dispatcher.all_taken or self.task_dispatcher.queued < self.limits.queue:
            self.task_dispatcher.add_task(connection)
        else:
            problem = f"{self.limits.queue} requests wait for one of {self.limits.threads} threads"
            request.error = Overloaded(problem, retry_after=_OVERLOADED_RETRY_SECONDS)
            self.spare.add_task(connection)
            self._warn(problem)

    def _warn(self, problem: str, **more: object) -> None:
        now = time.monotonic()
        if now >= self._silent_until:
            self._silent_until = now + _SILENT_SECONDS
            log.warning("Overloaded", extra={"fields": {"Problem": problem, **more}})

    def accept(self) -> Any:
        try:
            return super().accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                # The connection stays in the queue: trying again at once would spin.
                log.warning("Cannot accept.", extra={"fields": {"Problem": error.strerror}})
                self._paused_until = time.monotonic() + _PAUSE_SECONDS
            raise

    def accept_waiting(self) -> None:
        """Accept what the kernel has queued; closing the socket would reset it."""
        self._paused_until = self._all_busy_until = 0.0
        while self.readable():
            held = len(self._map)
            self.handle_accept()
            if len(self._map) == held:
                return

    def touch(self, connection: Connection) -> None:
        """Have the main loop look at a connection that changed in another thread."""
        self._map.touch(connection)
        self.pull_trigger()

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


class TcpListener(Listener, TcpWSGIServer):
    def fix_addr(self, addr: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return an IPv4 client's address as it is written, also on a socket for both kinds."""
        return (str(addr[0]).removeprefix("::ffff:"), *addr[1:])


class UnixListener(Listener, UnixWSGIServer):
    def fix_addr(self, addr: object) -> tuple[str, None]:
        return ("", None)  # no address, so that X-Forwarded-For gains no invented one
