"""What processes take, and whether it grows."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.benchmarks.processes import tree


@dataclass(frozen=True)
class Figure:
    """What the processes of the proxy take together at one moment."""

    at: float
    pids: tuple[int, ...]
    pss_bytes: int
    #: Of that, what they allocated themselves. The rest is of files, libraries most of all, and
    #: changes with the number of other programs that have the same ones mapped.
    allocated_bytes: int
    descriptors: int


def measure(pid: int) -> Figure | None:
    """Return the figures of a process and those below it; None if one of them is ending."""
    try:
        pids = tuple(sorted(tree(pid)))
        pss = allocated = descriptors = 0
        for each in pids:
            rollup = Path(f"/proc/{each}/smaps_rollup").read_text()
            sizes = dict(re.findall(r"^(Pss|Pss_Anon):\s+(\d+) kB", rollup, re.M))
            if len(sizes) < 2:
                return None
            pss += int(sizes["Pss"]) * 1024
            allocated += int(sizes["Pss_Anon"]) * 1024
            descriptors += len(os.listdir(f"/proc/{each}/fd"))
    except OSError:
        return None
    return Figure(time.monotonic(), pids, pss, allocated, descriptors)


def slope_per_hour(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the least-squares line through (seconds, value), per hour."""
    if len(points) < 2:
        raise ValueError("a slope needs two points")
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        raise ValueError("a slope needs two moments")
    return 3600 * sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def longest_generation(figures: Sequence[Figure]) -> list[Figure]:
    """Return the longest run of figures of the same processes."""
    best: list[Figure] = []
    current: list[Figure] = []
    for figure in figures:
        if current and current[-1].pids != figure.pids:
            current = []
        current.append(figure)
        if len(current) > len(best):
            best = list(current)
    return best


class Watch(threading.Thread):
    """Measures every few seconds, for the highest figures."""

    def __init__(self, pid: Callable[[], int | None], every: float = 5.0) -> None:
        super().__init__(daemon=True)
        self.figures: list[Figure] = []
        self._pid = pid
        self._every = every
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(self._every):
            pid = self._pid()
            figure = None if pid is None else measure(pid)
            if figure is not None:
                self.figures.append(figure)

    def stop(self) -> None:
        self._end.set()
        self.join()
