"""Upstream responses against h11, which reads and writes HTTP/1.1 by itself."""

from __future__ import annotations

import socket
from contextlib import closing
from http.client import HTTPException

import h11
from hypothesis import given
from hypothesis import strategies as st

from authproxy.upstream.response_reader import ResponseReader

_TOKEN = st.from_regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}", fullmatch=True)
_VALUE = st.from_regex(r"([!-~\x80-\xff]([ \t!-~\x80-\xff]{0,20}[!-~])?)?", fullmatch=True)
_FRAMING = ("content-length", "transfer-encoding", "connection")
_FIELDS = st.lists(
    st.tuples(_TOKEN, _VALUE).filter(lambda field: field[0].lower() not in _FRAMING),
    max_size=6,
)


def read(raw: bytes, method: str = "GET") -> tuple[ResponseReader, bytes]:
    """Return what our reader makes of these bytes, of which no more come."""
    ours, theirs = socket.socketpair()
    with closing(ours):
        with theirs:
            theirs.sendall(raw)
        reader = ResponseReader(ours, method)
        reader.begin()
        return reader, b"".join(reader.pieces())


@given(
    status=st.integers(200, 599).filter(lambda status: status not in (204, 304)),
    reason=st.from_regex(r"[A-Za-z]?[A-Za-z ']{0,20}", fullmatch=True).map(str.strip),
    fields=_FIELDS,
    pieces=st.lists(st.binary(min_size=1, max_size=50), max_size=5),
    framing=st.sampled_from(["length", "chunked", "end"]),
)
def test_what_h11_writes_is_read_as_it_was_meant(
    status: int,
    reason: str,
    fields: list[tuple[str, str]],
    pieces: list[bytes],
    framing: str,
) -> None:
    writer = h11.Connection(h11.SERVER)
    writer.receive_data(b"GET / HTTP/1.1\r\nHost: t.test\r\n\r\n")
    while not isinstance(writer.next_event(), h11.EndOfMessage):
        pass
    framed = {
        "length": [("Content-Length", str(sum(map(len, pieces))))],
        "chunked": [("Transfer-Encoding", "chunked")],
        "end": [("Connection", "close")],
    }[framing]
    sent = [(name.encode(), value.encode("latin-1")) for name, value in fields + framed]
    if framing == "end":  # h11 would choose chunks
        raw = f"HTTP/1.1 {status} {reason}\r\n".encode()
        raw += b"".join(name + b": " + value + b"\r\n" for name, value in sent) + b"\r\n"
        raw += b"".join(pieces)
    else:
        response = h11.Response(status_code=status, reason=reason.encode(), headers=sent)
        events = [response, *map(h11.Data, pieces), h11.EndOfMessage()]
        raw = b"".join(writer.send(event) or b"" for event in events)
    reader, body = read(raw)
    assert (reader.head.status, reader.head.reason) == (status, reason)
    assert reader.head.fields == fields + framed
    assert body == b"".join(pieces)
    assert reader.complete
    assert reader.will_close is (framing == "end")
    assert not reader.surplus


#: Pieces of which responses that are nearly right are made.
_BYTES = st.lists(
    st.sampled_from(
        [
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 204\r\n",
            b"HTTP/1.0 200 OK\r\n",
            b"Content-Length: 3\r\n",
            b"Content-Length: 3, 3\r\n",
            b"Content-Length: 4\r\n",
            b"content-length:3\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: gzip\r\n",
            b"Connection: close\r\n",
            b"Connection: keep-alive\r\n",
            b"X : y\r\n",
            b" folded\r\n",
            b"X: y\r\n",
            b"\r\n",
            b"\n",
            b"3\r\nabc\r\n",
            b"3;x=y\r\nabc\r\n",
            b"0\r\n\r\n",
            b"0\r\nX: y\r\n\r\n",
            b"abc",
            b"abcd",
        ]
    ),
    max_size=10,
).map(b"".join)


@given(_BYTES.map(lambda rest: b"HTTP/1.1 200 OK\r\n" + rest), st.sampled_from(["GET", "HEAD"]))
def test_what_both_take_for_a_response_both_read_alike(raw: bytes, method: str) -> None:
    theirs = read_by_h11(raw, method)
    try:
        reader, body = read(raw, method)
    except (HTTPException, ValueError):
        return  # to be stricter is no fault; that it is not too strict the test above shows
    if theirs is None:
        return
    response, content = theirs
    assert (reader.head.status, body) == (response.status_code, content)
    names = {name for name, _ in reader.head.fields}
    assert {name.lower().encode() for name in names} == {name for name, _ in response.headers}


def read_by_h11(raw: bytes, method: str) -> tuple[h11.Response, bytes] | None:
    """Return the response and its body; None where h11 takes it for none."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "t.test")]))
    client.send(h11.EndOfMessage())
    client.receive_data(raw)
    client.receive_data(b"")
    response, content = None, b""
    try:
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                content += event.data
            elif event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                return None
    except h11.RemoteProtocolError:
        return None
    assert response is not None
    return response, content
