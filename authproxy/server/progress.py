"""Pure rules: what a connection waits for, how fast its client is, and when it has timed out."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import TypeVar

from authproxy.server.limits import Timeouts

T = TypeVar("T")

#: Seconds before a sender or reader can count as slow.
GRACE_SECONDS = 3.0


class Stage(Enum):
    """What a connection waits for."""

    #: The client has to do its part of a TLS handshake.
    HANDSHAKE = auto()
    #: The client may send a request.
    IDLE = auto()
    #: The client has to send the rest of a head, or of a body.
    HEAD = auto()
    BODY = auto()
    #: There has to be room for its head or body.
    ROOM = auto()
    #: The application has to write a response.
    SERVED = auto()
    #: The client has to read what waits of a response.
    WRITING = auto()
    #: The last response is sent; what the client still sends is dropped.
    LINGERING = auto()

    @property
    def waits_for_client(self) -> bool:
        """Whether the client has to go on with a handshake, a head, a body or a response."""
        return self in (Stage.HANDSHAKE, Stage.HEAD, Stage.BODY, Stage.WRITING)


def is_overdue(stage: Stage, silence: float, lasting: float, timeouts: Timeouts) -> bool:
    """Tell whether a connection has timed out.

    `silence`: seconds without progress; `lasting`: those that the stage has taken of the
    client's time.
    """
    if stage is Stage.IDLE:
        return silence > timeouts.idle
    if stage in (Stage.HANDSHAKE, Stage.HEAD):
        return max(silence, lasting) > timeouts.request
    if stage is Stage.BODY:
        return silence > timeouts.request or lasting > timeouts.body
    if stage is Stage.WRITING:
        return silence > timeouts.stall
    if stage is Stage.LINGERING:
        return silence > timeouts.linger_silence or lasting > timeouts.linger
    return False  # the target has timeouts of its own; for room, other connections are closed


class Pace:
    """Bytes that a client has moved since something began: a head, a body, a response's rest.

    Time in which the server did not let it does not count.
    """

    __slots__ = ("_began", "_held_since", "moved")

    def __init__(self, now: float) -> None:
        self.restart(now)

    def restart(self, now: float) -> None:
        """Measure from now on; all times are monotonic."""
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
    """Return those past the grace, the least bytes a second first."""
    judged = [
        (pace.moved / seconds, at, one)
        for at, (one, pace) in enumerate(paces)
        if (seconds := pace.seconds(now)) >= GRACE_SECONDS
    ]
    judged.sort(key=lambda each: each[:2])
    return [one for _, _, one in judged]
