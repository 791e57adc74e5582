"""Steady traffic of numbered requests, as Prometheus and Grafana would send it.

A writer sends a remote write again, with the same number, until it is taken, as
Prometheus does on 5xx and on lost connections. What each sender saw is kept.
"""

from __future__ import annotations

import itertools
import json
import select
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.support.wire import Address, Client, Response, Truncated, WireError, message

#: The longest wait for a response, and the pause between two requests, in seconds.
PATIENCE = 30.0
PAUSE = 0.03

GOOD = "served"
WRITE_PATH = "/api/v1/write"
QUERY_PATH = "/api/v1/query"


@dataclass(frozen=True)
class Sent:
    """One request, and what came of it."""

    number: int
    began: float
    ended: float
    outcome: str

    @property
    def good(self) -> bool:
        return self.outcome == GOOD


def content_of(number: int, size: int) -> bytes:
    """Return the body of a numbered request, which no other number has."""
    unit = b"%d;" % number
    return (unit * (size // len(unit) + 1))[:size]


def response_of(number: int) -> bytes:
    """Return what the target responds to a numbered query."""
    return b"response to %d" % number


class Sender:
    """Sends one request after the other, in a thread of its own."""

    def __init__(
        self,
        address: Callable[[], Address],
        numbers: itertools.count[int],
        *,
        writes: bool,
        size: int = 2000,
        keep: bool = True,
        fields: Sequence[str] = (),
    ) -> None:
        self._address = address
        self._fields = fields
        self._numbers = numbers
        self.writes = writes
        self._size = size
        self._keep = keep
        self._client: Client | None = None
        self._stop = threading.Event()
        #: One sequence, appended to by the thread and read by the test.
        self.sent: list[Sent] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(PATIENCE + 5)
        assert not self._thread.is_alive(), "a sender hangs"

    def acknowledged(self) -> set[int]:
        """Return the numbers of the remote writes that were taken."""
        return {each.number for each in self.sent if each.good} if self.writes else set()

    def _run(self) -> None:
        number = next(self._numbers)
        while not self._stop.wait(PAUSE):
            began = time.monotonic()
            outcome = self._ask(number)
            self.sent.append(Sent(number, began, time.monotonic(), outcome))
            if outcome == GOOD or not self.writes:
                number = next(self._numbers)
            if outcome != GOOD or not self._keep:
                self._hang_up()
        self._hang_up()

    def _hang_up(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _connected(self) -> Client:
        """Return a connection that the proxy has not closed meanwhile, as HTTP clients do."""
        if self._client is not None and select.select([self._client.sock], [], [], 0)[0]:
            self._hang_up()
        if self._client is None:
            self._client = Client(self._address(), timeout=PATIENCE)
        return self._client

    def _request(self, number: int) -> bytes:
        if not self.writes:
            return message(f"GET {QUERY_PATH}?number={number}", *self._fields)
        version = "X-Prometheus-Remote-Write-Version: 0.1.0"
        body = content_of(number, self._size)
        start = f"POST {WRITE_PATH}?number={number}"
        return message(start, version, *self._fields, body=body)

    def _ask(self, number: int) -> str:
        try:
            client = self._connected()
        except ConnectionRefusedError:
            return "connection refused"
        except OSError:
            return "no connection"
        try:
            client.offer(self._request(number))
            head = client.receive_head()
        except (ConnectionError, Truncated):
            return "connection closed"
        except (WireError, OSError):
            return "no response"
        try:
            head.body = b"".join(client.body_of(head, b"POST" if self.writes else b"GET"))
        except (ConnectionError, Truncated):
            return "response cut"
        except (WireError, OSError):
            return "response without end"
        return self._outcome(head, number)

    def _outcome(self, response: Response, number: int) -> str:
        if response.status in (200, 204):
            right = self.writes or response.body == response_of(number)
            return GOOD if right else "another's response"
        try:
            return f"{response.status} {json.loads(response.body)['code']}"
        except (ValueError, KeyError, TypeError):
            return str(response.status)


class Prober:
    """Asks /ready and /health all the time, and notes what changes."""

    def __init__(self, address: Callable[[], Address]) -> None:
        self._address = address
        self._stop = threading.Event()
        #: When, which probe, and its status; "none" where there was no response.
        self.seen: list[tuple[float, str, str]] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        for path in itertools.cycle(("/ready", "/health")):
            if self._stop.wait(0.05):
                return
            began = time.monotonic()
            try:
                with Client(self._address(), timeout=5) as client:
                    status = str(client.ask(message(f"GET {path}")).status)
            except (OSError, WireError):
                status = "none"
            self.seen.append((began, path, status))
