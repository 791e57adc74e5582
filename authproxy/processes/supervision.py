"""What is told of a serving process, and of several by their parent."""

from __future__ import annotations

import json
import math
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from authproxy.identity.tokens import TokenSource
from authproxy.processes.service_manager import Condition, ServiceManager

#: A worker that is silent for less has only missed a report or two.
_LEAST_SILENCE = 3.0


class Supervisor(Protocol):
    """Who hears of one serving process, about once a second."""

    @property
    def listens(self) -> bool: ...

    def report(self, condition: Condition) -> None: ...

    def stopping(self) -> None: ...


def condition_of(sources: Mapping[str, TokenSource], ended: Sequence[str]) -> Condition:
    """Return how the process fares whose routes, by name, have these sources of tokens.

    `ended` are the vital threads that have ended. The identity's outage does
    not keep it from serving: it answers with 503.
    """
    if ended:
        text = f"Cannot serve: a thread has ended ({', '.join(ended)}), see the log."
        return Condition(False, False, text)
    ready = any(tokens.ready for tokens in sources.values()) and all(
        tokens.tried for tokens in sources.values()
    )
    told = ["Ready." if ready else "Not ready, requests get 503."]
    told += [
        f"{name}: {_of_token(tokens)}" if name else _of_token(tokens)
        for name, tokens in sources.items()
    ]
    return Condition(True, ready, " ".join(told))


def _of_token(tokens: TokenSource) -> str:
    status = tokens.status()
    error, expires_at = status["last_error"], status["expires_at"]
    if tokens.ready:
        late = f" The last refresh failed: {error}" if error else ""
        return f"The token is valid until {expires_at}.{late}"
    why = error or (f"it expired at {expires_at}" if expires_at else "it is being fetched")
    return f"There is no valid token: {why}"


class WorkerReports:
    """Gathers what the workers report, since only their parent may speak to the manager.

    Made before the fork: `report` is for a worker, the rest for the parent.
    """

    def __init__(self, manager: ServiceManager) -> None:
        self._manager = manager
        self._inbox, self._outbox = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._inbox.setblocking(False)
        self._outbox.setblocking(False)
        #: By pid: the last report, and when it came (monotonic).
        self._latest: dict[int, tuple[Condition, float]] = {}

    @property
    def listens(self) -> bool:
        """Whether anybody hears what a worker reports."""
        return self._manager.listens

    def report(self, condition: Condition) -> None:
        """Tell the parent how this worker fares."""
        message = json.dumps([os.getpid(), condition.serves, condition.ready, condition.text])
        try:
            self._outbox.send(message.encode())
        except BlockingIOError:
            pass  # the parent does not read; the next report is due in a second

    def stopping(self) -> None:
        """Say nothing: a worker that ends while others serve is replaced."""

    def look(self, living: Iterable[int]) -> None:
        """Tell the service manager how the living workers fare, by pid, taken together."""
        if not self.listens:
            return
        now = time.monotonic()
        while (message := self._received()) is not None:
            pid, serves, ready, text = json.loads(message)
            self._latest[pid] = Condition(serves, ready, text), now
        # One that has not reported yet takes no requests either: nobody waits for it.
        self._latest = {pid: self._latest[pid] for pid in living if pid in self._latest}
        self._manager.report(self._together(now))

    def begin_drain(self) -> None:
        """Tell the service manager that all drain."""
        self._manager.stopping()

    def close(self) -> None:
        """Close the sockets."""
        self._inbox.close()
        self._outbox.close()

    def _received(self) -> bytes | None:
        try:
            return self._inbox.recv(65536)
        except BlockingIOError:
            return None

    def _together(self, now: float) -> Condition:
        """One that is stuck or cannot serve is enough: it would go on taking connections."""
        watched = self._manager.ping_every
        silence = math.inf if watched is None else max(watched, _LEAST_SILENCE)
        conditions = [condition for condition, _ in self._latest.values()]
        stuck = [pid for pid, (_, at) in self._latest.items() if now - at > silence]
        if stuck:
            text = f"Cannot serve: nothing is heard of worker {', '.join(map(str, stuck))}."
            return Condition(False, False, text)
        if not conditions:
            return Condition(False, False, "No worker serves.")
        # The worst one's words: those of a worker that is well say less.
        worst = min(conditions, key=lambda one: (one.serves, one.ready))
        ready = sum(one.ready for one in conditions)
        text = f"{ready} of {len(conditions)} workers are ready. {worst.text}"
        return Condition(worst.serves, worst.ready, text)
