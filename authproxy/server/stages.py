"""Pure rules: what a connection is about, and when that has taken too long."""

from __future__ import annotations

from enum import Enum, auto

from authproxy.server.limits import Timeouts


class Stage(Enum):
    """What is awaited of a connection, and of whom."""

    #: The client may send a request.
    IDLE = auto()
    #: The client has to send the rest of a head, or of a body.
    HEAD = auto()
    BODY = auto()
    #: We have to make room for its head or body.
    ROOM = auto()
    #: The application has to write a response.
    SERVED = auto()
    #: The client has to take what waits of a response.
    TAKEN = auto()
    #: The last response is sent; what the client still sends is dropped.
    LINGERING = auto()

    @property
    def is_clients_turn(self) -> bool:
        """Whether the client has begun something that it has to go on with."""
        return self in (Stage.HEAD, Stage.BODY, Stage.TAKEN)


def is_overdue(stage: Stage, silence: float, lasting: float, timeouts: Timeouts) -> bool:
    """Tell whether a connection is to be ended.

    `silence`: seconds without progress; `lasting`: those that the stage has taken of the
    client's time.
    """
    if stage is Stage.IDLE:
        return silence > timeouts.idle
    if stage is Stage.HEAD:
        return max(silence, lasting) > timeouts.request
    if stage is Stage.BODY:
        return silence > timeouts.request or lasting > timeouts.body
    if stage is Stage.TAKEN:
        return silence > timeouts.stall
    if stage is Stage.LINGERING:
        return silence > timeouts.linger_silence or lasting > timeouts.linger
    return False  # the target has timeouts of its own, and for room others have to end
