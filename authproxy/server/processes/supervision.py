"""What is told of a serving process, and of several by their parent."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Protocol

from authproxy.server.processes.service_manager import Condition, ServiceManager

#: A worker that is silent for less has only missed a report or two.
_LEAST_SILENCE = 3.0


class Supervisor(Protocol):
    """Who hears of one serving process, about once a second."""

    @property
    def listens(self) -> bool: ...

    def report(self, condition: Condition) -> None: ...

    def stopping(self) -> None: ...


class WorkerReports:
    """Sums up how the workers fare, for their parent, who alone may speak to the manager."""

    def __init__(self, manager: ServiceManager) -> None:
        self._manager = manager
        #: By pid: the last report, and when it came (monotonic).
        self._latest: dict[int, tuple[Condition, float]] = {}

    @property
    def listens(self) -> bool:
        """Whether anybody hears of it."""
        return self._manager.listens

    def take(self, worker: int, condition: Condition) -> None:
        """Note how a worker, given by its pid, fares at the moment."""
        self._latest[worker] = condition, time.monotonic()

    def look(self, living: Iterable[int]) -> None:
        """Tell the service manager how the living workers fare, by pid, taken together."""
        if not self.listens:
            return
        # One that has not reported yet takes no requests either: nobody waits for it.
        self._latest = {pid: self._latest[pid] for pid in living if pid in self._latest}
        self._manager.report(self._together(time.monotonic()))

    def begin_drain(self) -> None:
        """Tell the service manager that all drain."""
        self._manager.stopping()

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
