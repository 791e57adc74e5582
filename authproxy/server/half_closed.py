"""A client that has ended its side while its request is served: it waits for the response, or left.

Both are the same on the wire: a FIN. Which it is shows only when something is sent: the kernel
of a client that has left responds with a reset.
"""

from __future__ import annotations

from authproxy.server.client_socket import ClientSocket
from authproxy.server.exchange import Exchange
from authproxy.server.outbox import Disconnected

#: Seconds to the first probe, which most responses precede; each next one comes when this many
#: times the time has passed.
_FIRST_PROBE_SECONDS = 1.0
_LATER_PROBES = 4


class HalfClosed:
    """Finds out whether such a client is there. Used by the main loop's thread."""

    def __init__(self, sock: ClientSocket, now: float) -> None:
        """`now` is monotonic, as all times here."""
        self._socket = sock
        self._since = now
        self._next_probe = now + _FIRST_PROBE_SECONDS

    def has_left(self, served: Exchange, taken_at: float, now: float, patience: float) -> bool:
        """Tell whether the client has left; called about once a second.

        Before the response has begun, an interim response is the probe. Where none may be sent,
        the client counts as gone when it has taken no byte for `patience` seconds, the last one
        at `taken_at`.
        """
        if self._socket.has_hung_up():
            return True
        if not served.may_probe:
            return now - max(self._since, taken_at) > patience
        if now < self._next_probe:
            return False
        self._next_probe = self._since + _LATER_PROBES * (now - self._since)
        try:
            served.probe()
        except Disconnected:
            return True
        return False
