"""Request bodies pass as bytes, framed anew."""

from __future__ import annotations

import gzip
import random

import pytest

from tests.conftest import Launch
from tests.support.expect import assert_own_error
from tests.support.process import ProxyProcess
from tests.support.upstream import Upstream
from tests.support.wire import chunks, message

EVERY_BYTE = bytes(range(256))
MEBIBYTE = 1024 * 1024


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "GET", "DELETE", "QUERY", "OPTIONS"])
@pytest.mark.parametrize(
    "body",
    [b"x", EVERY_BYTE, gzip.compress(b"packed", mtime=0), b"0\r\n\r\n", b"\r\n", b"\0" * 9000],
    ids=["one-byte", "every-byte", "gzip", "looks-like-a-chunk", "line-end", "zeros"],
)
def test_a_body_arrives_as_it_was_sent(
    proxy: ProxyProcess, target: Upstream, method: str, body: bytes
) -> None:
    assert proxy.ask(message(f"{method} /x", body=body)).status == 200
    request = target.only()
    assert request.body == body
    assert request.one("Content-Length") == str(len(body))


@pytest.mark.parametrize("size", [512 * 1024 - 1, 512 * 1024 + 1, 5 * MEBIBYTE])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_large_body_arrives_as_it_was_sent(
    proxy: ProxyProcess, target: Upstream, size: int, chunked: bool
) -> None:
    body = random.Random(size).randbytes(size)
    if chunked:
        pieces = [body[at : at + 100_000] for at in range(0, size, 100_000)]
        raw = message("POST /x", "Transfer-Encoding: chunked", body=chunks(*pieces))
    else:
        raw = message("POST /x", body=body)
    assert proxy.ask(raw).status == 200
    assert target.only().body == body


@pytest.mark.parametrize(
    ("coded", "content"),
    [
        (chunks(b"abc"), b"abc"),
        (chunks(b"a", b"bc", EVERY_BYTE), b"abc" + EVERY_BYTE),
        (b"3;name=value\r\nabc\r\n0;last\r\n\r\n", b"abc"),
        (b"00003\r\nabc\r\n0000\r\n\r\n", b"abc"),
        (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
        (chunks(b"abc", trailers=[b"X-Sum: 1"]), b"abc"),
        (chunks(), b""),
    ],
    ids=["one", "several", "extensions", "leading-zeros", "hex-case", "trailers", "empty"],
)
def test_a_chunked_body_arrives_whole(
    proxy: ProxyProcess, target: Upstream, coded: bytes, content: bytes
) -> None:
    assert proxy.ask(message("POST /x", "Transfer-Encoding: chunked", body=coded)).status == 200
    request = target.only()
    assert request.body == content
    assert "x-sum" not in request.names


def test_a_chunked_body_arrives_whole_however_the_bytes_fall(
    proxy: ProxyProcess, target: Upstream
) -> None:
    raw = message("POST /x", "Transfer-Encoding: chunked", body=chunks(b"ab", b"c", EVERY_BYTE))
    with proxy.connect() as client:
        for at in range(len(raw)):
            client.send(raw[at : at + 1])
        assert client.receive().status == 200
    assert target.only().body == b"abc" + EVERY_BYTE


def test_an_empty_post_keeps_its_content_length(proxy: ProxyProcess, target: Upstream) -> None:
    assert proxy.ask(message("POST /x", "Content-Length: 0")).status == 200
    request = target.only()
    assert request.all("Content-Length") == ["0"]
    assert "transfer-encoding" not in request.names


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_a_request_without_body_gets_no_framing(
    proxy: ProxyProcess, target: Upstream, method: str
) -> None:
    assert proxy.ask(message(f"{method} /x")).status == 200
    assert not target.only().names & {"content-length", "transfer-encoding"}


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"]
)
def test_a_form_is_not_read_on_its_way(proxy: ProxyProcess, target: Upstream, kind: str) -> None:
    body = b"a=b&c=%zz" if "form-url" in kind else b"--x\r\n\r\nhalf a part"
    assert proxy.ask(message("POST /x", f"Content-Type: {kind}", body=body)).status == 200
    request = target.only()
    assert (request.body, request.one("Content-Type")) == (body, kind)


def test_content_encoding_is_the_targets_to_undo(proxy: ProxyProcess, target: Upstream) -> None:
    packed = gzip.compress(b"sample")
    raw = message("POST /x", "Content-Encoding: gzip", body=packed)
    assert proxy.ask(raw).status == 200
    request = target.only()
    assert (request.body, request.one("Content-Encoding")) == (packed, "gzip")


