"""All connections of a server: which is next to receive, and which is closed to make room."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import chain, islice

from authproxy.server.budget import Budget
from authproxy.server.connection import Connection
from authproxy.server.poller import Poller
from authproxy.server.progress import GRACE_SECONDS, Stage, slowest
from authproxy.server.threads import OverloadLog

#: Where there is no room: the share of connections that is closed at a time.
_CLOSED_SHARE = 1 / 32

#: How long it has to have been idle for that: a new one may be about to send.
_IDLE_SECONDS = 0.25

#: How long none is looked for again where none was found.
_ALL_BUSY_SECONDS = 0.1

#: How long bodies are received; then ordinary heads, and so probes, come first again.
_SLICE_SECONDS = 0.02


class Connections:
    """The connections that are open, `limit` of them at most."""

    def __init__(
        self, limit: int, poller: Poller, budgets: Mapping[str, Budget], overload: OverloadLog
    ) -> None:
        """`budgets` are those that connections take room in, by the name of their setting."""
        self._limit = limit
        self._poller = poller
        self._budgets = budgets
        self._overload = overload
        self._open: set[Connection] = set()
        self._all_busy_until = 0.0
        self._scarce_since: dict[str, float] = {}
        #: Connections that are to receive; those whose bytes take long come second.
        self._due: deque[Connection] = deque()
        self._costly: deque[Connection] = deque()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._open))

    def add(self, connection: Connection) -> None:
        self._open.add(connection)
        self._poller.add(connection)

    def forget(self, connection: Connection) -> None:
        """Remove a closed one."""
        self._open.discard(connection)

    def has_room(self) -> bool:
        """Tell whether there may be another."""
        return len(self._open) < self._limit

    # Receiving.

    def receive_later(self, connection: Connection) -> None:
        """Queue it to receive."""
        (self._costly if connection.is_costly else self._due).append(connection)

    @property
    def has_due(self) -> bool:
        """Whether something could be received at once."""
        return bool(self._due or self._costly)

    def receive(self) -> None:
        """Receive bodies, and heads that take long, for a while."""
        until = time.monotonic() + _SLICE_SECONDS if self.has_due else 0.0
        for lane in (self._due, self._costly):
            while lane:
                connection = lane.popleft()
                self._poller.deal_with(connection, connection.receive)
                if time.monotonic() >= until:
                    break

    # Giving way.

    def check(self, now: float) -> None:
        """Close those that have timed out; called about once a second."""
        for connection in self:
            connection.check(now)
        for name, budget in self._budgets.items():
            if not budget.scarce:
                self._scarce_since.pop(name, None)
            elif now - self._scarce_since.setdefault(name, now) >= GRACE_SECONDS:
                self._relieve(name, now)

    def _relieve(self, name: str, now: float) -> None:
        """Close the slowest of those that hold room in a budget."""
        slow = (each for each in self._slow(now) if each.holds_room)
        closed = list(islice(slow, self._share()))
        for connection in closed:
            connection.give_way()
        self._overload.warn(f"{name} leaves no room for more", SlowClosed=len(closed))

    def make_room(self) -> None:
        """Close connections where no further one could be accepted.

        First those that have been idle longest, then those that only linger, then the slowest:
        else clients that keep connections and send little would keep all others out.
        """
        now = time.monotonic()
        if self.has_room() or now < self._all_busy_until:
            return
        giving_way = chain(self._idle(now), self._at(Stage.LINGERING), self._slow(now))
        closed = list(islice(giving_way, self._share()))
        idle_closed = sum(connection.progress.stage is Stage.IDLE for connection in closed)
        for connection in closed:
            connection.give_way()
        if not closed:
            self._all_busy_until = now + _ALL_BUSY_SECONDS
        self._overload.warn(
            f"{self._limit} connections are all there is room for",
            IdleClosed=idle_closed,
            SlowClosed=len(closed) - idle_closed,
        )

    def _at(self, stage: Stage) -> Iterator[Connection]:
        return (each for each in self if each.progress.stage is stage)

    def _idle(self, now: float) -> Iterator[Connection]:
        before = now - _IDLE_SECONDS
        idle = [each for each in self._at(Stage.IDLE) if each.progress.at < before]
        idle.sort(key=lambda connection: connection.progress.at)
        return (each for each in idle if not each.has_unread_bytes())

    def _slow(self, now: float) -> Iterator[Connection]:
        waiting = (each for each in self if each.progress.stage.waits_for_client)
        yield from slowest(((each, each.progress.pace) for each in waiting), now)

    def _share(self) -> int:
        return 1 + int(self._limit * _CLOSED_SHARE)
