"""How long processes have waited for a processor, where what they share is a question of time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def longest_wait(pids: Iterable[int]) -> float:
    """Return the most seconds that one of these processes has waited for a processor so far."""
    return max(map(_seconds_waited, pids))


def _seconds_waited(pid: int) -> float:
    """Of all its threads: the second figure of schedstat, in nanoseconds (sched-stats.rst)."""
    stats = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(waited) for _, waited, _ in stats) / 1e9
