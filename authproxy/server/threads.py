"""The threads that serve requests: waitress's dispatcher, on a queue that is cheap to wait at.

waitress wakes a thread through a condition variable whose lock the waking
thread still holds: two switches between threads where one will do.
"""

from __future__ import annotations

import logging
import threading
import time
from queue import SimpleQueue
from typing import Protocol

log = logging.getLogger(__name__)


class Task(Protocol):
    """What a thread does."""

    def service(self) -> None: ...


class Threads:
    """Serves tasks in the order in which they came, so many at the same time."""

    def __init__(self, count: int) -> None:
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._unfinished = 0
        self.add(count)

    @property
    def queued(self) -> int:
        """How many tasks wait, or would if the threads took each as it comes."""
        return max(0, self._unfinished - len(self._threads))

    @property
    def all_taken(self) -> bool:
        """Whether a further task would wait."""
        return self._unfinished >= len(self._threads)

    def add(self, count: int) -> None:
        """Start so many more."""
        for _ in range(count):
            name = f"serving-{len(self._threads)}"
            thread = threading.Thread(target=self._serve, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def add_task(self, task: Task) -> None:
        """Have a task served when its turn comes."""
        with self._lock:
            self._unfinished += 1
        self._tasks.put(task)

    def end(self, seconds: float) -> None:
        """Let them end, after what is queued; wait so long at most, as some may be held."""
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
