"""How workers share connections and cores evenly.

The kernel wakes all that accept from a socket for each connection, and the
quickest takes it: without more, one worker can end up with most of the
connections, which stay where they are, and the others idle.

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

#: How long a worker leaves all connections to others while it gets its first tokens.
PATIENCE_SECONDS = 5.0


class ConnectionCounts:
    """The connections of each worker, in memory that they share.

    Made before the fork. A count that is wrong only has others wait a little
    for nothing.
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
        """Say how many connections this worker has."""
        _COUNT.pack_into(self._memory, worker * _COUNT.size, count)

    def withdraw(self, worker: int) -> None:
        """Say that this worker takes no connections: it has died, or only begins."""
        self.put(worker, _TAKES_NONE)

    def least(self) -> int:
        """Return how many the worker with the fewest has, among those that take any."""
        return min(self.of(worker) for worker in range(self._workers))

    @property
    def taken_care_of(self) -> bool:
        """Whether any worker takes connections."""
        return self.least() != _TAKES_NONE


def keep_to_one_core(worker: int, workers: int) -> None:
    """Keep this worker, the one with this number, to one core, if there is one for each.

    Where there are more cores than workers, others on the machine may have been
    promised some, and which are free changes: that is left to the kernel. So it
    is where a sandbox forbids the call: serving is worth more.
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

    A worker that only begins has no token yet, and could answer nothing but
    503: it leaves connections to those that have begun before it. Where there
    are none, as at the start of all, it takes them at once: probes want answers.
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

    def begin_when(self, prepared: Callable[[], bool]) -> None:
        """Leave connections to others until this holds, or patience ends."""
        self._prepared = prepared

    def leaves_to_others(self) -> bool:
        """Begin to take connections if it is time, and return whether it is not yet."""
        if not self._begun and (self._prepared() or time.monotonic() >= self._begins_by):
            self._begun = True
            self.put(0)
        return not self._begun and self._counts.taken_care_of

    def put(self, count: int) -> None:
        """Say how many connections there are here."""
        if self._begun and count != self._counts.of(self._worker):
            self._counts.put(self._worker, count)

    def is_exceeded(self) -> bool:
        """Whether another worker has fewer connections."""
        return self._begun and self._counts.of(self._worker) > self._counts.least()
