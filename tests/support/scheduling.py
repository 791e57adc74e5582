"""How long processes have waited for a processor, where what they share is a question of time."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def longest_wait(pids: Iterable[int]) -> float:
    """Return the most seconds that one of these processes may have waited for a processor so far.

    That is for other processes, and for other machines on the same one.
    """
    return max(map(_seconds_waited, pids)) + _seconds_stolen()


def _seconds_waited(pid: int) -> float:
    """Of all its threads: the second figure of schedstat, in nanoseconds (sched-stats.rst)."""
    stats = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(waited) for _, waited, _ in stats) / 1e9


def _seconds_stolen() -> float:
    """Of all processors: `steal` of proc_stat(5), in ticks of the clock."""
    stolen = Path("/proc/stat").read_text().split(maxsplit=9)[8]
    return int(stolen) / os.sysconf("SC_CLK_TCK")
