"""How workers share connections and cores evenly.

The kernel wakes all that accept from a socket for each connection, and the
quickest takes it: without more, one worker can end up with most of the
connections, which stay where they are, and the others idle.

A worker runs Python in one of its threads at a time. Where these move from
core to core, each takes over the interpreter's lock and data from another
core's caches: a request then costs a quarter more (docs/performance.md).
"""

from __future__ import annotations

import mmap
import os
import struct
import sys

_COUNT = struct.Struct("@I")


class ConnectionCounts:
    """The connections of each worker, in memory that they share.

    Made before the fork. A count that is wrong, that of a dead worker say,
    only has others wait a little for nothing.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._memory = mmap.mmap(-1, workers * _COUNT.size)

    def of(self, worker: int) -> int:
        """Return how many connections the worker with this number has."""
        (count,) = _COUNT.unpack_from(self._memory, worker * _COUNT.size)
        return int(count)

    def put(self, worker: int, count: int) -> None:
        """Say how many connections this worker has."""
        _COUNT.pack_into(self._memory, worker * _COUNT.size, count)

    def least(self) -> int:
        """Return how many the worker with the fewest has."""
        return min(self.of(worker) for worker in range(self._workers))


def keep_to_one_core(worker: int, workers: int) -> None:
    """Keep this worker, the one with this number, to one core, if there is one for each.

    Where there are more cores than workers, others on the machine may have been
    promised some, and which are free changes: that is left to the kernel.
    """
    if sys.platform == "linux":
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) == workers:
            os.sched_setaffinity(0, {cores[worker]})


class Share:
    """One worker's part of the connections."""

    def __init__(self, counts: ConnectionCounts, worker: int) -> None:
        self._counts = counts
        self._worker = worker
        self.put(0)

    def put(self, count: int) -> None:
        """Say how many connections there are here."""
        if count != self._counts.of(self._worker):
            self._counts.put(self._worker, count)

    def is_exceeded(self) -> bool:
        """Whether another worker has fewer connections."""
        return self._counts.of(self._worker) > self._counts.least()
