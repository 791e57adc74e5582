"""Requests that mislead about the connection: who may use it next, and from which byte on."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.hostile.case import (
    BOTH_TAKEN,
    CHUNKED,
    EMPTY,
    GET,
    HEADER_TOO_LARGE,
    HELLO,
    NOTHING,
    POST,
    REFUSED,
    SECOND,
    SMUGGLED,
    TAKEN,
    TAKEN_LAST,
    THEN_REFUSED,
    TOO_LARGE,
    Case,
    Expected,
)

H2C = b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"


def connection_cases() -> Iterator[Case]:
    """Yield them all; the names are distinct."""
    for table in (_connections, _expectations, _pipelines, _sizes, _tedious, _unfinished):
        yield from table()


def _connections() -> Iterator[Case]:
    for name, fields in {
        "keep-alive": b"Connection: keep-alive\r\nKeep-Alive: timeout=1000\r\n",
        "unknown": b"Connection: foo\r\n",
        "empty": b"Connection: ,, ,\r\n",
        "own-fields": b"Connection: Authorization, Host, X-Forwarded-For, Content-Length\r\n",
        "cookie": b"Connection: Cookie\r\nCookie: a=b\r\n",
        "proxy": b"Proxy-Connection: close\r\n",
        "not-quite-close": b"Connection: closed, xclose, close;q=1\r\n",
        "high-close": b"Connection: \xa0close\r\n",
        "upgrade-h2c": b"Connection: Upgrade, HTTP2-Settings\r\n" + H2C,
        "upgrade-h2c-unnamed": H2C,
        "te": b"Connection: TE\r\nTE: trailers\r\n",
        "nonsense": b'Connection: "a, close", (b)\r\n',
        "many": b"Connection: " + b"a, " * 1000 + b"b\r\n",
    }.items():
        yield Case(f"connection-{name}", GET + fields + b"\r\n", TAKEN)
    for name, fields in {
        "close": b"Connection: close\r\n",
        "close-in-a-list": b"Connection: keep-alive,\tCLOSE ,x\r\n",
        "close-in-the-second": b"Connection: keep-alive\r\nConnection: close\r\n",
        # What comes behind it may be in the other protocol.
        "upgrade-websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    }.items():
        yield Case(f"connection-{name}", GET + fields + b"\r\n" + SMUGGLED, TAKEN_LAST)


def _expectations() -> Iterator[Case]:
    for name, fields, body in (
        ("100", b"Expect: 100-continue\r\nContent-Length: 5\r\n", b"hello"),
        ("100-upper", b"EXPECT: 100-CONTINUE\r\nContent-Length: 5\r\n", b"hello"),
        ("100-chunked", b"Expect: 100-continue\r\n" + CHUNKED, HELLO),
        ("100-twice", b"Expect: 100-continue\r\n" * 2 + b"Content-Length: 5\r\n", b"hello"),
        ("100-no-body", b"Expect: 100-continue\r\n", b""),
        ("100-zero", b"Expect: 100-continue\r\nContent-Length: 0\r\n", b""),
        ("100-list", b"Expect: 100-continue, x\r\nContent-Length: 5\r\n", b"hello"),
        ("other", b"Expect: 200-ok\r\nContent-Length: 5\r\n", b"hello"),
        ("empty", b"Expect:\r\nContent-Length: 5\r\n", b"hello"),
    ):
        yield Case(f"expect-{name}", POST + fields + b"\r\n" + body, TAKEN)
    both = POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n" + CHUNKED + b"\r\n"
    yield Case("expect-both-framings", both + EMPTY + SMUGGLED, REFUSED)


def _pipelines() -> Iterator[Case]:
    hello = POST + b"Content-Length: 5\r\n\r\nhello"
    yield Case("pipeline-two", GET + b"\r\n" + SECOND, BOTH_TAKEN)
    yield Case("pipeline-body-first", hello + SECOND, BOTH_TAKEN)
    yield Case("pipeline-chunks-first", POST + CHUNKED + b"\r\n" + HELLO + SECOND, BOTH_TAKEN)
    yield Case("pipeline-empty-line-between", hello + b"\r\n" + SECOND, BOTH_TAKEN)
    yield Case("pipeline-ten", (GET + b"\r\n") * 10, Expected((200,) * 10, 10, False))
    yield Case("pipeline-head-first", GET.replace(b"GET", b"HEAD") + b"\r\n" + SECOND, BOTH_TAKEN)
    waits = POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"
    yield Case("pipeline-expect-second", GET + b"\r\n" + waits, BOTH_TAKEN)
    for name, second in {
        "rest-of-a-body": b"hello" + SMUGGLED,
        "both-framings": POST + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n" + EMPTY,
        "bad-length": POST + b"Content-Length: x\r\n\r\n",
        "bad-chunk": POST + CHUNKED + b"\r\nx\r\n",
        "nul": b"\0",
        "blank": b" ",
        "lf": b"\n",
        "longer-than-it-says": b"," + SMUGGLED,
    }.items():
        yield Case(f"pipeline-then-{name}", hello + second, THEN_REFUSED)


def _sizes() -> Iterator[Case]:
    length = b"Content-Length: %d\r\n\r\n"
    yield Case("size-body-announced", POST + length % (64 * 1024 * 1024 + 1), TOO_LARGE)
    yield Case("size-body-beyond-64-bits", POST + length % 2**64, TOO_LARGE)
    yield Case("size-body-2-to-the-64-and-5", POST + length % (2**64 + 5), TOO_LARGE)
    yield Case("size-body-2-to-the-32-and-5", POST + length % (2**32 + 5), TOO_LARGE)
    yield Case("size-body-of-300-digits", POST + length % 10**300, TOO_LARGE)
    yield Case("size-header-value", GET + b"X: " + b"x" * 65536 + b"\r\n\r\n", HEADER_TOO_LARGE)
    yield Case("size-header-name", GET + b"x" * 65536 + b": y\r\n\r\n", HEADER_TOO_LARGE)
    yield Case("size-header-count", GET + b"X: y\r\n" * 11000 + b"\r\n", HEADER_TOO_LARGE)
    line = b"GET /-CASE-" + b"a" * 65536 + b" HTTP/1.1\r\n" + b"Host: a\r\n\r\n"
    yield Case("size-target", line, HEADER_TOO_LARGE)
    yield Case("size-method", b"A" * 65536 + b" /-CASE- HTTP/1.1\r\n\r\n", HEADER_TOO_LARGE)
    yield Case("size-no-line-end", b"GET /-CASE-" + b"a" * 66000, HEADER_TOO_LARGE)


def _tedious() -> Iterator[Case]:
    """Much of what makes careless patterns try the same bytes again and again."""
    for name, piece in {
        **{"commas": b",", "blanks": b" ", "words": b"a ", "list": b"a, ", "semicolons": b";"},
        **{
            "quotes": b'"',
            "backslashes": b"\\",
            "equals": b"a=",
            "tokens": b"eyJ-",
            "high": b"\xff",
        },
        **{"dots": b"a.", "slashes": b"/", "bearers": b"bearer ", "colons": b":", "percent": b"%2"},
    }.items():
        much = piece * (40_000 // len(piece))
        fields = b"X: %b\r\nCookie: x%bx\r\n" % ((much[: 20_000 // len(piece) * len(piece)],) * 2)
        yield Case(f"tedious-{name}-in-fields", GET + fields + b"\r\n", TAKEN)
        if not piece.count(b" "):
            line = b"GET /-CASE-" + much + b" HTTP/1.1\r\nHost: a\r\n\r\n"
            yield Case(f"tedious-{name}-in-the-target", line, TAKEN)
    for field in (
        b"Connection",
        b"X-Request-ID",
        b"User-Agent",
        b"X-Forwarded-For",
        b"Traceparent",
    ):
        value = b"eyJ-,eyJ-; " * 3000 + b"x"
        raw = GET + field + b": " + value + b"\r\n\r\n"
        yield Case(f"tedious-{field.decode()}", raw, TAKEN)


def _unfinished() -> Iterator[Case]:
    """The next request is taken for the rest of this one, or for nonsense."""
    yield Case("unfinished-head", GET, REFUSED)
    yield Case("unfinished-line", b"GET /-CASE-", REFUSED)
    yield Case("unfinished-crlf", GET + b"\r", REFUSED)
    yield Case("unfinished-chunk-size", POST + CHUNKED + b"\r\n5", REFUSED)
    yield Case("unfinished-trailers", POST + CHUNKED + b"\r\n0\r\nX: y\r\n", REFUSED)
    yield Case("unfinished-end", POST + CHUNKED + b"\r\n0\r\n", REFUSED)
    yield Case("unfinished-body", POST + b"Content-Length: 1000\r\n\r\nhello", NOTHING)
    yield Case("unfinished-chunk", POST + CHUNKED + b"\r\n1000\r\nhello", NOTHING)
