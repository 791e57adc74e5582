"""Bytes from the target that cannot be a response to the request that they would be taken for.

HTTP/1.1 numbers neither requests nor responses: what comes on a connection is
the response to whatever was sent there last. So nothing may have come before
the request was sent, nor while no byte of it can have reached the target.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import sys
from typing import Any

#: Enough of unsolicited bytes to tell what they are.
_LOOK_BYTES = 64

#: The part of Linux's `struct tcp_info` up to tcpi_notsent_bytes, of which are read:
#: tcpi_unacked, tcpi_bytes_acked (Linux 4.1) and tcpi_notsent_bytes (Linux 4.6).
_TCP_INFO = struct.Struct("=24xI92xQ16xI")


def received(sock: Any, seconds: float = 0.0) -> bytes | None:
    """Return the beginning of what the peer has sent, or None where it is silent.

    Empty bytes are the end of the connection. Waits up to `seconds` for
    either. With TLS, what has been decrypted already counts; records without
    data of the application (session tickets, key updates) do not. Raises
    OSError where the connection has failed.
    """
    if not seconds and is_silent(sock):
        return None
    timeout = sock.gettimeout()
    sock.settimeout(seconds)
    try:
        data: bytes = sock.recv(_LOOK_BYTES)
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError, TimeoutError):
        return None
    finally:
        sock.settimeout(timeout)
    return data


def is_silent(sock: Any) -> bool:
    """Whether certainly there is nothing to read, neither bytes nor the end.

    One call of the kernel tells; to try and read takes three.
    """
    if getattr(sock, "has_buffered", False):
        return False
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return not poll.poll(0)


class Delivery:
    """Whether anything of what is sent on a connection has reached the peer's machine.

    Every segment of TCP acknowledges all that had arrived when it was sent
    (RFC 9293 section 3.4). So bytes that are here while nothing is
    acknowledged were sent before the peer had anything to respond to. The
    reverse does not hold.
    """

    def __init__(self, sock: Any) -> None:
        """Made right before the first byte is sent."""
        self._socket: socket.socket = plain_socket(sock)
        state = _tcp_state(self._socket)
        #: The bytes acknowledged before; None where that cannot be told, also because
        #: older ones are still on their way.
        self._before: int | None = None
        if state is not None:
            in_flight, acknowledged, unsent = state
            if acknowledged and not in_flight and not unsent:
                self._before = acknowledged

    def nothing_arrived(self) -> bool:
        """Whether certainly not a byte sent since has arrived."""
        if self._before is None:
            return False
        state = _tcp_state(self._socket)
        return state is not None and state[1] == self._before


def plain_socket(sock: Any) -> Any:
    """Return the TCP connection below TLS; else `sock` itself."""
    return getattr(sock, "tcp", sock)


def _tcp_state(sock: socket.socket) -> tuple[int, int, int] | None:
    """Return packets not acknowledged, bytes acknowledged, and bytes not sent yet.

    None where that cannot be told. The second counts the SYN; a kernel that counts nothing
    leaves it zero.
    """
    if sys.platform != "linux":
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:  # no TCP, or a sandbox's kernel that tells nothing of it
        return None
    if len(info) < _TCP_INFO.size:
        return None
    in_flight, acknowledged, unsent = _TCP_INFO.unpack(info)
    return in_flight, acknowledged, unsent
