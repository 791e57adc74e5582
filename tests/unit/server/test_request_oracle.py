"""Requests against h11, which reads and writes HTTP/1.1 by itself."""

from __future__ import annotations

import h11
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.parsed import Parsed

#: Names without an underscore, which would be dropped, and of no field that has a meaning here.
_NAME = st.from_regex(r"X-[!#$%&'*+.^`|~0-9A-Za-z-]{1,12}", fullmatch=True)
_VALUE = st.from_regex(r"([!-~\x80-\xff]([ \t!-~\x80-\xff]{0,20}[!-~])?)?", fullmatch=True)

#: A request as both see it: method, request target, and content.
Seen = tuple[str, str, bytes]


def read(*parts: bytes) -> Parsed:
    """Return what our server makes of bytes that come in these parts."""
    parsed = Parsed(body_limit=10_000, header_limit=10_000)
    for part in parts:
        parsed.feed(part)
    parsed.close()
    return parsed


@given(
    method=st.from_regex(r"[A-Z][A-Z-]{0,10}", fullmatch=True),
    target=st.from_regex(r"/[!\"$-~]{0,20}", fullmatch=True),
    fields=st.lists(st.tuples(_NAME, _VALUE), max_size=6),
    pieces=st.lists(st.binary(min_size=1, max_size=50), max_size=5),
    chunked=st.booleans(),
    cut=st.integers(0, 500),
)
def test_what_h11_writes_is_read_as_it_was_meant(
    method: str,
    target: str,
    fields: list[tuple[str, str]],
    pieces: list[bytes],
    chunked: bool,
    cut: int,
) -> None:
    body = b"".join(pieces)
    framing = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(body)))
    writer = h11.Connection(h11.CLIENT)
    sent = [("Host", "proxy.test"), *fields, framing]
    request = h11.Request(
        method=method,
        target=target,
        headers=[(name.encode(), value.encode("latin-1")) for name, value in sent],
    )
    events = [request, *map(h11.Data, pieces), h11.EndOfMessage()]
    raw = b"".join(writer.send(event) or b"" for event in events)
    parsed = read(raw[:cut], raw[cut:])
    assert parsed.refusal is None
    ((received, content),) = parsed.requests
    assert (received.command, received.request_uri, content) == (method, target, body)
    joined: dict[str, list[str]] = {}
    for name, value in fields:
        joined.setdefault(name.upper().replace("-", "_"), []).append(value)
    names = [name for name in received.headers if name.startswith("X_")]
    assert {name: received.headers[name] for name in names} == {
        name: ", ".join(values) for name, values in joined.items()
    }


#: Pieces of which requests that are nearly right are made: fields, and what follows them.
_FRAMING = [
    b"Content-Length: 3\r\n",
    b"Content-Length: 3, 3\r\n",
    b"Content-Length: +3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding:\tchunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
]
_OTHERS = [b"Host: b\r\n", b"Connection: close\r\n", b"X : y\r\n", b" folded\r\n", b"X: y\n"]
_BODY = [b"3\r\nabc\r\n", b"3;x=y\r\nabc\r\n", b"+3\r\nabc\r\n", b"3\nabc\n", b"abc"]
_END = [b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"0\n\n", b""]
_NEXT = [b"", b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n", b"GET  /2 HTTP/1.1\r\nHost: a\r\n\r\n"]


def _some(pieces: list[bytes], most: int) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(pieces), max_size=most).map(b"".join)


_BYTES = st.tuples(
    st.sampled_from([*_FRAMING, b""]),
    _some([*_FRAMING, *_OTHERS], 1),
    st.sampled_from([b"\r\n", b"\r\n", b"\n"]),
    _some(_BODY, 2),
    st.sampled_from(_END),
    st.sampled_from(_NEXT),
).map(b"".join)


@examples(3)
@given(_BYTES.map(lambda rest: b"POST /0 HTTP/1.1\r\nHost: a\r\n" + rest))
def test_what_we_take_for_requests_h11_takes_for_the_same(raw: bytes) -> None:
    """To be stricter is no fault; that we are not too strict the test above shows."""
    ours = [(each.command, each.request_uri, content) for each, content in read(raw).requests]
    theirs = read_by_h11(raw)
    assert theirs[: len(ours)] == ours[: len(theirs)]
    assert bool(theirs) >= bool(ours)  # behind the first, we skip empty lines, and h11 does not


def read_by_h11(raw: bytes) -> list[Seen]:
    """Return the whole requests that h11 finds, up to one that it refuses or that is the last."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(raw)
    found: list[Seen] = []
    request, content = None, b""
    try:
        while True:
            event = server.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                break
            if isinstance(event, h11.Request):
                request, content = event, b""
            elif isinstance(event, h11.Data):
                content += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert request is not None
                found.append((request.method.decode(), request.target.decode("latin-1"), content))
                server.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                server.send(h11.EndOfMessage())
                if server.our_state is not h11.DONE or server.their_state is not h11.DONE:
                    break
                server.start_next_cycle()
    except h11.RemoteProtocolError:
        pass  # what it refuses is no request
    return found
