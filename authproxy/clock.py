"""Time as the token rules see it: injected, so that tests need no sleeping."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timezone
from typing import Protocol


class Clock(Protocol):
    """Two clocks and a way to wait. All values are seconds."""

    def wall(self) -> float:
        """Return the time since the epoch; it may be set, and so jump, either way."""

    def monotonic(self) -> float:
        """Return a time that never goes back; on Linux it stands still during suspend."""

    def wait(self, condition: threading.Condition, timeout: float) -> None:
        """Wait on `condition`, whose lock the caller holds, for at most `timeout`."""


class SystemClock:
    """The clocks of the machine."""

    def wall(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, condition: threading.Condition, timeout: float) -> None:
        condition.wait(timeout)


def rfc3339(wall: float) -> str:
    """Return a time since the epoch as RFC 3339 has it, in UTC and whole seconds.

    Raises ValueError, OverflowError or OSError for a time beyond the calendar.
    """
    return datetime.fromtimestamp(wall, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
