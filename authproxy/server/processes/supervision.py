"""The health of the process, reported to the service manager; of several workers, summed up.

The protocol is sd_notify(3): lines in a datagram to the Unix socket that
NOTIFY_SOCKET names. systemd speaks it, and so do container engines.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from typing import Protocol

log = logging.getLogger(__name__)

#: systemd drops datagrams above 4096 bytes.
_LONGEST_STATUS = 2000

#: A worker that is silent for less has only missed a report or two.
_LEAST_SILENCE = 3.0


@dataclass(frozen=True)
class Health:
    """The health of a process.

    `serves`: it takes requests and its vital threads live; `ready`: it has a
    valid token; `text`: one line about that for people.
    """

    serves: bool
    ready: bool
    text: str


class Supervisor(Protocol):
    """Gets the health of one serving process, about once a second."""

    @property
    def listens(self) -> bool:
        """Whether reports have an effect."""

    def report(self, health: Health) -> None: ...

    def stopping(self) -> None: ...


class ServiceManager:
    """Gets the start, the health and the end; without an address nothing is sent.

    `drain` is how many seconds the end may take, and `watchdog` how many seconds it waits
    for a keep-alive ping.
    """

    def __init__(
        self, address: str | None = None, *, drain: float, watchdog: float | None = None
    ) -> None:
        self._address = address
        self._drain = drain
        #: Seconds between keep-alive pings, None without a watchdog.
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
        """Whether there is a service manager."""
        return self._address is not None

    def report(self, health: Health) -> None:
        """Send what has changed in the health, and a keep-alive ping when one is due.

        Called about once a second. A process that cannot serve sends no ping, and so is
        restarted.
        """
        now = time.monotonic()
        ready = health.serves and not self._ready and not self._stopping
        text = self._text if self._stopping else health.text
        ping = health.serves and self.ping_every is not None and now >= self._ping_at
        lines = ["READY=1"] * ready + ["WATCHDOG=1"] * ping
        if text != self._text:
            lines.append(_status(health.text))
        # What could not be sent counts as changed the next time as well.
        if lines and self._send(lines):
            self._ready, self._text = self._ready or ready, text
            if ping and self.ping_every is not None:
                self._ping_at = now + self.ping_every

    def stopping(self) -> None:
        """Report that the process drains, and ask for the time that this may take."""
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


class WorkersHealth:
    """Sums up the health of workers for their parent, which alone reports to the manager."""

    def __init__(self, manager: ServiceManager) -> None:
        self._manager = manager
        #: By pid: the last report, and when it came (monotonic).
        self._latest: dict[int, tuple[Health, float]] = {}

    @property
    def listens(self) -> bool:
        """Whether there is a service manager."""
        return self._manager.listens

    def take(self, worker: int, health: Health) -> None:
        """Note the health that a worker, given by its pid, reports."""
        self._latest[worker] = health, time.monotonic()

    def report(self, living: Iterable[int]) -> None:
        """Report the health of the living workers, given by pid, taken together."""
        if not self.listens:
            return
        # One that has not reported yet takes no requests either: it does not count.
        self._latest = {pid: self._latest[pid] for pid in living if pid in self._latest}
        self._manager.report(self._together(time.monotonic()))

    def begin_drain(self) -> None:
        """Report that all drain."""
        self._manager.stopping()

    def _together(self, now: float) -> Health:
        """One worker that is stuck or cannot serve decides: it still accepts connections."""
        watched = self._manager.ping_every
        silence = math.inf if watched is None else max(watched, _LEAST_SILENCE)
        every = [health for health, _ in self._latest.values()]
        stuck = [pid for pid, (_, at) in self._latest.items() if now - at > silence]
        if stuck:
            text = f"Cannot serve: nothing is heard of worker {', '.join(map(str, stuck))}."
            return Health(False, False, text)
        if not every:
            return Health(False, False, "No worker serves.")
        # The text of the worst one: that of a healthy worker says less.
        worst = min(every, key=lambda one: (one.serves, one.ready))
        ready = sum(one.ready for one in every)
        text = f"{ready} of {len(every)} workers are ready. {worst.text}"
        return Health(worst.serves, worst.ready, text)


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())[:_LONGEST_STATUS]}"
