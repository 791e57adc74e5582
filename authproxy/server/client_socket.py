"""What the kernel knows of a client's socket, and how it closes."""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import struct
import termios

#: SO_LINGER on, zero seconds.
_RESET = struct.pack("ii", 1, 0)


def has_unread_bytes(sock: socket.socket) -> bool:
    """Tell whether the client has sent what was not read yet."""
    try:
        return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:  # nothing there, or the connection is gone
        return False


def has_hung_up(sock: socket.socket) -> bool:
    """Tell whether the client has ended both sides, or reset the connection."""
    poll = select.poll()
    poll.register(sock, 0)  # hang-ups and errors are reported in any case
    return bool(poll.poll(0))


def unsent_bytes(sock: socket.socket) -> int:
    """Return how many bytes the kernel holds for the client.

    It holds megabytes, and takes more only when a third has gone: a slow
    reader shows here long before there is anything to send again.
    """
    with contextlib.suppress(OSError):
        (queued,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
        return int(queued)
    return 0


def reset_on_close(sock: socket.socket) -> None:
    """Have close send a reset, which no client can take for the end of a body."""
    with contextlib.suppress(OSError):  # a Unix socket knows no reset
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
