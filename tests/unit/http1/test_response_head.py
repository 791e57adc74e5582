"""Reading the target's answers: strict heads, visible truncation."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException, IncompleteRead
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.http1.chunks import MalformedChunk
from authproxy.http1.response_head import (
    MAX_HEAD_BYTES,
    MAX_INTERIM_RESPONSES,
    MalformedResponse,
    parse_field_lines,
    parse_status_line,
    split_head,
)
from authproxy.upstream.response_reader import NoResponse, ResponseReader

_OPENED: list[socket.socket] = []


@pytest.fixture(autouse=True)
def closing_what_was_opened() -> Iterator[None]:
    yield
    while _OPENED:
        _OPENED.pop().close()


def read(raw: bytes, method: str = "GET") -> ResponseReader:
    """Return the response whose bytes, then an end, are on the connection."""
    ours, theirs = socket.socketpair()
    _OPENED.append(ours)
    with theirs:
        theirs.sendall(raw)
    response = ResponseReader(ours, method=method)
    response.begin()
    return response


def body(response: ResponseReader) -> bytes:
    return b"".join(response.pieces())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"HTTP/1.1 200 OK", (1, 200, "OK")),
        (b"HTTP/1.0 299 It's  odd", (0, 299, "It's  odd")),
        (b"HTTP/1.1 503", (1, 503, "")),
        (b"HTTP/1.1 503 ", (1, 503, "")),
        (b"HTTP/1.1 200 d\xe9j\xe0", (1, 200, "déjà")),
    ],
)
def test_status_lines_are_read(line: bytes, expected: tuple[int, int, str]) -> None:
    assert parse_status_line(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"220 mail.example.com ESMTP",
        b"HTTP/2 200 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 200 O\x00K",
        b"HTTP/1.1 200 O\rK",
        b" HTTP/1.1 200 OK",
    ],
)
def test_what_is_not_a_status_line_is_refused(line: bytes) -> None:
    with pytest.raises(MalformedResponse):
        parse_status_line(line)


def test_fields_keep_order_repeats_case_and_inner_blanks() -> None:
    lines = [b"set-cookie: a", b"X:\t b  c \t", b"set-cookie: d", b"Empty:", b"Latin: \xe9"]
    assert parse_field_lines(lines) == [
        ("set-cookie", "a"),
        ("X", "b  c"),
        ("set-cookie", "d"),
        ("Empty", ""),
        ("Latin", "é"),
    ]


def test_folded_lines_become_one_and_blanks_before_the_colon_go() -> None:
    assert parse_field_lines([b"X : a", b"  b", b"\tc"]) == [("X", "a b c")]


@pytest.mark.parametrize(
    "line",
    [b"no colon", b": value", b"a b: c", b"X: a\x00b", b"X: a\rb", b" folded first", b"X\x01: a"],
)
def test_a_malformed_field_line_is_refused_not_skipped(line: bytes) -> None:
    with pytest.raises(MalformedResponse):
        parse_field_lines([line])


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
        (b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc", b"abc"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabcdef", b"abc"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nabc", b""),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", b"to the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nto the end", b"to the end"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b""),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\nA;ext=1\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",
            b"abc0123456789",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Length: 1\r\n\r\n"
            b"3\r\nabc\r\n0\r\n\r\n",
            b"abc",
        ),
    ],
)
def test_a_body_ends_where_its_framing_says(raw: bytes, expected: bytes) -> None:
    response = read(raw)
    assert body(response) == expected
    assert response.complete


def test_the_answer_to_head_has_no_body_whatever_its_fields_say() -> None:
    response = read(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", method="HEAD")
    assert body(response) == b""
    assert ("Content-Length", "1000") in response.head.fields


def test_with_both_framings_the_chunks_count_and_the_length_goes() -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    response = read(raw)
    assert [name for name, _ in response.head.fields] == ["Transfer-Encoding"]
    assert response.will_close


def test_chunks_of_an_old_server_end_the_connection() -> None:
    raw = (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    assert read(raw).will_close  # RFC 9112 section 6.1


@pytest.mark.parametrize("start", [b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nX:", b"HTTP/1.1"])
@pytest.mark.parametrize("blank", [b" ", b"\t", b" \t"])
def test_a_long_run_of_blanks_is_refused_at_once(start: bytes, blank: bytes) -> None:
    # An hour of every thread, where two places in a pattern can share the run.
    run = blank * (10_000 // len(blank))
    with pytest.raises(MalformedResponse):
        read(start + run + b"\x01\r\n\r\n")


def test_a_change_of_protocol_that_nobody_asked_for_is_refused() -> None:
    hidden = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with pytest.raises(MalformedResponse, match="protocol"):
        read(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + hidden)


def test_early_hints_and_their_like_are_passed_over() -> None:
    raw = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    )
    response = read(raw)
    assert (response.head.status, body(response)) == (200, b"ok")
    assert response.head.fields == [("Content-Length", "2")]


@given(
    st.lists(st.sampled_from([b"X: y", b"\r", b"\n", b"\r\n"]), max_size=8).map(b"".join),
    st.lists(st.integers(min_value=1, max_value=5), min_size=1),
)
def test_a_head_ends_in_the_same_place_however_it_arrives(raw: bytes, sizes: list[int]) -> None:
    whole = split_head(raw)
    known = at = 0
    parts = None
    while parts is None and at < len(raw):
        at += sizes[at % len(sizes)]
        parts = split_head(raw[:at], known)
        known = len(raw[:at])
    assert (None if parts is None else parts[0]) == (None if whole is None else whole[0])


def test_interim_responses_without_end_are_refused() -> None:
    with pytest.raises(MalformedResponse):
        read(b"HTTP/1.1 102 Processing\r\n\r\n" * (MAX_INTERIM_RESPONSES + 1))


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcde\r\n0\r\n\r\n",
    ],
)
def test_a_body_that_ends_too_early_or_is_misframed_raises(raw: bytes) -> None:
    with pytest.raises((IncompleteRead, MalformedChunk)):
        body(read(raw))


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
        b"Content-Length: +3\r\n",
        b"Content-Length: 3, 4\r\n",
        b"Content-Length: \r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: identity, chunked\r\n",
        b"Transfer-Encoding: identity, identity\r\n",
        b"Transfer-Encoding: identity\r\nContent-Length: 3\r\nContent-Length: 4\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"broken line\r\nContent-Length: 3\r\n",
    ],
)
def test_a_head_that_does_not_frame_its_body_clearly_is_refused(head: bytes) -> None:
    with pytest.raises(MalformedResponse):
        read(b"HTTP/1.1 200 OK\r\n" + head + b"\r\nabc")


def test_the_coding_identity_is_none_and_its_connection_is_not_used_again() -> None:
    response = read(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc"
    )
    assert (response.head.length, response.head.chunked) == (3, False)
    assert (body(response), response.will_close) == (b"abc", True)


def test_a_head_beyond_the_bound_is_refused() -> None:
    with pytest.raises(MalformedResponse, match="longer than"):
        read_in_background(b"HTTP/1.1 200 OK\r\nX: " + b"a" * MAX_HEAD_BYTES)


def read_in_background(raw: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        sender = Thread(target=_send_all, args=(theirs, raw))
        sender.start()
        try:
            ResponseReader(ours, method="GET").begin()
        finally:
            ours.shutdown(socket.SHUT_RDWR)
            sender.join()


def _send_all(sock: socket.socket, raw: bytes) -> None:
    with sock, suppress(BrokenPipeError):  # refused before its end: what the test wants
        sock.sendall(raw)


def test_a_connection_that_ends_before_a_byte_is_told_from_one_that_ends_later() -> None:
    with pytest.raises(NoResponse):
        read(b"")
    with pytest.raises(MalformedResponse):
        read(b"HTTP/1.1 200 OK\r\nX: y")


@pytest.mark.parametrize(
    ("head", "closes"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: foo, Close\r\n", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n", False),
        (b"HTTP/1.1 200 OK\r\n", True),
    ],
)
def test_a_connection_is_kept_only_where_both_sides_agree(head: bytes, closes: bool) -> None:
    assert read(head + b"\r\n").will_close is closes


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_an_http_error(raw: bytes) -> None:
    with suppress(HTTPException):
        body(read(b"HTTP/1.1 200 OK\r\n" + raw))
