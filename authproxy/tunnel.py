"""What a server offers the application for a request that changes the protocol.

Both sides know this module alone of each other, as with `cancellation.py`: the application
asks the target, the server has the client's connection.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from authproxy.tls_stream import TLSStream

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


@dataclass(frozen=True)
class Switched:
    """The target's side of a tunnel."""

    #: Which the response 101 tells the client in its Upgrade field, beside Connection.
    protocol: str

    #: The connection to the target, and what has come on it already.
    target: socket.socket | TLSStream
    early: bytes

    #: Called once, by any thread, in any case: it must not wait, and closes `target`.
    ended: Callable[[TunnelEnd], None]


class TunnelOffer(Protocol):
    """A tunnel for the connection of one request. Used by the thread that serves it."""

    def take(self) -> bool:
        """Take one of the server's tunnels, until the response ends; False where none is left."""

    def join(self, switched: Switched) -> None:
        """Join the client's connection with it, once the response's head is sent, which is 101."""
