"""What clients send is read in time that grows with it, and no faster."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from authproxy.http1.chunks import MAX_TRAILER_BYTES
from authproxy.server.request_head import MAX_FIELDS
from tests.support.growth import MOST, growth
from tests.support.parsed import Parsed
from tests.support.wire import chunks, message

LIMIT = 10_000_000

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = message("POST /", "Transfer-Encoding: chunked")

#: Names to what has so many bytes of one kind.
KINDS: dict[str, Callable[[int], bytes]] = {
    "blanks and a control character": lambda n: HEAD + b"X:" + b" " * n + b"\x01\r\n\r\n",
    "blanks between words": lambda n: HEAD + b"X:" + b" a" * (n // 2) + b"\r\n\r\n",
    "one long value": lambda n: HEAD + b"X:" + b"x" * n + b"\r\n\r\n",
    "one field again and again": lambda n: (
        HEAD + (b"X:" + b"x" * (n // 400) + b"\r\n") * 400 + b"\r\n"
    ),
    "fields beyond their number": lambda n: HEAD + b"X:\r\n" * (n // 4 + MAX_FIELDS) + b"\r\n",
    "cookies": lambda n: HEAD + (b"Cookie: " + b"x" * (n // 400) + b"\r\n") * 400 + b"\r\n",
    "a Host of percent signs": lambda n: (
        b"GET / HTTP/1.1\r\nHost: " + b"%41" * (n // 3) + b"\r\n\r\n"
    ),
    "a Host of colons": lambda n: b"GET / HTTP/1.1\r\nHost: " + b":" * n + b"\r\n\r\n",
    "a Transfer-Encoding of commas": lambda n: (
        HEAD + b"Transfer-Encoding: " + b"chunked," * (n // 8) + b"\r\n\r\n"
    ),
    "a Transfer-Encoding of blanks": lambda n: (
        HEAD + b"Transfer-Encoding:" + b" " * n + b"x\r\n\r\n"
    ),
    "a Connection of commas": lambda n: HEAD + b"Connection: " + b"a," * (n // 2) + b"\r\n\r\n",
    "a target of percent signs": lambda n: (
        b"GET /" + b"%25" * (n // 3) + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    ),
    "an absolute target": lambda n: b"GET http://" + b"a" * n + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "empty lines": lambda n: b"\r\n" * (n // 2) + HEAD + b"\r\n",
    "tiny requests": lambda n: (HEAD + b"\r\n") * (n // 27),
    "one byte a chunk": lambda n: CHUNKED + b"1\r\nx\r\n" * (n // 6) + b"0\r\n\r\n",
    "chunks with extensions": lambda n: CHUNKED + b"1;a=b\r\nx\r\n" * (n // 10) + b"0\r\n\r\n",
    "one long chunk": lambda n: CHUNKED + chunks(bytes(n)),
    "trailers": lambda n: CHUNKED + b"0\r\n" + b"a:b\r\n" * (min(n, MAX_TRAILER_BYTES // 2) // 5),
}


def grows(raw: Callable[[int], bytes], piece: int) -> float:
    """Return how many times as long four times the input takes, in pieces of this size."""

    def read(given: bytes) -> None:
        parsed = Parsed(LIMIT, LIMIT)
        for at in range(0, len(given), piece):
            parsed.feed(given[at : at + piece])
        parsed.close()

    return growth(read, raw)


@pytest.mark.parametrize("kind", KINDS)
def test_double_the_input_takes_twice_as_long(kind: str) -> None:
    assert grows(KINDS[kind], 8192) <= MOST


@pytest.mark.parametrize("kind", ["one long value", "empty lines", "one byte a chunk", "trailers"])
def test_so_it_does_where_it_comes_a_few_bytes_at_a_time(kind: str) -> None:
    assert grows(KINDS[kind], 3) <= MOST
