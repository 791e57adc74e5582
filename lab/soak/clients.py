"""Clients that ask on through everything, and remember what they saw."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from lab.soak.exporter import METRIC

#: Seconds until a client gives up; longer than anything that the proxy's settings allow.
PATIENCE = 20.0

GOOD = "200"


@dataclass(frozen=True)
class Seen:
    """What came of one request; times on the monotonic clock."""

    began: float
    ended: float
    outcome: str


class Client(threading.Thread):
    """Sends requests with pauses, on one connection as long as it lasts."""

    def __init__(self, port: int, paths: Sequence[str], *, pause: float, keep: bool = True) -> None:
        super().__init__(daemon=True)
        self.seen: list[Seen] = []
        self._port, self._paths, self._pause, self._keep = port, paths, pause, keep
        self._connection: http.client.HTTPConnection | None = None
        self._end = threading.Event()

    def run(self) -> None:
        turn = 0
        while not self._end.wait(self._pause):
            began = time.monotonic()
            outcome = self._ask(self._paths[turn % len(self._paths)])
            self.seen.append(Seen(began, time.monotonic(), outcome))
            turn += 1
        self._hang_up()

    def stop(self) -> None:
        self._end.set()
        self.join()

    def _ask(self, path: str) -> str:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        try:
            self._connection.request("GET", path)
            response = self._connection.getresponse()
            body = response.read()
        except TimeoutError:
            self._hang_up()
            return f"no response in {PATIENCE:.0f} s"
        except ConnectionRefusedError:
            self._hang_up()
            return "connection refused"
        except http.client.IncompleteRead:
            self._hang_up()
            return "response cut"
        except (ConnectionError, http.client.HTTPException):
            # Also RemoteDisconnected, where the server ended a kept connection.
            self._hang_up()
            return "connection ended"
        if response.will_close or not self._keep:
            self._hang_up()
        return self._outcome(path, response.status, body)

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _outcome(self, path: str, status: int, body: bytes) -> str:
        try:
            content = json.loads(body)
        except ValueError:
            return f"{status}, and not JSON" if status == 200 else str(status)
        if status != 200:
            code = content.get("code") if isinstance(content, dict) else None
            return f"{status} {code}" if code else str(status)
        if path.startswith("/api/") and content.get("status") != "success":
            return "200, and no success"
        return GOOD


def asker(port: int) -> Client:
    """Return a client that asks the store through the proxy."""
    queries = (f"count({METRIC})", f"sum({METRIC})", f"max_over_time({METRIC}[1m])")
    paths = [f"/api/v1/query?{urlencode({'query': query})}" for query in queries]
    return Client(port, paths, pause=0.25)


def prober(port: int, path: str) -> Client:
    """Return a client that probes, on a connection of its own each time."""
    return Client(port, [path], pause=0.2, keep=False)
