"""Requests that two parsers could read in two ways, each with what is to become of it.

Every one carries `-CASE-`, of which a driver makes a number of the same
length, so that whatever arrives somewhere tells where it came from. What may
never be taken for a request of its own is `SMUGGLED`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Expected:
    """What a client gets for its bytes: statuses, and whether the connection ends with them.

    `forwarded` is how many requests reach the target.
    """

    statuses: tuple[int, ...]
    forwarded: int
    closes: bool

    def and_one_more(self) -> Expected:
        """Return it with that of a good request that follows, and ends the connection."""
        return Expected((*self.statuses, 200), self.forwarded + 1, True)


@dataclass(frozen=True)
class Case:
    """Bytes to send, and what is to become of them."""

    name: str
    raw: bytes
    expected: Expected

    @property
    def exceeds_a_limit(self) -> bool:
        """Whether it is valid, but more than the proxy takes."""
        return bool(set(self.expected.statuses) & {413, 431})


#: With 400, or 501 for a transfer coding.
REFUSED = Expected((400,), 0, True)
TOO_LARGE = Expected((413,), 0, True)
HEADER_TOO_LARGE = Expected((431,), 0, True)
TAKEN = Expected((200,), 1, False)
TAKEN_LAST = Expected((200,), 1, True)
BOTH_TAKEN = Expected((200, 200), 2, False)
THEN_REFUSED = Expected((200, 400), 1, True)
BAD_TARGET = Expected((400,), 0, False)
BAD_METHOD = Expected((405,), 0, False)
NOTHING = Expected((), 0, False)

SMUGGLED = b"GET /smuggled-CASE- HTTP/1.1\r\nHost: a\r\n\r\n"
SECOND = SMUGGLED.replace(b"smuggled", b"second")
GET = b"GET /-CASE- HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /-CASE- HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
EMPTY = b"0\r\n\r\n"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"

#: Control characters, but for the tab.
CONTROLS = [byte for byte in range(0x20) if byte != 0x09] + [0x7F]
