"""The request line, and what begins like no request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.http1.request_line import REQUEST_LINE, no_request_line, other_protocol
from tests.support.parsed import Parsed
from tests.support.wire import message


@pytest.mark.parametrize(
    ("first", "name"),
    [
        (b"\x16\x03\x01\x02\x00\x01", "TLS"),
        (b"\x16\x03\x03", "TLS"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "PROXY protocol"),
        (b"PROXY UNKNOWN", "PROXY protocol"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21", "PROXY protocol"),
        (b"\0\r\nQUIT\n\x21", "PROXY protocol"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2"),
        (b"\x04\x01\x00\x50", "SOCKS"),
        (b"\x04\x02\x00\x50", "SOCKS"),
        (b"\x05\x01\x00", "SOCKS"),
    ],
)
def test_other_protocols_are_known_by_their_first_bytes(first: bytes, name: str) -> None:
    assert name in (other_protocol(first) or "")


@pytest.mark.parametrize(
    "first",
    [
        *(b"GET / HTTP/1.1", b"PROXY / HTTP/1.1", b"PROXY TCP44 x", b"PRI / HTTP/1.1"),
        *(b"PRI * HTTP/2.00", b"\x16\x02", b"\x16", b"\0", b"\x04\x03", b"\x05\x00", b""),
        *(b"SSH-2.0-x", b" PROXY TCP4 ", b"\0\r\nQUIT"),
    ],
)
def test_nothing_else_is_taken_for_them(first: bytes) -> None:
    assert other_protocol(first) is None


def test_a_line_that_is_none_is_named_or_explained() -> None:
    assert "SOCKS" in no_request_line(b"\x05\x01")
    assert "request line" in no_request_line(b"GET /a#b HTTP/1.1")


@given(st.from_regex(REQUEST_LINE, fullmatch=True))
def test_no_request_is_of_another_protocol(line: bytes) -> None:
    assert other_protocol(line + b"\r\n") is None


def outcome(pieces: list[bytes]) -> tuple[list[tuple[str, str]], int | None]:
    """Return the requests that the pieces hold, and the status of what was refused."""
    parsed = Parsed(body_limit=1000, header_limit=2000)
    for piece in pieces:
        parsed.feed(piece)
    parsed.close()
    seen = [(request.command, request.request_uri) for request, _ in parsed.requests]
    return seen, None if parsed.refusal is None else parsed.refusal.status


HEADS = st.builds(
    lambda start, lines, ends: start + ends + b"Host: a" + ends + b"".join(lines) + ends,
    st.sampled_from([b"GET / HTTP/1.1", b"PRI * HTTP/2.0", b"PROXY TCP4 a", b"GET /", b"\x05\x01"]),
    st.lists(
        st.one_of(
            st.sampled_from([b"X: y\r\n", b"X_Y: z\r\n", b"X: y\n", b"X: y\r", b"X: y\r\r\n"]),
            st.binary(max_size=6),
        ),
        max_size=4,
    ),
    st.sampled_from([b"\r\n", b"\r\n", b"\n", b"\r"]),
)


@given(HEADS, st.lists(st.integers(0, 60), max_size=5))
def test_what_is_refused_before_its_end_would_have_been_refused_at_its_end(
    head: bytes, cuts: list[int]
) -> None:
    whole = outcome([head + b"\r\n\r\n"])
    places = sorted(cut for cut in cuts if cut < len(head))
    pieces = [head[a:b] for a, b in zip([0, *places], [*places, len(head)], strict=True)]
    assert outcome([*pieces, b"\r\n\r\n"]) == whole


def test_a_head_in_single_bytes_is_read_as_it_is_whole() -> None:
    raw = b"\r\n" + message("GET /x", "X: y", "Y_Z: z")
    assert outcome([bytes([byte]) for byte in raw]) == ([("GET", "/x")], None)
