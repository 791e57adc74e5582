"""The poller: waits for sockets, whose events are registered with the kernel once.

To ask every connection each time what it waits for costs the more, the more connections
there are, idle ones too. So the registration changes only when a connection's wants do.
"""

from __future__ import annotations

import logging
import selectors
import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from functools import partial

log = logging.getLogger(__name__)

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Watched(ABC):
    """A socket or another descriptor, and its handlers, which the poller's thread calls."""

    #: The events that are registered with the kernel; the poller sets it.
    interest = 0

    @abstractmethod
    def fileno(self) -> int: ...

    @abstractmethod
    def wants(self) -> int:
        """Return the events to wait for; none once it is closed."""

    def can_read(self) -> bool:
        """Tell whether it wants to read what is no longer in the kernel, which so has no event."""
        return False

    @abstractmethod
    def on_events(self, events: int) -> None:
        """Handle events."""

    def on_notify(self) -> None:  # noqa: B027  # most are never changed by other threads
        """Handle a call of `Poller.notify`."""

    @abstractmethod
    def fail(self) -> None:
        """Close: a handler has raised an unexpected error."""


class Poller:
    """Used by one thread, except `notify` and `wake`, which any thread may call."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._watched: set[Watched] = set()
        self._notified: deque[Watched] = deque()
        #: Those that can read without an event.
        self._readable: set[Watched] = set()
        self._woken = False
        self._wake_end, self._waker = socket.socketpair()
        for end in (self._wake_end, self._waker):
            end.setblocking(False)
        self._selector.register(self._wake_end, READ)

    def add(self, watched: Watched) -> None:
        """Watch it from now on."""
        watched.interest = 0
        self._watched.add(watched)
        self.update(watched)

    def remove(self, watched: Watched) -> None:
        """Stop watching it; called before its descriptor is closed."""
        self._watched.discard(watched)
        if watched.interest:
            self._selector.unregister(watched.fileno())
            watched.interest = 0

    def update(self, watched: Watched) -> None:
        """Register the events that it wants, if these have changed."""
        if watched.can_read():
            self._readable.add(watched)
        wanted, had = watched.wants(), watched.interest
        if wanted == had:
            return
        watched.interest = wanted
        if not had:
            self._selector.register(watched.fileno(), wanted, watched)
        elif wanted:
            self._selector.modify(watched.fileno(), wanted, watched)
        else:
            self._selector.unregister(watched.fileno())

    def notify(self, watched: Watched) -> None:
        """Have its `on_notify` called by the next `poll`, or by the one that waits."""
        self._notified.append(watched)
        self.wake()

    def wake(self) -> None:
        """End the wait, or the next one. Signal handlers may call it as well."""
        if not self._woken:
            self._woken = True
            try:
                self._waker.send(b"\0")
            except OSError:  # closed, or full, which also wakes
                pass

    def poll(self, seconds: float) -> None:
        """Wait for events and notifications, `seconds` at most, and call the handlers."""
        readable, self._readable = self._readable, set()
        for watched in readable:
            if watched.can_read():
                self.deal_with(watched, partial(watched.on_events, READ))
        for key, events in self._selector.select(0 if self._readable else max(0.0, seconds)):
            if (watched := key.data) is None:
                self._wake_end.recv(64)
            elif watched.interest:  # else it was closed by a handler before
                try:
                    watched.on_events(events)
                    self.update(watched)
                except Exception:  # noqa: BLE001  # logged there
                    _log_bug(watched)
        self._woken = False  # before the queue is read: a later `notify` wakes again
        while self._notified:
            watched = self._notified.popleft()
            self.deal_with(watched, watched.on_notify)

    def deal_with(self, watched: Watched, act: Callable[[], None]) -> None:
        """Call `act`, if it is still watched, and register the events that it wants then."""
        if watched not in self._watched:
            return
        try:
            act()
            self.update(watched)
        except Exception:  # noqa: BLE001  # logged there
            _log_bug(watched)

    def close(self) -> None:
        """Close the poller; the owners of what was watched close that."""
        self._selector.close()
        self._wake_end.close()
        self._waker.close()


def _log_bug(watched: Watched) -> None:
    """Log a bug, which must end neither the loop nor other connections, and close its own."""
    log.exception("Unexpected error with a connection.")
    watched.fail()
