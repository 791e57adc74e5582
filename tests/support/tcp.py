"""What the kernel knows of connections over loopback, and a socket that receives nothing."""

from __future__ import annotations

import ctypes
import os
import select
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.support.wire import DEADLINE

#: Of asm-generic/socket.h; Python has no names for them.
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27

#: `ret 0` in the classic BPF: drop every packet (socket(7), linux/filter.h).
_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)


def deafen(sock: socket.socket) -> None:
    """Have the kernel drop every segment for the socket from now on; the peer sends them again."""
    code = ctypes.create_string_buffer(_DROP_ALL)
    program = struct.pack("HP", len(_DROP_ALL) // 8, ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def undeafen(sock: socket.socket) -> None:
    """Have it receive again."""
    sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def send_close_notify(sock: ssl.SSLSocket) -> None:
    """End this side of TLS in order; what has not come yet is left to be read.

    unwrap() reads as soon as it has sent, and fails on data: so none comes meanwhile.
    """
    timeout = sock.gettimeout()
    sock.settimeout(0)
    try:
        while not _is_sent(sock):
            select.select([], [sock], [], DEADLINE)
    finally:
        sock.settimeout(timeout)


def _is_sent(sock: ssl.SSLSocket) -> bool:
    deafen(sock)
    try:
        sock.unwrap()
    except ssl.SSLWantWriteError:
        return False
    except ssl.SSLWantReadError:
        pass  # the peer's own is still to come
    finally:
        undeafen(sock)
    return True


def unacknowledged_to(port: int) -> bool:
    """Whether bytes are on their way to this port, and have not arrived."""
    return any(queue.remote == port and queue.sent for queue in _queues())


def unacknowledged_from(port: int) -> bool:
    """Whether bytes are on their way from this port, and have not arrived."""
    return any(queue.local == port and queue.sent for queue in _queues())


def unread_from(port: int) -> bool:
    """Whether bytes that came from this port wait to be read."""
    return any(queue.remote == port and queue.unread for queue in _queues())


def connections_of(pid: int, port: int) -> list[str]:
    """Return the sockets of a process that are connections of clients on this port."""
    inodes = {
        fields[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if (fields := line.split())[1].endswith(f":{port:04X}") and fields[3] == "01"
    }
    links = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            links.append(os.readlink(descriptor))
    return [link for link in links if link.removeprefix("socket:[").rstrip("]") in inodes]


class _Queue(NamedTuple):
    """Of one end of a connection: ports, bytes not acknowledged, and not read (proc(5))."""

    local: int
    remote: int
    sent: int
    unread: int


def _queues() -> Iterator[_Queue]:
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues = line.split()[:5]
        parts = (local.rpartition(":")[2], remote.rpartition(":")[2], *queues.split(":"))
        yield _Queue(*(int(part, 16) for part in parts))
