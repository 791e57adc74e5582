"""Waits for sockets: the kernel keeps the list of them, and each says when its wishes change.

Asking every connection at each turn what it waits for, and telling the kernel all of it
anew, costs the more, the more connections there are, idle ones too.
"""

from __future__ import annotations

import logging
import selectors
import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger(__name__)

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Watched(Protocol):
    """What is watched: a socket or another descriptor, and what is done about it."""

    #: The events that are registered with the kernel; the poller's own note.
    interest: int

    def fileno(self) -> int: ...

    def wants(self) -> int:
        """Return the events to wait for; none once it is closed."""

    def on_events(self, events: int) -> None:
        """Deal with events. Like all others here, in the poller's thread."""

    def attend(self) -> None:
        """Look at what another thread has changed."""

    def fail(self) -> None:
        """One of these has raised what it should not: give up what it is about."""


class Poller:
    """For one thread, but for `touch` and `wake`, which any may call."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._watched: set[Watched] = set()
        self._touched: deque[Watched] = deque()
        self._woken = False
        self._wake_end, self._waker = socket.socketpair()
        for end in (self._wake_end, self._waker):
            end.setblocking(False)
        self._selector.register(self._wake_end, READ)

    def add(self, watched: Watched) -> None:
        """Watch this one from now on."""
        watched.interest = 0
        self._watched.add(watched)
        self.update(watched)

    def remove(self, watched: Watched) -> None:
        """Watch it no more; to be called before its descriptor is closed."""
        self._watched.discard(watched)
        if watched.interest:
            self._selector.unregister(watched.fileno())
            watched.interest = 0

    def update(self, watched: Watched) -> None:
        """Tell the kernel what it wants, if that has changed; nothing, if it is closed."""
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

    def touch(self, watched: Watched) -> None:
        """Have this one attend to what has changed, at the next turn."""
        self._touched.append(watched)
        self.wake()

    def wake(self) -> None:
        """End the wait, or the next one. Signal handlers may call it as well."""
        if not self._woken:
            self._woken = True
            try:
                self._waker.send(b"\0")
            except OSError:  # closed, or full, which also wakes
                pass

    def turn(self, seconds: float) -> None:
        """Wait so long at most for something to happen, and have it dealt with."""
        for key, events in self._selector.select(max(0.0, seconds)):
            watched: Watched | None = key.data
            if watched is None:
                self._wake_end.recv(64)
            elif watched.interest:  # else it was closed in this turn
                try:
                    watched.on_events(events)
                    self.update(watched)
                except Exception:  # noqa: BLE001  # logged there
                    _log_bug(watched)
        self._woken = False  # before they are looked at: who is touched from now on wakes again
        while self._touched:
            watched = self._touched.popleft()
            self.deal_with(watched, watched.attend)

    def deal_with(self, watched: Watched, act: Callable[[], None]) -> None:
        """Have it act, if it is still watched, and tell the kernel what it wants then."""
        if watched not in self._watched:
            return
        try:
            act()
            self.update(watched)
        except Exception:  # noqa: BLE001  # logged there
            _log_bug(watched)

    def close(self) -> None:
        """Stop; what was watched is closed by whom it belongs to."""
        self._selector.close()
        self._wake_end.close()
        self._waker.close()


def _log_bug(watched: Watched) -> None:
    """A bug that one connection brings about must end neither the loop nor the others."""
    log.exception("Unexpected error with a connection.")
    watched.fail()