def test_requests_on_one_connection_keep_apart(proxy: ProxyProcess, target: Upstream) -> None:
    first = message("POST /1", body=b"one")
    second = message("POST /2", "Transfer-Encoding: chunked", body=chunks(b"two"))
    with proxy.connect() as client:
        client.send(first + second + message("GET /3"))  # Pipelined: all at once.
        assert [client.receive().status for _ in range(3)] == [200, 200, 200]
    seen = [(request.target, request.body) for request in target.wait_for_requests(3)]
    assert seen == [(b"/1", b"one"), (b"/2", b"two"), (b"/3", b"")]


@pytest.mark.parametrize(
    "coded",
    [
        b"zz\r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"+3\r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"3_0\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3 ;\0\r\nabc\r\n0\r\n\r\n",
    ],
    ids=["letters", "minus", "plus", "prefix", "underscore", "too-long", "bad-extension"],
)
def test_a_broken_chunk_is_refused_and_nothing_sent_on(
    proxy: ProxyProcess, target: Upstream, coded: bytes
) -> None:
    with proxy.connect() as client:
        response = client.ask(message("POST /x", "Transfer-Encoding: chunked", body=coded))
        assert_own_error(response, 400)
        assert client.is_closed_by_peer()
    assert target.requests == []


@pytest.mark.parametrize(
    "raw",
    [
        message("POST /x", "Content-Length: 10", body=b"half"),
        message("POST /x", "Transfer-Encoding: chunked", body=chunks(b"half", end=False)),
    ],
    ids=["length", "chunked"],
)
def test_half_a_body_is_never_sent_on(proxy: ProxyProcess, target: Upstream, raw: bytes) -> None:
    with proxy.connect() as client:
        client.send(raw)
        client.finish_sending()
        assert client.is_closed_by_peer()
    assert proxy.get("/next").status == 200
    assert target.only().target == b"/next"


# -- limits --------------------------------------------------------------------

LIMIT = 100_000


@pytest.fixture(scope="module")
def narrow(launch_for_module: Launch) -> ProxyProcess:
    return launch_for_module(MAX_REQUEST_BODY_BYTES=str(LIMIT), MAX_REQUEST_HEADER_BYTES="2000")


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_at_the_limit_passes(narrow: ProxyProcess, target: Upstream, chunked: bool) -> None:
    body = b"b" * LIMIT
    raw = message("POST /x", body=body)
    if chunked:
        raw = message("POST /x", "Transfer-Encoding: chunked", body=chunks(body[:1], body[1:]))
    assert narrow.ask(raw).status == 200
    assert target.only().body == body


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_above_the_limit_is_refused(
    narrow: ProxyProcess, target: Upstream, chunked: bool
) -> None:
    body = b"b" * (LIMIT + 1)
    raw = message("POST /x", body=body)
    if chunked:
        raw = message("POST /x", "Transfer-Encoding: chunked", body=chunks(body, end=False))
    with narrow.connect() as client:
        client.offer(raw if chunked else raw[: -LIMIT // 2])  # Refused before its end.
        assert_own_error(client.receive(), 413, "RequestBodyTooLarge")
    assert target.requests == []


def test_seventy_megabytes_are_refused_on_the_head_alone(
    proxy: ProxyProcess, target: Upstream
) -> None:
    with proxy.connect() as client:
        client.send(message("POST /x", "Content-Length: 70000000"))
        assert_own_error(client.receive(), 413, "RequestBodyTooLarge")
        assert client.is_closed_by_peer()
    assert target.requests == []


def test_a_body_too_large_is_not_asked_for(proxy: ProxyProcess, target: Upstream) -> None:
    with proxy.connect() as client:
        client.send(message("POST /x", "Expect: 100-continue", "Content-Length: 70000000"))
        response = client.receive()
        assert_own_error(response, 413, "RequestBodyTooLarge")
        assert response.interim == []
    assert target.requests == []


def _with_head_of(size: int) -> bytes:
    """Return a GET whose head, up to and with its empty line, has `size` bytes."""
    bare = len(message("GET /x", "X-Fill: "))
    return message("GET /x", "X-Fill: " + "f" * (size - bare))


@pytest.mark.parametrize("size", [1900, 2000])
def test_a_head_up_to_the_limit_passes(narrow: ProxyProcess, target: Upstream, size: int) -> None:
    assert narrow.ask(_with_head_of(size)).status == 200
    assert target.only().target == b"/x"


@pytest.mark.parametrize("size", [2001, 9000, 150_000])
def test_a_head_above_the_limit_is_refused(
    narrow: ProxyProcess, target: Upstream, size: int
) -> None:
    with narrow.connect() as client:
        client.offer(_with_head_of(size))
        assert_own_error(client.receive(), 431)
    assert target.requests == []


def test_the_default_head_limit_is_64_kibibytes(proxy: ProxyProcess, target: Upstream) -> None:
    assert proxy.ask(_with_head_of(65_000)).status == 200
    with proxy.connect() as client:
        client.offer(_with_head_of(66_000))
        assert_own_error(client.receive(), 431)
    assert len(target.requests) == 1
