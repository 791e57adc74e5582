"""Tells the service manager that started this process how it fares.

The protocol is sd_notify(3): lines in a datagram to the Unix socket that
NOTIFY_SOCKET names. systemd speaks it, and so do container engines.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import MutableMapping
from dataclasses import dataclass

log = logging.getLogger(__name__)

#: systemd drops datagrams above 4096 bytes.
_LONGEST_STATUS = 2000


@dataclass(frozen=True)
class Condition:
    """How a process fares.

    `serves`: it takes requests and its vital threads live; `ready`: it has a
    valid token; `text`: one line about that for people.
    """

    serves: bool
    ready: bool
    text: str


class ServiceManager:
    """Who hears of the start, the condition and the end; nobody without an address.

    `drain` is how many seconds the end may take, and `watchdog` how many it
    waits for a sign of life.
    """

    def __init__(
        self, address: str | None = None, *, drain: float, watchdog: float | None = None
    ) -> None:
        self._address = address
        self._drain = drain
        #: Seconds between signs of life, or None where nobody waits for them.
        self.ping_every = None if watchdog is None else watchdog / 2
        self._ping_at = 0.0
        self._ready = self._stopping = self._warned = False
        self._text: str | None = None

    @classmethod
    def of(cls, environ: MutableMapping[str, str], *, drain: float) -> ServiceManager:
        """Return the one that the environment names, and remove the name.

        A child process (`az`) must not speak for this one.
        """
        address = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        pid = environ.pop("WATCHDOG_PID", str(os.getpid()))
        watched = microseconds.isdecimal() and int(microseconds) and pid == str(os.getpid())
        seconds = int(microseconds) / 1e6 if watched else None
        return cls(address or None, drain=drain, watchdog=seconds)

    @property
    def listens(self) -> bool:
        """Whether anybody hears what is said here."""
        return self._address is not None

    def report(self, condition: Condition) -> None:
        """Say what is new in the condition, and give a sign of life when one is due.

        To be called about once a second. A process that cannot serve gives no
        sign, and so is restarted.
        """
        now = time.monotonic()
        ready = condition.serves and not self._ready and not self._stopping
        text = self._text if self._stopping else condition.text
        ping = condition.serves and self.ping_every is not None and now >= self._ping_at
        lines = ["READY=1"] * ready + ["WATCHDOG=1"] * ping
        if text != self._text:
            lines.append(_status(condition.text))
        # What could not be sent is new the next time as well.
        if lines and self._send(lines):
            self._ready, self._text = self._ready or ready, text
            if ping and self.ping_every is not None:
                self._ping_at = now + self.ping_every

    def stopping(self) -> None:
        """Say that the process drains, and ask for the time that this may take."""
        self._stopping = True
        status = _status(f"Draining, for {self._drain:g} seconds at most.")
        self._send(["STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(self._drain * 1e6)}", status])

    def _send(self, lines: list[str]) -> bool:
        if self._address is None:
            return False
        address = f"\0{self._address[1:]}" if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                # A service manager that is busy must not hold up the main loop.
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(errors="replace"), address)
        except OSError as error:
            if not self._warned:
                self._warned = True
                fields = {"NOTIFY_SOCKET": self._address, "Problem": str(error)}
                log.warning("Cannot reach the service manager.", extra={"fields": fields})
            return False
        return True


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())[:_LONGEST_STATUS]}"
