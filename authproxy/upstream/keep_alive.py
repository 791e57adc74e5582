"""How a connection that has died without a word is noticed: options of its socket.

Load balancers and firewalls forget connections, Azure's after four idle minutes, and not
all send a reset when the next packet comes. Without these options only the read timeout,
which is longer than the longest query, would tell.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from authproxy.upstream.unsolicited import plain_socket

#: Seconds without traffic after which the peer's machine is probed, while a response is
#: waited for as well, and between probes.
PROBE_IDLE_SECONDS = 30
PROBE_INTERVAL_SECONDS = 10
PROBES = 3

#: Seconds for which what was sent may stay unacknowledged, and half the read timeout at most.
#: A peer that is busy acknowledges all the same, for its kernel does.
UNACKNOWLEDGED_SECONDS = 20.0

_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux (RFC 5482)

#: What the kernel reports when nothing is acknowledged; the last two where a router said why.
_LOST = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)


def socket_options() -> list[tuple[int, int, int | bytes]]:
    """Return the options of each connection to a target, as `setsockopt` takes them.

    How long bytes may stay unacknowledged is none of them: it would bound the opening as well.
    """
    options: list[tuple[int, int, int | bytes]] = [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    ]
    for name, value in {
        "TCP_KEEPIDLE": PROBE_IDLE_SECONDS,
        "TCP_KEEPINTVL": PROBE_INTERVAL_SECONDS,
        "TCP_KEEPCNT": PROBES,
    }.items():
        if (option := getattr(socket, name, None)) is not None:
            options.append((socket.IPPROTO_TCP, option, value))
    return options


def unacknowledged_seconds(read_timeout: float) -> float:
    """Return for how long what was sent may stay unacknowledged."""
    return min(UNACKNOWLEDGED_SECONDS, read_timeout / 2)


def allow_unacknowledged(sock: Any, seconds: float) -> None:
    """Set for how long what was sent may stay unacknowledged, where the platform can.

    It counts too when the peer's machine acknowledges but has no room for more (RFC 5482):
    a target that takes its time over a large body needs longer.
    """
    if _USER_TIMEOUT is not None:
        milliseconds = max(1, round(seconds * 1000))
        plain_socket(sock).setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, milliseconds)


def is_lost(error: OSError) -> bool:
    """Whether the kernel gave the connection up; a timeout of Python's has no number."""
    return error.errno in _LOST
