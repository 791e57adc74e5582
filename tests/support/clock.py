"""A clock that stands still until a test moves it."""

from __future__ import annotations

import threading


class FakeClock:
    """Both clocks, moved by hand: together, or one alone as in a jump or a suspend.

    A thread that waits on it waits until it is notified.
    """

    def __init__(self, wall: float = 1_800_000_000.0, monotonic: float = 1000.0) -> None:
        self._wall = wall
        self._monotonic = monotonic

    def wall(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    def wait(self, condition: threading.Condition, timeout: float) -> None:
        condition.wait()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._wall += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back; also what a suspend looks like."""
        self._wall += seconds
