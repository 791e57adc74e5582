"""What a server offers the application for a request that changes the protocol.

Both sides know this module alone of each other, as with `cancellation.py`: the application
asks the target, the server has the client's connection.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

#: Where the offer is in a request's WSGI environment, under a server that has tunnels.
TUNNEL_KEY = "authproxy.tunnel"


@dataclass(frozen=True)
class TunnelEnd:
    """How a tunnel has ended."""

    #: Who ended it: `client`, `target`, `drain` or `silence`.
    by: str

    #: Bytes that crossed it, by the side that they came from.
    from_client: int = 0
    from_target: int = 0

    #: Why it did not end in order, if so.
    problem: str = ""


class TunnelOffer(Protocol):
    """A tunnel for the connection of one request. Used by the thread that serves it."""

    def take(self) -> bool:
        """Take one of the server's tunnels, until the response ends; False where none is left."""

    def join(
        self,
        protocol: str,
        target: socket.socket,
        early: bytes,
        ended: Callable[[TunnelEnd], None],
    ) -> None:
        """Join the client's connection with one to the target, once the response's head is sent.

        The response is 101; Connection and Upgrade, with this protocol, are added to its fields.
        `early` is what the target has sent already. `ended` is called once, by any thread, in
        any case: it must not wait, and closes `target`.
        """
