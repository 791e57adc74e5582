"""One listening socket: what it accepts, and when it defers accept to other workers."""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections.abc import Callable

from authproxy.server.balance import Share
from authproxy.server.exchange import Address
from authproxy.server.poller import READ, Watched

log = logging.getLogger(__name__)

#: How long accept is deferred to other workers.
DEFER_SECONDS = 0.05

#: How long nothing is accepted where the process has no descriptors left.
_PAUSE_SECONDS = 1.0

#: Connections accepted at a time. Where there are other workers: one, so that they are
#: shared evenly.
_ACCEPTED_AT_ONCE = 16


class Listener(Watched):
    """Accepts connections from one socket, as long as there is room for them."""

    def __init__(
        self,
        sock: socket.socket,
        accepted: Callable[[Listener, socket.socket, Address], None],
        has_room: Callable[[], bool],
        *,
        share: Share | None = None,
        all_taken: Callable[[], bool] = lambda: False,
    ) -> None:
        """`accepted` is called with each connection; `has_room`: there may be another.

        `share`: others accept from the same socket; `all_taken`: a request would wait here.
        """
        self._socket = sock
        self._is_unix = sock.family == socket.AF_UNIX
        self._accepted = accepted
        self._has_room = has_room
        self._share = share
        self._all_taken = all_taken
        self._draining = False
        self._paused_until = 0.0
        self._accepts_until = 0.0

    @property
    def port(self) -> str:
        """The port that it listens on, as text; of a Unix socket its path."""
        address = self._socket.getsockname()
        return str(address if self._is_unix else address[1])

    def fileno(self) -> int:
        return self._socket.fileno()

    def wants(self) -> int:
        return 0 if self.is_paused() or not self._has_room() else READ

    def is_paused(self) -> bool:
        """Tell whether nothing is to be accepted at the moment, though there is room."""
        if self._share is not None and not self._draining and self._share.defers_accept():
            return True
        return time.monotonic() < self._paused_until

    def fail(self) -> None:
        """Try again later."""
        self._paused_until = time.monotonic() + _PAUSE_SECONDS

    def on_events(self, events: int) -> None:
        """Accept what has come, unless another worker should."""
        # What was true before the wait need not be: another worker may have its token by now.
        if self.is_paused() or self._defer():
            return
        at_once = 1 if self._share is not None else _ACCEPTED_AT_ONCE
        while at_once and self._has_room() and self._accept():
            at_once -= 1

    def drain(self) -> None:
        """From now on accept whatever comes."""
        self._draining = True

    def accept_waiting(self) -> None:
        """Accept what the kernel has queued; closing the socket would reset it."""
        while self._has_room() and self._accept():
            pass

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> bool:
        try:
            sock, address = self._socket.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                # The connection stays in the queue: trying again at once would spin.
                log.warning("Cannot accept.", extra={"fields": {"Problem": error.strerror}})
                self._paused_until = time.monotonic() + _PAUSE_SECONDS
            return False  # else another worker was quicker, or the client has gone again
        sock.setblocking(False)
        try:
            if not self._is_unix:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:  # it has gone again, which macOS reports only here
            sock.close()
        else:
            self._accepted(self, sock, self._client(address))
        return True

    def _client(self, address: tuple[str, int] | str) -> Address:
        """Return an IPv4 client's address as it is written, also on a socket for both kinds."""
        if self._is_unix:
            return "", None  # no address, so that X-Forwarded-For gains no invented one
        return str(address[0]).removeprefix("::ffff:"), int(address[1])

    def _defer(self) -> bool:
        """Defer accept where another worker would serve the connection sooner.

        For a moment only: the other workers may have died, or be busy too.
        """
        now = time.monotonic()
        deferred_before, self._accepts_until = now < self._accepts_until, 0.0
        if self._share is None or self._draining or deferred_before:
            return False
        if not self._all_taken() and not self._share.is_exceeded():
            return False
        self._paused_until = now + DEFER_SECONDS
        # If it is still there right after that, no other worker has accepted it.
        self._accepts_until = now + 2 * DEFER_SECONDS
        return True
