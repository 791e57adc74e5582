"""A client's socket: what crosses it, what the kernel knows of it, and how it closes.

Connections read, write and end through this interface, which `tls_socket.py` has for TLS too.
"""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import struct
import termios

#: SO_LINGER on, zero seconds.
_RESET = struct.pack("ii", 1, 0)


class CleartextRequest(ConnectionError):
    """The client has sent HTTP where TLS is expected; what is sent to it goes out as it is."""


class HandshakeFailed(ConnectionError):
    """There will be no TLS connection; the message says why, in words of OpenSSL."""


class ClientSocket:
    """A connected socket that never blocks, as it is.

    The main loop's thread reads and closes; one thread at a time writes. Reading and writing
    raise BlockingIOError where they have to wait, and else what sockets raise.
    """

    #: Whether requests can come: there is no handshake, or it is done.
    established = True

    #: Whether the client has shown the certificate that it needs, if it needs one.
    is_identified = True

    #: Whether there are bytes to read that the kernel no longer has.
    has_decrypted_bytes = False

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        #: Kept, as what fails may close the socket before the poller forgets it.
        self._number = sock.fileno()

    def fileno(self) -> int:
        return self._number

    def kernel_events(self, wanted: int) -> int:
        """Return the events of the kernel to wait for, to read or write what is wanted."""
        return wanted

    def possible(self, events: int) -> int:
        """Return what is worth trying after these events of the kernel: to read, or to write."""
        return events

    def recv(self, most: int) -> bytes:
        """Read some bytes; none once the client has ended."""
        return self.socket.recv(most)

    def recv_into(self, buffer: memoryview) -> int:
        """Read what has come, and as much as there is room for."""
        return self.socket.recv_into(buffer)

    def send(self, data: memoryview | bytes) -> int:
        """Return how many bytes were taken. Those that were not are to be sent next."""
        return self.socket.send(data)

    def end_sending(self) -> None:
        """End the sending side in order. Where that has to wait, it is to be called again.

        What comes behind it can only be discarded.
        """
        self.socket.shutdown(socket.SHUT_WR)

    def discard(self, scratch: memoryview) -> int:
        """Read what comes after `end_sending`, of whatever meaning."""
        return self.socket.recv_into(scratch)

    def has_unread_bytes(self) -> bool:
        """Tell whether the client has sent what was not read yet."""
        try:
            return bool(self.next_byte())
        except OSError:  # nothing there, or the connection is gone
            return False

    def next_byte(self) -> bytes:
        """Return the next byte that the kernel has. Raises OSError where it has none."""
        return self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)

    def has_hung_up(self) -> bool:
        """Tell whether the client has ended both sides, or reset the connection."""
        poll = select.poll()
        poll.register(self.fileno(), 0)  # hang-ups and errors are reported in any case
        return bool(poll.poll(0))

    def notice_loss(self, seconds: int) -> None:
        """Have the kernel give the connection up when its peer has gone for so long.

        That is one that acknowledges nothing, probes of an idle connection included, or has no
        room for more (RFC 5482).
        """
        if self.socket.family not in (socket.AF_INET, socket.AF_INET6):
            return
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in {
            "TCP_KEEPIDLE": seconds // 5,
            "TCP_KEEPINTVL": seconds // 10,
            "TCP_USER_TIMEOUT": seconds * 1000,  # milliseconds
        }.items():
            if (option := getattr(socket, name, None)) is not None:
                with contextlib.suppress(OSError):  # it has gone again: the next read tells
                    self.socket.setsockopt(socket.IPPROTO_TCP, option, value)

    def unsent_bytes(self) -> int:
        """Return how many bytes the kernel holds for the client.

        It holds megabytes, and takes more only when a third has gone: a slow
        reader shows here long before there is anything to send again.
        """
        with contextlib.suppress(OSError):
            (queued,) = struct.unpack("i", fcntl.ioctl(self.fileno(), termios.TIOCOUTQ, bytes(4)))
            return int(queued)
        return 0

    def reset_on_close(self) -> None:
        """Have close send a reset, which no client can take for the end of a body."""
        with contextlib.suppress(OSError):  # a Unix socket knows no reset
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def close(self, *, in_order: bool) -> None:
        """Close it; `in_order`: nothing is under way, and the client is told so where it can be."""
        self.socket.close()
