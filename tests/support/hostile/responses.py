"""Responses that mislead about where they end, and what a client may see of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.support import actions
from tests.support.upstream import Exchange, Handler
from tests.support.wire import chunks

#: What no client may ever see: the response to a request that no client sent.
EXCESS = b"HTTP/1.1 200 OK\r\nX-Smuggled: 1\r\nContent-Length: 4\r\n\r\nevil"

BAD_GATEWAY = 502


@dataclass(frozen=True)
class Seen:
    """A response as the client is to see it; `cut` where it has to see that its end is missing."""

    status: int
    body: bytes = b""
    cut: bool = False


GOOD = Seen(200, b"good")
NO_BODY = Seen(200)
REFUSED = Seen(BAD_GATEWAY)
CUT = Seen(200, b"good", cut=True)


@dataclass(frozen=True)
class Misframed:
    """How the target responds, and what the client is to see."""

    name: str
    handler: Handler
    seen: Seen
    method: str = "GET"
    sends: bytes | None = None


def misframed_responses() -> Iterator[Misframed]:
    """Yield them all; the names are distinct."""
    for table in (_lengths, _codings, _chunks, _heads, _bodiless, _interim, _early):
        yield from table()


def _kept(name: str, raw: bytes, seen: Seen, method: str = "GET") -> Misframed:
    return Misframed(name, actions.raw(raw), seen, method)


def _closed(name: str, raw: bytes, seen: Seen) -> Misframed:
    return Misframed(name, actions.then_close(raw), seen)


def _head(*fields: str, status: str = "200 OK", version: str = "HTTP/1.1") -> bytes:
    return actions.head(status, *fields, version=version)


def _lengths() -> Iterator[Misframed]:
    four, chunked = "Content-Length: 4", "Transfer-Encoding: chunked"
    yield _kept("length-and-more", _head(four) + b"good" + EXCESS, GOOD)
    yield _kept("length-and-a-line-end", _head(four) + b"good\r\n", GOOD)
    yield _kept("length-and-a-byte", _head(four) + b"good\0", GOOD)
    yield _kept("length-zero-and-more", _head("Content-Length: 0") + EXCESS, NO_BODY)
    yield _kept("length-twice-the-same", _head(four, four) + b"good" + EXCESS, GOOD)
    yield _kept("length-list-of-the-same", _head("Content-Length: 4, 4") + b"good" + EXCESS, GOOD)
    yield _kept("length-with-zeros", _head("Content-Length: 0004") + b"good" + EXCESS, GOOD)
    yield _kept("length-blank-before-colon", _head("Content-Length : 4") + b"good" + EXCESS, GOOD)
    yield _kept("length-folded", _head("Content-Length:", " 4") + b"good" + EXCESS, GOOD)
    yield _kept("length-behind-a-fold", _head("X: y", " Content-Length: 0", four) + b"good", GOOD)
    named = _head("Connection: Content-Length", four)
    yield _kept("length-named-by-connection", named + b"good" + EXCESS, GOOD)
    yield _kept("length-and-close", _head(four, "Connection: close") + b"good" + EXCESS, GOOD)
    old = _head(four, "Connection: keep-alive", version="HTTP/1.0")
    yield _kept("length-of-an-old-server", old + b"good" + EXCESS, GOOD)
    yield _closed("length-too-long", _head("Content-Length: 400") + b"good", CUT)
    yield _closed("length-of-18-digits", _head(f"Content-Length: {'9' * 18}") + b"good", CUT)
    for name, fields in {
        "of-19-digits": [f"Content-Length: {'9' * 19}"],
        "two": [four, f"Content-Length: {4 + len(EXCESS)}"],
        "two-in-a-list": [f"Content-Length: 4, {4 + len(EXCESS)}"],
        "list-with-an-empty-one": ["Content-Length: 4,"],
        "empty-and-good": ["Content-Length:", four],
        "hexadecimal": ["Content-Length: 0x4"],
        "folded-digits": ["Content-Length: 4", " 4"],
        "high": ["Content-Length: \xb2"],
    }.items():
        yield _closed(f"length-{name}", _head(*fields) + b"good" + EXCESS, REFUSED)
    both = chunks(b"good") + EXCESS
    for name, fields in {
        "short-length": [four, chunked],
        "long-length": [chunked, f"Content-Length: {len(both)}"],
        "zero-length": ["Content-Length: 0", chunked],
        "named-by-connection": [four, chunked, "Connection: Transfer-Encoding, Content-Length"],
    }.items():
        yield _kept(f"both-{name}", _head(*fields) + both, GOOD)
    yield _kept("both-of-an-old-server", _head(four, chunked, version="HTTP/1.0") + both, GOOD)
    whole = b"good" + EXCESS
    yield _closed("no-framing", _head() + whole, Seen(200, whole))
    yield _closed("no-framing-kept", _head("Connection: keep-alive") + whole, Seen(200, whole))


def _codings() -> Iterator[Misframed]:
    body = chunks(b"good") + EXCESS
    for name, fields in {
        "plain": ["Transfer-Encoding: chunked"],
        "upper": ["TRANSFER-ENCODING: CHUNKED"],
        "blank-before-colon": ["Transfer-Encoding : chunked"],
        "folded": ["Transfer-Encoding:", " chunked"],
        "comma-after": ["Transfer-Encoding: chunked,"],
        "named-by-connection": ["Connection: transfer-encoding", "Transfer-Encoding: chunked"],
        "of-an-old-server": ["Connection: keep-alive", "Transfer-Encoding: chunked"],
    }.items():
        version = "HTTP/1.0" if name == "of-an-old-server" else "HTTP/1.1"
        yield _kept(f"coding-{name}", _head(*fields, version=version) + body, GOOD)
    for name, fields in {
        "twice": ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        "identity-chunked": ["Transfer-Encoding: identity, chunked"],
        "identity-twice": ["Transfer-Encoding: identity", "Transfer-Encoding: identity"],
        "gzip": ["Transfer-Encoding: gzip"],
        "gzip-chunked": ["Transfer-Encoding: gzip, chunked"],
        "parameter": ["Transfer-Encoding: chunked;q=1"],
        "high": ["Transfer-Encoding: \xa0chunked"],
        "cut": ["Transfer-Encoding: chunk"],
        "vertical-tab": ["Transfer-Encoding: \x0bchunked"],
        "folded-list": ["Transfer-Encoding: chunked", " , identity"],
    }.items():
        yield _closed(f"coding-{name}", _head(*fields) + body, REFUSED)
    # RFC 2616 section 3.6: none at all.
    identity = "Transfer-Encoding: Identity"
    yield _closed("coding-identity", _head(identity) + body, Seen(200, body))
    yield _kept(
        "coding-identity-length", _head(identity, "Content-Length: 4") + b"good" + EXCESS, GOOD
    )
    # Not named so that anybody counts on it.
    underscore = _head("Transfer_Encoding: chunked", "Content-Length: 4")
    yield _kept("coding-underscore", underscore + b"good" + EXCESS, GOOD)


def _chunks() -> Iterator[Misframed]:
    head = _head("Transfer-Encoding: chunked")
    for name, body in {
        "bare-lf": b"4\ngood\n0\n\n",
        "ext": b"4;a=b\r\ngood\r\n0;c\r\n\r\n",
        "zeros": b"0000000000000004\r\ngood\r\n00\r\n\r\n",
        "trailer": b"4\r\ngood\r\n0\r\nX-Smuggled: 1\r\nContent-Length: 4\r\n\r\n",
    }.items():
        yield _kept(f"chunk-{name}", head + body + EXCESS, GOOD)
    for name, body in {
        "plus": b"+4\r\ngood\r\n0\r\n\r\n",
        "0x": b"0x4\r\ngood\r\n0\r\n\r\n",
        "underscore": b"0_4\r\ngood\r\n0\r\n\r\n",
        "17-digits": b"00000000000000004\r\ngood\r\n0\r\n\r\n",
        "too-long": b"3\r\ngood\r\n0\r\n\r\n",
        "too-short": b"6\r\ngood\r\n0\r\n\r\n",
        "huge": b"ffffffffffffffff\r\n",
        "answer-for-a-trailer": b"0\r\n",
        "answer-for-a-size": b"",
        "answer-after-a-trailer": b"0\r\nX: y\r\n",
        "long-ext": b"4;" + b"x" * 2000 + b"\r\ngood\r\n0\r\n\r\n",
        "cr-for-crlf": b"4\rgood\r0\r\r",
    }.items():
        raw = head + b"4\r\ngood\r\n" + body + (b"" if name == "huge" else EXCESS)
        cut = Seen(200, b"goodgoo" if name == "too-long" else b"good", cut=True)
        if name == "too-short":
            cut = Seen(200, b"goodgood\r\n", cut=True)
        yield _closed(f"chunk-{name}", raw, cut)


def _heads() -> Iterator[Misframed]:
    four = "Content-Length: 4"
    for name, head in {
        "bare-lf": b"HTTP/1.1 200 OK\nContent-Length: 4\n\n",
        "lf-crlf": b"HTTP/1.1 200 OK\r\nContent-Length: 4\n\r\n",
        "blanks-in-the-status": b"HTTP/1.1 \t 200  OK\r\nContent-Length: 4\r\n\r\n",
        "minor-9": b"HTTP/1.9 200 OK\r\nContent-Length: 4\r\n\r\n",
        "upgrade": _head(four, "Connection: Upgrade", "Upgrade: h2c"),
        "encoded-line-end": _head(four, "Location: /%0d%0aX-Smuggled:%201"),
        "unicode-line-end": _head(four, "X: a\xe2\x80\xa8X-Smuggled: 1\x85X-Smuggled: 2"),
        "many-fields": _head(*["X: y"] * 5000, four),
        "many-cookies": _head(*[f"Set-Cookie: {n}=1" for n in range(500)], four),
        "long-field": _head("X: " + "x" * 200_000, four),
        "blanks": _head("X: " + " " * 100_000, four),
        "odd-names": _head("!#$%&'*+-.^_`|~: x", "x_y: z", four),
    }.items():
        yield _kept(f"head-{name}", head + b"good" + EXCESS, GOOD)
    for name, head in {
        "empty-line-first": b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n",
        "blank-first": b" HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n",
        "four-digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 4\r\n\r\n",
        "no-blank": b"HTTP/1.1 200OK\r\nContent-Length: 4\r\n\r\n",
        "reason-with-cr": b"HTTP/1.1 200 O\rK\r\nContent-Length: 4\r\n\r\n",
        "cr-cr": b"HTTP/1.1 200 OK\r\rContent-Length: 4\r\r",
        "folded-first": b"HTTP/1.1 200 OK\r\n X: y\r\nContent-Length: 4\r\n\r\n",
        "blanks-then-nul": _head("X: " + " " * 100_000 + "\0", four),
        "no-end-to-its-fields": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000,
        "request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    }.items():
        yield _closed(f"head-{name}", head + b"good" + EXCESS, REFUSED)


def _bodiless() -> Iterator[Misframed]:
    four = "Content-Length: 4"
    for status in ("204 No Content", "304 Not Modified"):
        for name, raw in {
            "length": _head(four, status=status) + b"evil" + EXCESS,
            "chunks": _head("Transfer-Encoding: chunked", status=status) + chunks(b"evil") + EXCESS,
            "answer": _head(status=status) + EXCESS,
        }.items():
            yield _kept(f"{status[:3]}-with-{name}", raw, Seen(int(status[:3])))
    for name, raw in {
        "length": _head(four) + b"evil" + EXCESS,
        "chunks": _head("Transfer-Encoding: chunked") + chunks(b"evil") + EXCESS,
        "answer": _head() + EXCESS,
        "both": _head(four, "Transfer-Encoding: chunked") + chunks(b"evil") + EXCESS,
    }.items():
        yield _kept(f"head-request-with-{name}", raw, NO_BODY, "HEAD")
    reset = _head("Content-Length: 4", status="205 Reset Content") + b"good" + EXCESS
    yield _kept("205-with-length", reset, Seen(205, b"good"))


def _interim() -> Iterator[Misframed]:
    final = _head("Content-Length: 4") + b"good" + EXCESS
    hints = _head("Link: </a>", status="103 Early Hints")
    yield _kept("interim-16", hints * 16 + final, GOOD)
    with_length = _head("Content-Length: 99", status="103 Early Hints")
    yield _kept("interim-with-length", with_length + final, GOOD)
    with_chunks = _head("Transfer-Encoding: chunked", status="100 Continue")
    yield _kept("interim-with-coding", with_chunks + final, GOOD)
    closing = _head("Connection: close", status="102 Processing")
    yield _kept("interim-that-closes", closing + final, GOOD)
    yield _kept("interim-unasked-100", _head(status="100 Continue") * 3 + final, GOOD)
    yield _closed("interim-flood", hints * 5000 + final, REFUSED)
    yield _closed("interim-body", with_length + b"evil" + final, REFUSED)
    switch = _head("Connection: Upgrade", "Upgrade: h2c", status="101 Switching Protocols")
    yield _closed("interim-101", switch + final, REFUSED)
    yield _closed("interim-alone", hints, REFUSED)
    yield _closed("interim-broken", hints + b"HTTP/1.1 103 Early\0Hints\r\n\r\n" + final, REFUSED)


def _early() -> Iterator[Misframed]:
    """Responses that do not wait for the body of their request."""
    body = b"b" * 300_000
    answer = actions.answer(200, body=b"good")

    def read_on(exchange: Exchange) -> None:
        exchange.send(answer)
        exchange.discard_body()

    def read_on_and_send_more(exchange: Exchange) -> None:
        exchange.send(answer + EXCESS)
        exchange.discard_body()

    def close(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(answer + EXCESS)
        exchange.close()

    for name, handler in {
        "then-read": read_on,
        "with-more-then-read": read_on_and_send_more,
        "with-more-then-close": close,
    }.items():
        yield Misframed(f"early-{name}", handler, GOOD, "POST", body)
