"""How fast a connection gets on, and which of several is the slowest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

#: A sender or reader is not judged before it has had so many seconds.
GRACE_SECONDS = 3.0


class Pace:
    """Bytes that a client has moved since something began: a head, a body, a response's rest.

    Time in which it could not, for reasons of ours, does not count.
    """

    __slots__ = ("_began", "_held_since", "moved")

    def __init__(self, now: float) -> None:
        self.restart(now)

    def restart(self, now: float) -> None:
        """Something else begins now; all times are monotonic."""
        self.moved = 0
        self._began = now
        self._held_since: float | None = None

    def hold(self, now: float) -> None:
        """From now on it cannot move a byte. Harmless when repeated."""
        if self._held_since is None:
            self._held_since = now

    def release(self, now: float) -> bool:
        """It can again; return whether it was held."""
        held, self._held_since = self._held_since, None
        if held is None:
            return False
        self._began += now - held
        return True

    def seconds(self, now: float) -> float:
        """Return how long it has had for what it has moved."""
        until = now if self._held_since is None else self._held_since
        return until - self._began


def slowest(paces: Iterable[tuple[T, Pace]], now: float) -> list[T]:
    """Return those that have had some seconds already, the least bytes a second first."""
    judged = [
        (pace.moved / seconds, at, one)
        for at, (one, pace) in enumerate(paces)
        if (seconds := pace.seconds(now)) >= GRACE_SECONDS
    ]
    judged.sort(key=lambda each: each[:2])
    return [one for _, _, one in judged]
