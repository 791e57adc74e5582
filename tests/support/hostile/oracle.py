"""What is to become of a client's bytes, by the strict reading of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.support.hostile.case import Expected
from tests.support.hostile.reading import End, Reading, Request, read

#: What the request after a case looks like; the connection ends with its response.
FOLLOW_UP = b"GET /after-CASE- HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

#: Refused by the proxy on principle: they are valid.
_NEVER_FORWARDED = {b"CONNECT", b"TRACE"}

_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*://[^/?#]*(.*)")


@dataclass(frozen=True)
class Sent:
    """A request that is to reach the target."""

    method: bytes
    target: bytes
    body: bytes


@dataclass(frozen=True)
class Prediction:
    """What a client is to get for its bytes, and the target of them.

    The responses are a method and a status for each. `waits` says that all is
    responded to, and that the proxy has a right to wait for more.
    """

    responses: list[tuple[bytes, int]]
    sent: list[Sent]
    closes: bool
    waits: bool

    def summary(self) -> Expected:
        """Return it as the tables have it."""
        return Expected(tuple(status for _, status in self.responses), len(self.sent), self.closes)


def predict(stream: bytes) -> Prediction:
    """Return what is to become of the bytes."""
    reading = read(stream)
    responses: list[tuple[bytes, int]] = []
    sent: list[Sent] = []
    for request in reading.requests:
        target = forwarded_target(request.target)
        if request.method in _NEVER_FORWARDED:
            responses.append((request.method, 405))
        elif target is None:
            responses.append((request.method, 400))
        else:
            responses.append((request.method, 200))
            sent.append(Sent(request.method, target, request.body))
    if reading.end is End.REFUSED:
        responses.append((b"GET", 400))
    return Prediction(responses, sent, _closes(reading), reading.end is End.UNFINISHED)


def _closes(reading: Reading) -> bool:
    last: Request | None = reading.requests[-1] if reading.requests else None
    return reading.end is End.REFUSED or (last is not None and not last.keeps_connection)


def forwarded_target(target: bytes) -> bytes | None:
    """Return what goes on: of the absolute form path and query (RFC 9112 section 3.2.2)."""
    if target.startswith(b"/") or target == b"*":
        return target
    match = _ABSOLUTE.fullmatch(target)
    if not match:
        return None
    return match[1] if match[1].startswith(b"/") else b"/" + match[1]
