"""A service manager's end of NOTIFY_SOCKET, which records what is said and by whom."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.wire import DEADLINE

_MARK = b"what comes before this has been received"


@dataclass(frozen=True)
class Said:
    """One datagram, and the pid that the kernel vouches for."""

    pid: int
    fields: dict[str, str]


class NotifySocket:
    """Listens while it is entered; `address` is what NOTIFY_SOCKET has to be."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._said: list[Said] = []
        #: How many of the datagrams that `mark` sends have been received.
        self._marks = 0
        self._changed = threading.Condition()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(address.replace("@", "\0", 1))
        self._thread = threading.Thread(target=self._receive)

    def __enter__(self) -> NotifySocket:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _receive(self) -> None:
        while True:
            data, ancillary, _, _ = self._socket.recvmsg(65536, socket.CMSG_SPACE(12))
            if not data:
                return
            if data == _MARK:
                with self._changed:
                    self._marks += 1
                    self._changed.notify_all()
                continue
            ((_, _, credentials),) = ancillary
            pid, _, _ = struct.unpack("iii", credentials)
            fields = dict(line.split("=", 1) for line in data.decode().split("\n"))
            with self._changed:
                self._said.append(Said(pid, fields))
                self._changed.notify_all()

    @property
    def said(self) -> list[Said]:
        with self._changed:
            return list(self._said)

    def all(self, name: str) -> list[str]:
        """Return every value that was said of this name."""
        return [one.fields[name] for one in self.said if name in one.fields]

    def mark(self) -> int:
        """Return the place behind all that has been said, for `after`."""
        with self._changed, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            expected = self._marks + 1
            own.sendto(_MARK, self._socket.getsockname())
            received = self._changed.wait_for(lambda: self._marks == expected, timeout=DEADLINE)
            assert received, "what is said is not received"
            return len(self._said)

    def wait_for(self, name: str, text: str = "", *, after: int = 0) -> Said:
        """Return the first datagram whose value of `name` holds `text`, once there is one."""
        return self._wait(
            f"{name} with {text!r}",
            lambda said: [one for one in said[after:] if text in one.fields.get(name, "\0")][:1],
        )

    def wait_for_pings(self, count: int, *, after: int = 0) -> None:
        """Return once this many signs of life have come."""
        self._wait(
            f"{count} signs of life",
            lambda said: [one for one in said[after:] if "WATCHDOG" in one.fields][count - 1 :],
        )

    def _wait(self, what: str, search: Callable[[list[Said]], list[Said]]) -> Said:
        with self._changed:
            self._changed.wait_for(lambda: search(self._said), timeout=DEADLINE)
            found = search(self._said)
        assert found, f"{what}: not said, but {[one.fields for one in self.said]}"
        return found[0]
