"""How many heaps glibc keeps for a process."""

from __future__ import annotations

import re

#: Each heap but the first begins at a multiple of this (malloc/arena.c, HEAP_MAX_SIZE, 64 bits).
_ALIGNMENT = 64 * 1024 * 1024


def heaps_in(maps: str) -> int:
    """Return how many heaps the threads of a process share, by its /proc/PID/maps."""
    nameless = re.findall(r"^([0-9a-f]+)-\S+ rw-p \S+ \S+ 0 *$", maps, re.M)
    return 1 + sum(int(start, 16) % _ALIGNMENT == 0 for start in nameless)
