"""What the main loop watches, kept in step with the kernel's list of it.

waitress asks every connection at each turn what it waits for and tells the
kernel all of it anew, and each response ends with a write to a pipe that makes
it do so: both cost the more, the more connections there are, idle ones too.
Here the kernel keeps the list, and a connection is asked when something
happened to it.
"""

from __future__ import annotations

import select
from collections import deque
from typing import Any

from waitress import wasyncore


class Watched(dict[int, Any]):
    """waitress's map from descriptors to what serves them.

    For one thread, but for `touch`, which any may call. A connection has
    `tells_of_changes`; all else is asked at each turn.
    """

    def __init__(self) -> None:
        super().__init__()
        has_epoll = hasattr(select, "epoll")
        self._kernel: Any = select.epoll() if has_epoll else select.poll()
        self._unit = 1 if has_epoll else 1000
        self._asked_always: dict[int, Any] = {}
        self._touched: deque[Any] = deque()

    def __setitem__(self, descriptor: int, served: Any) -> None:
        super().__setitem__(descriptor, served)
        served.interest = 0
        if getattr(served, "tells_of_changes", False):
            self._touched.append(served)
        else:
            self._asked_always[descriptor] = served

    def __delitem__(self, descriptor: int) -> None:
        served: Any = self.pop(descriptor)
        self._asked_always.pop(descriptor, None)
        if served.interest:
            self._kernel.unregister(descriptor)

    def touch(self, served: Any) -> None:
        """Have this one asked at the next turn."""
        self._touched.append(served)

    def turn(self, seconds: float) -> None:
        """Wait so long at most for something to happen, and have it dealt with."""
        while self._touched:
            self._ask(self._touched.popleft())
        for served in self._asked_always.values():
            self._ask(served)
        for descriptor, events in self._kernel.poll(seconds * self._unit):
            served = self.get(descriptor)
            if served is not None:
                wasyncore.readwrite(served, events)
                self._ask(served)

    def close(self) -> None:
        """Close all that is watched, and stop watching."""
        wasyncore.close_all(self)
        if hasattr(self._kernel, "close"):
            self._kernel.close()

    def _ask(self, served: Any) -> None:
        """Tell the kernel what it waits for; asked again, as another thread may change it."""
        descriptor = served._fileno
        while self._holds(served) and (wanted := interest(served)) != served.interest:
            had, served.interest = served.interest, wanted
            if not had:
                self._kernel.register(descriptor, wanted)
            elif wanted:
                self._kernel.modify(descriptor, wanted)
            else:
                self._kernel.unregister(descriptor)

    def _holds(self, served: Any) -> bool:
        """Whether it is watched still; its descriptor may be another's by now."""
        return bool(self.get(served._fileno) is served)


def interest(served: Any) -> int:
    """Return the events that this one waits for."""
    wanted: int = select.POLLIN if served.readable() else 0
    if served.writable() and not served.accepting:
        wanted |= select.POLLOUT
    return wanted
