"""Failures that repeat: a line for each as long as they are few, then one with their count.

Whatever talks to the port can cause them, thousands a second, and so can a target that cannot
be reached.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable

log = logging.getLogger(__name__)

#: How long failures are counted, in seconds.
WINDOW_SECONDS = 10.0


class RepeatedFailures:
    """Says which failures get a line, and writes how many got none. Any thread may call."""

    def __init__(
        self, lines_of_one: int, lines_of_all: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """So many lines are written in one window: of those that are alike, and of all."""
        self._lines_of_one = lines_of_one
        self._lines_of_all = lines_of_all
        self._clock = clock
        self._lock = threading.Lock()
        self._began = clock()
        #: By hash: paths may have 64 KiB.
        self._lines: Counter[int] = Counter()
        self._written = 0
        self._left_out: Counter[tuple[int, str | None]] = Counter()

    def gets_line(self, alike: Hashable, status: int, code: str | None) -> bool:
        """Tell whether a failure gets a line; it is counted by status and code if it does not.

        `alike` is the same for failures of which a few lines are enough.
        """
        self.tick()
        kind = hash(alike)
        with self._lock:
            if self._lines[kind] >= self._lines_of_one or self._written >= self._lines_of_all:
                self._left_out[status, code] += 1
                return False
            self._lines[kind] += 1
            self._written += 1
            return True

    def tick(self) -> None:
        """Write how many got no line, once their time is over."""
        if self._clock() - self._began >= WINDOW_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write how many got no line so far, and begin to count anew."""
        with self._lock:
            left_out, self._left_out = self._left_out, Counter()
            self._lines.clear()
            self._written = 0
            self._began = self._clock()
        for (status, code), count in left_out.items():
            fields = {"StatusCode": status, "Code": code, "Count": count}
            log.warning("Requests failed, without a line for each", extra={"fields": fields})
