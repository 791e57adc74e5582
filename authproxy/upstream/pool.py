"""The connections to one target that are kept for the next request, and which may be used again."""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Callable
from typing import NamedTuple
from weakref import WeakKeyDictionary

from urllib3.connection import HTTPConnection

from authproxy.upstream.unsolicited import received

log = logging.getLogger(__name__)

#: Seconds that a connection rests after a response: surplus bytes come right behind it, if
#: any do, and until the next request is sent they can be told from its response.
REST_SECONDS = 0.002

#: Seconds for which no connection is kept after unsolicited bytes.
DISTRUST_SECONDS = 600.0

#: What some servers and load balancers send before they close an idle connection
#: (golang/go#32310): it ends the connection, and says nothing of other responses.
_IDLE_TIMEOUT = re.compile(rb"HTTP/1\.[01] 408")


class _Idle(NamedTuple):
    """A connection, the time since which it is idle, and from which it is not used again."""

    since: float
    until: float
    connection: HTTPConnection


class ConnectionPool:
    """Idle connections to one target, `size` at most.

    One is used again that has been idle for less than `idle_seconds`, and open
    for less than `max_age` seconds: what stands between forgets idle
    connections, and a name may lead elsewhere meanwhile. Those that are too old
    are closed when the next is taken or given back.

    After unsolicited bytes each request has a connection of its own for
    DISTRUST_SECONDS: where responses and requests went apart once, the next
    client may get what was another's.
    """

    def __init__(
        self,
        target: str,
        size: int,
        *,
        rest: float = REST_SECONDS,
        idle_seconds: float = math.inf,
        max_age: float = math.inf,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target = target
        self._size = size
        self._rest = rest
        self._idle_seconds = idle_seconds
        self._max_age = max_age
        self._now = now
        self._lock = threading.Lock()
        #: The longest idle first.
        self._idle: list[_Idle] = []
        #: No idle connection is too old before that.
        self._next_overdue = math.inf
        self._opened: WeakKeyDictionary[HTTPConnection, float] = WeakKeyDictionary()
        self._distrusted_until: float | None = None
        self._closed = False

    def take(self) -> HTTPConnection | None:
        """Return a connection that may be used again; None where a new one is to be opened.

        It belongs to the caller until `give_back`. Where none has rested yet,
        another is to be opened, so that there are enough to take turns; one that
        has not rested is waited for only where the pool is full.
        """
        self._close_overdue()
        while (chosen := self._choose()) is not None:
            connection, wait = chosen
            if self._may_be_used(connection, wait):
                return connection
            connection.close()
        return None

    def opened(self, connection: HTTPConnection) -> None:
        """Note that a connection is open from now on; else its age counts from its first use."""
        with self._lock:
            self._opened[connection] = self._now()

    def give_back(self, connection: HTTPConnection) -> None:
        """Keep a connection whose response has been read whole, or close it."""
        self._close_overdue()
        with self._lock:
            now = self._now()
            until = min(
                now + self._idle_seconds,
                self._opened.setdefault(connection, now) + self._max_age,
            )
            keep = (
                self._trusted()
                and not self._closed
                and len(self._idle) < self._size
                and now < until
            )
            if keep:
                self._idle.append(_Idle(now, until, connection))
                self._next_overdue = min(self._next_overdue, until)
        if not keep:
            connection.close()

    def suspect(self) -> None:
        """Close the idle connections: one of their age turned out to be dead in use."""
        self._close_idle()

    def distrust(self) -> None:
        """Keep no connection for a while: the target sent unsolicited bytes."""
        with self._lock:
            trusted = self._distrusted_until is None
            self._distrusted_until = self._now() + DISTRUST_SECONDS
        self._close_idle()
        if trusted:
            fields = {"Target": self._target, "Seconds": round(DISTRUST_SECONDS)}
            log.warning(
                "Unsolicited bytes from the target, its connections are not used again",
                extra={"fields": fields},
            )

    def close(self) -> None:
        """Close the idle connections, and those in use when they are given back."""
        self._closed = True
        self._close_idle()

    def _choose(self) -> tuple[HTTPConnection, float] | None:
        """Take out the last used that has rested, with the seconds to wait for it.

        Connections that are not needed are left to the target's idle timeout that way.
        """
        with self._lock:
            if not self._idle:
                return None
            now = self._now()
            at = len(self._idle) - 1
            while at and now - self._idle[at].since < self._rest:
                at -= 1
            idle = self._idle[at]
            wait = max(0.0, idle.since + self._rest - now)
            if wait and (len(self._idle) < self._size or now + wait >= idle.until):
                return None
            del self._idle[at]
            return idle.connection, wait

    def _may_be_used(self, connection: HTTPConnection, wait: float) -> bool:
        """Whether an idle connection is open, and nothing came on it unsolicited."""
        try:
            data = received(connection.sock, wait)
        except OSError:
            return False
        if data and not _IDLE_TIMEOUT.match(data):
            self.distrust()
        return data is None

    def _close_idle(self) -> None:
        with self._lock:
            closing, self._idle = self._idle, []
        for idle in closing:
            idle.connection.close()

    def _close_overdue(self) -> None:
        now = self._now()
        if now < self._next_overdue:
            return
        with self._lock:
            overdue = [idle for idle in self._idle if idle.until <= now]
            self._idle = [idle for idle in self._idle if idle.until > now]
            self._next_overdue = min((idle.until for idle in self._idle), default=math.inf)
        for idle in overdue:
            idle.connection.close()

    def _trusted(self) -> bool:
        """Whether connections are kept. The lock is held."""
        if self._distrusted_until is None:
            return True
        if self._now() < self._distrusted_until:
            return False
        self._distrusted_until = None
        log.info("Connections are used again", extra={"fields": {"Target": self._target}})
        return True
