"""Tunnels: connections of clients that are joined with others when the protocol has changed.

One thread moves the bytes of all, as they take none of the threads for requests and may be silent
for hours. It begins with the first.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from authproxy.server.poller import Poller
from authproxy.server.tunnel import Tunnel
from authproxy.tunnel import Switched

log = logging.getLogger(__name__)

#: The interval at which tunnels are checked for silence, and for peers that have gone.
_TICK_SECONDS = 1.0


class Tunnels:
    """The tunnels of a server, `limit` of them at most. Any thread may call its methods."""

    def __init__(self, limit: int, silence: float) -> None:
        """One in which no byte moves for `silence` seconds is ended."""
        self._limit = limit
        self._silence = silence
        self._lock = threading.Lock()
        self._taken = 0
        self._thread: threading.Thread | None = None
        self._poller: Poller
        #: What the thread is to do next.
        self._due: deque[Callable[[], None]] = deque()
        #: Those that have begun; the thread's, as is whether all are to end.
        self._open: set[Tunnel] = set()
        self._ending = self._stopped = False

    def take(self) -> bool:
        """Take one of them; False where none is left. The first starts the thread."""
        with self._lock:
            free = self._taken < self._limit
            if free and self._thread is None:
                self._start()
            self._taken += free
            return free

    def _start(self) -> None:
        self._poller = Poller()
        thread = threading.Thread(target=self._run, name="tunnels", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self._poller.close()
            raise
        self._thread = thread

    @property
    def alive(self) -> bool:
        """Whether the thread runs, if it is to run."""
        return self._thread is None or self._stopped or self._thread.is_alive()

    def give_back(self) -> None:
        """Give back what `take` took."""
        with self._lock:
            self._taken -= 1

    def begin(self, tunnel: Tunnel) -> None:
        """Have the bytes of one that was taken moved from now on."""
        self._do(partial(self._begin, tunnel))

    def end(self, tunnel: Tunnel) -> None:
        """End one that has begun, soon."""
        self._do(partial(tunnel.end, "drain"))

    def end_all(self) -> None:
        """End all, soon, and those that are still to begin at once when they do."""
        self._do(self._end_all)

    def stop(self) -> None:
        """End all, and the thread; waits for that a little."""
        self._do(self._stop)
        if self._thread is not None:
            self._thread.join(_TICK_SECONDS)

    def _do(self, act: Callable[[], None]) -> None:
        self._due.append(act)
        if self._thread is not None:
            self._poller.wake()

    # In the thread.

    def _run(self) -> None:
        next_check = 0.0
        while not self._stopped:
            self._poller.poll(_TICK_SECONDS if self._open else self._silence)
            now = time.monotonic()
            if now >= next_check:
                next_check = now + _TICK_SECONDS
                self._due += [partial(each.check, now, self._silence) for each in self._open]
            while self._due:
                act = self._due.popleft()
                try:
                    act()
                except Exception:
                    log.exception("Unexpected error with a tunnel.")
        self._poller.close()

    def _begin(self, tunnel: Tunnel) -> None:
        self._open.add(tunnel)
        try:
            tunnel.start(self._poller, self._open.discard)
        except Exception:
            log.exception("Unexpected error with a tunnel.")
            tunnel.end("client")
        if self._ending:
            tunnel.end("drain")

    def _end_all(self) -> None:
        self._ending = True
        for tunnel in list(self._open):
            tunnel.end("drain")

    def _stop(self) -> None:
        self._stopped = True
        self._end_all()


class Offer:
    """The tunnel that the application may have for one request; see `authproxy.tunnel`."""

    def __init__(self, tunnels: Tunnels) -> None:
        self._tunnels = tunnels
        self._taken = False
        self._tunnel: Tunnel | None = None
        #: Whether the application would have changed the protocol; and what the connection
        #: speaks behind the response, once it is joined.
        self.asked = False
        self.protocol = ""

    def take(self) -> bool:
        self.asked = True
        self._taken = self._taken or self._tunnels.take()
        return self._taken

    def join(self, switched: Switched) -> None:
        self.protocol = switched.protocol
        self._tunnel = Tunnel(switched, self._tunnels.give_back)

    def settle(self, *, failed: bool) -> Tunnel | None:
        """Return the tunnel that is to begin, if any; the response has ended, or `failed`."""
        tunnel = self._tunnel
        if tunnel is None:
            if self._taken:
                self._tunnels.give_back()
        elif failed:
            tunnel.abandon()
            return None
        return tunnel
