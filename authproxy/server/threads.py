"""The threads that serve requests, which of them serves one, and what becomes of one too many.

In place of waitress's dispatcher: that wakes a thread through a condition variable whose
lock the waking thread still holds, which takes two switches between threads for one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

from authproxy.errors import Overloaded
from authproxy.server.limits import Limits
from authproxy.server.refusals import Refusal

log = logging.getLogger(__name__)

#: After how many seconds a client that found the queue full may try again.
_RETRY_SECONDS = 1

#: The log has an overload once in so many seconds.
_SILENT_SECONDS = 10.0


class Task(Protocol):
    """What a thread does."""

    def service(self) -> None: ...


class Threads:
    """Serves tasks in the order in which they came, `count` at a time."""

    def __init__(self, count: int, *, may_wait: bool = True) -> None:
        """`may_wait`: a task may hold its thread for a client that is slow to read."""
        self.may_wait = may_wait
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._unfinished = 0
        self.add(count)

    @property
    def queued(self) -> int:
        """The tasks that wait for a thread."""
        return max(0, self._unfinished - len(self._threads))

    @property
    def all_taken(self) -> bool:
        """Whether a further task would wait."""
        return self._unfinished >= len(self._threads)

    def add(self, count: int) -> None:
        """Start `count` more."""
        for _ in range(count):
            name = f"serving-{len(self._threads)}"
            thread = threading.Thread(target=self._serve, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def add_task(self, task: Task) -> None:
        """Queue a task."""
        with self._lock:
            self._unfinished += 1
        self._tasks.put(task)

    def end(self, seconds: float) -> None:
        """End the threads after what is queued; returns after `seconds` though some may be held."""
        for _ in self._threads:
            self._tasks.put(None)
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _serve(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task.service()
            except Exception:
                log.exception("Unexpected error while serving a request.")
            with self._lock:
                self._unfinished -= 1


class OverloadLog:
    """Logs overloads, one in ten seconds at most."""

    def __init__(self) -> None:
        self._silent_until = 0.0

    def warn(self, problem: str, **more: object) -> None:
        now = time.monotonic()
        if now >= self._silent_until:
            self._silent_until = now + _SILENT_SECONDS
            log.warning("Overloaded", extra={"fields": {"Problem": problem, **more}})


class Dispatcher:
    """The threads, and one to spare that never waits: a probe is served however many hang."""

    def __init__(
        self,
        limits: Limits,
        is_probe: Callable[[str, str], bool] | None,
        overload: OverloadLog,
    ) -> None:
        """`is_probe` tells by method and request target; None: there are no probes."""
        self._limits = limits
        self._overload = overload
        self._is_probe = is_probe
        self.threads = Threads(limits.threads)
        self._spare = None if is_probe is None else Threads(1, may_wait=False)

    def threads_for(self, method: str, target: str) -> Threads | Refusal:
        """Return the threads that serve such a request; a refusal where too many wait."""
        if self._is_probe and self._spare and self._is_probe(method, target):
            return self._spare
        if not self.threads.all_taken or self.threads.queued < self._limits.queue:
            return self.threads
        queue, threads = self._limits.queue, self._limits.threads
        problem = f"{queue} requests wait for one of {threads} threads"
        self._overload.warn(problem)
        return Overloaded(problem, _RETRY_SECONDS)

    def end(self, seconds: float) -> None:
        """End the threads after what is queued; waits `seconds` at most for each kind."""
        self.threads.end(seconds)
        if self._spare is not None:
            self._spare.end(seconds)
