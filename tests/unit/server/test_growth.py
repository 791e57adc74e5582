"""What clients send is read in time that grows with it, and no faster.

Double the input takes at most two and a half times the CPU time: what is measured is the
least of many runs, and whoever is unlucky measures again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from authproxy.http1.chunks import MAX_TRAILER_BYTES
from authproxy.server.request_head import MAX_FIELDS
from tests.support.parsed import Parsed
from tests.support.wire import chunks, message

SIZE = 16_000
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


def seconds(raw: bytes, piece: int) -> float:
    """Return the least CPU time in which the bytes are read, in pieces of this size."""
    pieces = [raw[at : at + piece] for at in range(0, len(raw), piece)]
    best = float("inf")
    for _ in range(9):
        parsed = Parsed(LIMIT, LIMIT)
        before = time.thread_time()
        for each in pieces:
            parsed.feed(each)
        best = min(best, time.thread_time() - before)
        parsed.close()
    return best


#: What takes less is measured by the price of its setting out.
LEAST_SECONDS = 0.0005


def grows(raw: Callable[[int], bytes], piece: int) -> float:
    """Return how many times as long double the input takes, at the best of three."""
    ratios = []
    for _ in range(3):
        once = max(seconds(raw(SIZE), piece), LEAST_SECONDS)
        ratios.append(seconds(raw(2 * SIZE), piece) / once)
        if ratios[-1] <= 2.5:
            break
    return min(ratios)


@pytest.mark.parametrize("kind", KINDS)
def test_double_the_input_takes_twice_as_long(kind: str) -> None:
    assert grows(KINDS[kind], 8192) <= 2.5


@pytest.mark.parametrize("kind", ["one long value", "empty lines", "one byte a chunk", "trailers"])
def test_so_it_does_where_it_comes_a_few_bytes_at_a_time(kind: str) -> None:
    assert grows(KINDS[kind], 3) <= 2.5
