"""How workers share connections and cores evenly.

The kernel wakes all workers that accept from a socket for each connection, and the
quickest takes it: one worker could end up with most of the connections, which stay
where they are, while the others are idle.

A worker runs Python in one of its threads at a time. Where these move from
core to core, each takes over the interpreter's lock and data from another
core's caches: a request then costs a quarter more (docs/performance.md).
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
import sys
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

_COUNT = struct.Struct("@I")

#: In place of the count of a worker that takes no connections.
_TAKES_NONE = 2**32 - 1

#: How long a worker defers accept to others while it gets its first tokens.
PATIENCE_SECONDS = 5.0


class ConnectionCounts:
    """The connections of each worker, in memory that they share.

    Made before the fork. A wrong count costs other workers a short wait, no more.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._memory = mmap.mmap(-1, workers * _COUNT.size)
        for worker in range(workers):
            self.withdraw(worker)

    def of(self, worker: int) -> int:
        """Return how many connections the worker with this number has."""
        (count,) = _COUNT.unpack_from(self._memory, worker * _COUNT.size)
        return int(count)

    def put(self, worker: int, count: int) -> None:
        """Set how many connections this worker has."""
        _COUNT.pack_into(self._memory, worker * _COUNT.size, count)

    def withdraw(self, worker: int) -> None:
        """Note that this worker takes no connections: it has died, or is starting."""
        self.put(worker, _TAKES_NONE)

    def least(self) -> int:
        """Return how many the worker with the fewest has, among those that take any."""
        return min(self.of(worker) for worker in range(self._workers))

    @property
    def any_accepts(self) -> bool:
        """Whether any worker takes connections."""
        return self.least() != _TAKES_NONE


def keep_to_one_core(worker: int, workers: int) -> None:
    """Pin this worker, given by its number, to one core, if there is exactly one for each.

    Where there are more cores than workers, the kernel chooses: other processes may need
    some of them. It also does where a sandbox forbids the call.
    """
    if sys.platform == "linux":
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) == workers:
            try:
                os.sched_setaffinity(0, {cores[worker]})
            except OSError as error:
                log.debug("Cannot keep to one core", extra={"fields": {"Error": error.strerror}})


class Share:
    """One worker's part of the connections.

    A worker that starts has no token yet, and every response would be 503: it defers
    accept to workers that have started before. Where there are none, as at the start of
    the service, it accepts at once, as probes need responses.
    """

    def __init__(
        self, counts: ConnectionCounts, worker: int, patience: float = PATIENCE_SECONDS
    ) -> None:
        self._counts = counts
        self._worker = worker
        self._begun = False
        self._begins_by = time.monotonic() + patience
        self._prepared: Callable[[], bool] = lambda: True
        counts.withdraw(worker)

    def defer_until(self, prepared: Callable[[], bool]) -> None:
        """Defer accept to other workers until `prepared` holds, or patience ends."""
        self._prepared = prepared

    def defers_accept(self) -> bool:
        """Return whether other workers are to accept in this one's place; begin if it is time."""
        if not self._begun and (self._prepared() or time.monotonic() >= self._begins_by):
            self._begun = True
            self.put(0)
        return not self._begun and self._counts.any_accepts

    def put(self, count: int) -> None:
        """Set how many connections this worker has."""
        if self._begun and count != self._counts.of(self._worker):
            self._counts.put(self._worker, count)

    def is_exceeded(self) -> bool:
        """Whether another worker has fewer connections."""
        return self._begun and self._counts.of(self._worker) > self._counts.least()
