"""Responses come back as they are, as they arrive."""

from __future__ import annotations

import gzip
import random

import pytest

from tests.conftest import Launch
from tests.support import actions
from tests.support.logfmt import parse_line
from tests.support.process import ProxyProcess
from tests.support.upstream import Exchange, Upstream
from tests.support.wire import Response, chunks, message, read_exactly


@pytest.fixture(scope="module")
def shared_proxy(launch_for_module: Launch) -> ProxyProcess:
    """One that keeps one connection: of several, the one that has rested longest is used next."""
    return launch_for_module(TARGET_POOL_SIZE="1")


EVERY_BYTE = bytes(range(256))
DATE = ("Date", "Tue, 15 Nov 1994 08:12:31 GMT")


def answered(proxy: ProxyProcess, target: Upstream, raw: bytes, *, method: str = "GET") -> Response:
    """Have the target send `raw`, and return what the client gets."""
    target.respond(raw)
    response = proxy.ask(message(f"{method} /x"))
    assert len(target.wait_for_requests(1)) == 1
    return response


# -- status ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "200 OK",
        "200 Fine by me",
        "201 Created",
        "202 Accepted",
        "206 Partial Content",
        "207 Multi-Status",
        "299 Strange",
        "400 Bad Request",
        "402 Zahlung nötig",
        '404 not here: {a} "b"',
        "407 Proxy Authentication Required",
        "418 I'm a teapot",
        "429 Too Many Requests",
        "431 Request Header Fields Too Large",
        "500 Internal Server Error",
        "502 Bad Gateway",
        "503 Service Unavailable",
        "504 Gateway Timeout",
        "599 Beyond",
    ],
)
def test_status_and_reason_pass(proxy: ProxyProcess, target: Upstream, line: str) -> None:
    response = answered(proxy, target, actions.answer(line, body=b"said"))
    assert f"{response.status} {response.reason}" == line
    assert response.body == b"said"


@pytest.mark.parametrize("line", ["200 ", "200"], ids=["blank", "nothing"])
def test_a_missing_reason_passes(proxy: ProxyProcess, target: Upstream, line: str) -> None:
    response = answered(proxy, target, actions.answer(line, body=b"said"))
    assert (response.status, response.body) == (200, b"said")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["https://elsewhere.example/a%2fb?x", "/y", "//evil.example"])
def test_redirects_are_the_clients_to_follow(
    proxy: ProxyProcess, target: Upstream, status: int, location: str
) -> None:
    response = answered(proxy, target, actions.answer(status, ("Location", location)))
    assert (response.status, response.one("Location")) == (status, location)
    assert len(target.requests) == 1


def test_what_a_target_quotes_in_a_response_is_the_clients_to_see(
    proxy: ProxyProcess, target: Upstream
) -> None:
    """The token too: bodies pass as they are, so that SECURITY.md says so."""

    def echo(exchange: Exchange) -> None:
        given = exchange.request.one("Authorization") or ""
        exchange.send(actions.answer(200, body=given.encode()))

    target.respond(echo)
    response = proxy.ask(message("GET /echo"))
    assert response.body.startswith(b"Bearer ey")
    assert response.body.decode() == target.only().one("Authorization")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_throttling_and_errors_pass_with_retry_after(
    proxy: ProxyProcess, target: Upstream, status: int
) -> None:
    response = answered(proxy, target, actions.answer(status, ("Retry-After", "17"), body=b"no"))
    assert (response.status, response.one("Retry-After"), response.body) == (status, "17", b"no")
    assert len(target.requests) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_querys_refusal_passes_with_its_body(
    proxy: ProxyProcess, target: Upstream, status: int
) -> None:
    target.respond(
        actions.answer(status, ("WWW-Authenticate", 'Bearer realm="x"'), body=b'{"why": "role"}')
    )
    response = proxy.get("/api/v1/query?query=up")
    assert (response.status, response.body) == (status, b'{"why": "role"}')
    assert response.one("WWW-Authenticate") == 'Bearer realm="x"'


# -- interim responses -------------------------------------------------------------

FINAL = actions.answer(200, ("X-Final", "1"), body=b"final")


@pytest.mark.parametrize(
    "interim",
    [
        actions.head("100 Continue"),
        actions.head("102 Processing"),
        actions.head("103 Early Hints", ("Link", "</a.css>; rel=preload")),
        actions.head("103 Early Hints", ("Content-Length", "3"), ("X-Early", "1")),
        actions.head("103 Early Hints") * 3,
        actions.head("100 Continue") + actions.head("102 ") + actions.head("103 Early Hints"),
        actions.head("199 Odd"),
    ],
    ids=["100", "102", "103", "103-with-length", "three-103", "a-row", "199"],
)
def test_interim_responses_are_not_taken_for_the_answer(
    proxy: ProxyProcess, target: Upstream, interim: bytes
) -> None:
    response = answered(proxy, target, interim + FINAL)
    assert (response.status, response.body, response.one("X-Final")) == (200, b"final", "1")
    assert response.interim == []
    assert "link" not in {name.lower() for name, _ in response.fields}
    assert response.all("X-Early") == []


def test_an_interim_response_long_before_the_answer_is_waited_out(
    proxy: ProxyProcess, target: Upstream
) -> None:
    gate = target.gate()
    target.respond(actions.raw(actions.head("103 Early Hints"), gate, FINAL))
    with proxy.connect() as client:
        client.send(message("GET /x"))
        target.wait_for_requests(1)
        gate.open()
        assert client.receive().body == b"final"


# -- fields ------------------------------------------------------------------------


def test_repeated_fields_stay_apart_and_in_order(proxy: ProxyProcess, target: Upstream) -> None:
    cookies = ["a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT", "b=2; Path=/, x", "a=3"]
    links = ["</1>; rel=next", "</2>; rel=last"]
    response = answered(
        proxy,
        target,
        actions.answer(
            200,
            ("Set-Cookie", cookies[0]),
            ("Link", links[0]),
            ("Set-Cookie", cookies[1]),
            ("set-cookie", cookies[2]),
            ("Link", links[1]),
        ),
    )
    assert response.all("Set-Cookie") == cookies
    assert response.all("Link") == links


@pytest.mark.parametrize(
    "line",
    [
        'Content-Type: application/json; charset="x"',
        'ETag: W/"a,b"',
        "Vary: *",
        "Via: 1.1 theirs",
        "Server: Theirs/1 (x)",
        "Date: yesterday",
        'WWW-Authenticate: Bearer realm="x", error="y"',
        "Access-Control-Allow-Origin: *",
        "Strict-Transport-Security: max-age=1",
        "X-Ms-Request-Id: 1",
        "X-Request-ID: theirs",
        "X_Under: score",
        "X-Empty:",
        "X-Inner: a  b\tc",
        "X-Latin: caf\xe9",
        "X-Utf-8: caf\xc3\xa9",
        "X-Long: " + "v" * 30_000,
    ],
    ids=lambda line: line.partition(":")[0],
)
def test_fields_pass_untouched_and_once(proxy: ProxyProcess, target: Upstream, line: str) -> None:
    name, _, value = line.partition(":")
    response = answered(proxy, target, actions.answer(200, line))
    assert response.all(name) == [value.lstrip(" ")]


def test_nothing_is_added_to_a_bare_response(proxy: ProxyProcess, target: Upstream) -> None:
    response = answered(proxy, target, actions.answer(200, DATE, body=b"x"))
    names = {name.lower() for name, _ in response.fields}
    assert names - proxy.adds == {"content-length", "date"}


def test_server_and_date_are_the_targets_and_come_once(
    proxy: ProxyProcess, target: Upstream
) -> None:
    response = answered(proxy, target, actions.answer(200, DATE, ("Server", "theirs")))
    assert response.one("Date") == DATE[1]
    assert response.one("Server") == "theirs"
    assert response.all("Via") == []


@pytest.mark.parametrize(
    "lines",
    [
        ["Keep-Alive: timeout=5", "Connection: keep-alive"],
        ["Connection: close"],
        ["Connection: X-Private", "X-Private: 1"],
        ["Proxy-Authenticate: Basic"],
        ["Upgrade: h2c", "Connection: Upgrade"],
        ["Trailer: X-Sum"],
        ["Proxy-Connection: keep-alive"],
    ],
    ids=lambda lines: lines[0],
)
def test_hop_by_hop_fields_of_the_target_end_here(
    proxy: ProxyProcess, target: Upstream, lines: list[str]
) -> None:
    response = answered(proxy, target, actions.answer(200, DATE, *lines, body=b"x"))
    names = {name.lower() for name, _ in response.fields}
    assert names - proxy.adds == {"content-length", "date"}


def test_a_101_that_was_asked_for_joins_the_connections(
    proxy: ProxyProcess, target: Upstream
) -> None:
    def echo(exchange: Exchange) -> None:
        exchange.send(actions.head(101, "Connection: Upgrade", "Upgrade: echo"))
        for piece in exchange.switched():
            exchange.send(piece)
        exchange.close()

    target.respond(echo)
    with proxy.connect() as client:
        client.send(message("GET /x", "Connection: Upgrade", "Upgrade: echo"))
        assert client.receive_head().status == 101
        client.send(b"ping")
        assert b"".join(client.stream.pieces(4)) == b"ping"


def test_a_folded_field_of_the_target_makes_no_second_one(
    proxy: ProxyProcess, target: Upstream
) -> None:
    response = answered(
        proxy, target, actions.head(200, "X-A: b\r\n Set-Cookie: evil", "Content-Length: 0")
    )
    assert response.all("Set-Cookie") == []
    assert response.status == 502 or response.one("X-A") == "b Set-Cookie: evil"


# -- bodies ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (actions.answer(200, body=EVERY_BYTE), EVERY_BYTE),
        (actions.answer(200), b""),
        (actions.head(200, "Transfer-Encoding: chunked") + chunks(b"ab", b"c"), b"abc"),
        (actions.head(200, "Transfer-Encoding: Chunked") + chunks(), b""),
        (
            actions.head(200, "Transfer-Encoding: chunked")
            + b'2;a="b;c"\r\nab\r\n001 \r\nc\r\n0;x\r\nX-Sum: 1\r\n\r\n',
            b"abc",
        ),
        (actions.head(200, "Content-Length: 3", "Content-Length: 3") + b"abc", b"abc"),
        (actions.head(200, "Content-Length: 3, 3") + b"abc", b"abc"),
        (
            actions.head(200, "Content-Length: 99", "Transfer-Encoding: chunked") + chunks(b"abc"),
            b"abc",
        ),
        (actions.answer(200, body=b"abc").replace(b"HTTP/1.1", b"HTTP/1.0"), b"abc"),
    ],
    ids=[
        *("every-byte", "empty", "chunked", "chunked-empty", "extensions-and-trailers"),
        *("repeated-length", "length-list", "chunked-over-length", "http-1.0"),
    ],
)
def test_a_body_comes_back_as_it_was_sent(
    proxy: ProxyProcess, target: Upstream, raw: bytes, body: bytes
) -> None:
    response = answered(proxy, target, raw)
    assert (response.status, response.body) == (200, body)


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_a_body_that_ends_with_the_connection_comes_back_whole(
    proxy: ProxyProcess, target: Upstream, version: str
) -> None:
    body = EVERY_BYTE * 4000
    target.respond(actions.then_close(actions.head(200, version=version), body))
    assert proxy.get("/x").body == body


@pytest.mark.parametrize("lines", [[], ["Content-Length: 4"]], ids=["no-length", "length"])
def test_the_coding_identity_of_old_servers_is_none(
    proxy: ProxyProcess, target: Upstream, lines: list[str]
) -> None:
    head = actions.head(200, "Transfer-Encoding: identity", *lines)
    target.respond(actions.then_close(head + b"fine"))
    mark = proxy.mark()
    response = proxy.get("/old")
    assert (response.status, response.body) == (200, b"fine")
    assert "identity" not in response.all("Transfer-Encoding")
    line = parse_line(proxy.wait_for_line("Successfully sent request.*/old", after=mark))
    assert (line["StatusCode"], line["ContentLength"]) == ("200", "4")
    assert response.all("Content-Length") == ["4"] * len(lines)


def test_content_length_is_kept(proxy: ProxyProcess, target: Upstream) -> None:
    assert answered(proxy, target, actions.answer(200, body=b"abc")).framing == 3
    target.reset()
    assert answered(proxy, target, actions.answer(404)).framing == 0


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "x-unknown"])
def test_encoded_bodies_are_left_alone(proxy: ProxyProcess, target: Upstream, coding: str) -> None:
    packed = gzip.compress(b"result") if coding == "gzip" else b"not really " + coding.encode()
    raw = actions.answer(
        200, ("Content-Encoding", coding), ("Vary", "Accept-Encoding"), body=packed
    )
    response = answered(proxy, target, raw)
    assert (response.body, response.one("Content-Encoding")) == (packed, coding)
    assert response.framing == len(packed)


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize("framing", ["length", "chunked", "end"])
def test_twenty_megabytes_come_back_whole(
    proxy: ProxyProcess, target: Upstream, status: int, framing: str
) -> None:
    piece = random.Random(1).randbytes(1024 * 1024)
    lines = {
        "length": ["Content-Length: 20971520"],
        "chunked": ["Transfer-Encoding: chunked"],
        "end": [],
    }[framing]

    def handle(exchange: Exchange) -> None:
        exchange.send(actions.head(status, *lines))
        for _ in range(20):
            exchange.send(chunks(piece, end=False) if framing == "chunked" else piece)
        if framing == "chunked":
            exchange.send(chunks())
        elif framing == "end":
            exchange.close()

    target.respond(handle)
    response = proxy.get("/x")
    assert response.status == status
    assert len(response.body) == 20 * len(piece)
    assert response.body == piece * 20


# -- no body -----------------------------------------------------------------------


def test_a_head_answer_keeps_the_content_length_of_the_get(
    proxy: ProxyProcess, target: Upstream
) -> None:
    target.respond(actions.head(200, "Content-Length: 5000", ("Content-Type", "text/plain")))
    with proxy.connect() as client:
        response = client.ask(message("HEAD /x"))
        assert (response.one("Content-Length"), response.body) == ("5000", b"")
        assert client.ask(message("HEAD /y")).status == 200  # Nothing is waited for.


def test_a_head_answer_may_announce_chunks(proxy: ProxyProcess, target: Upstream) -> None:
    target.respond(actions.head(200, "Transfer-Encoding: chunked"))
    with proxy.connect() as client:
        assert client.ask(message("HEAD /x")).status == 200
        target.respond(actions.answer(200, body=b"next"))
        assert client.ask(message("GET /y")).body == b"next"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("lines", [[], ["Content-Length: 0"], ["Content-Length: 5000"]], ids=str)
def test_an_answer_without_body_ends_with_its_head(
    proxy: ProxyProcess, target: Upstream, status: str, lines: list[str]
) -> None:
    target.respond(actions.head(status, ("ETag", '"e"'), *lines))
    with proxy.connect() as client:
        response = client.ask(message("GET /x"))
        assert f"{response.status} {response.reason}" == status
        assert response.one("ETag") == '"e"'
        assert response.all("Transfer-Encoding") == []
        if response.status == 204:  # RFC 9110 section 8.6
            assert response.all("Content-Length") == []
        target.respond(actions.answer(200, body=b"next"))
        assert client.ask(message("GET /y")).body == b"next"


# -- as it arrives -----------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("framing", ["chunked", "length", "end"])
def test_the_first_byte_is_out_before_the_second_is_there(
    proxy: ProxyProcess, target: Upstream, framing: str, status: int
) -> None:
    lines = {"chunked": ["Transfer-Encoding: chunked"], "length": ["Content-Length: 3"], "end": []}
    first, second = target.gate(), target.gate()
    parts = [
        chunks(part, end=False) if framing == "chunked" else part for part in (b"a", b"b", b"c")
    ]
    last = chunks() if framing == "chunked" else b""
    head = actions.head(status, *lines[framing])
    finish = actions.then_close if framing == "end" else actions.raw
    target.respond(finish(head, parts[0], first, parts[1], second, parts[2] + last))
    with proxy.connect() as client:
        client.send(message("GET /x"))
        body = client.body_of(client.receive_head())
        assert read_exactly(body, 1) == b"a"
        first.open()
        assert read_exactly(body, 1) == b"b"
        second.open()
        assert b"".join(body) == b"c"


@pytest.mark.parametrize(
    "lines", [["Transfer-Encoding: chunked"], ["Content-Length: 1"], []], ids=str
)
def test_the_head_is_out_before_the_body_is_there(
    proxy: ProxyProcess, target: Upstream, lines: list[str]
) -> None:
    gate = target.gate()
    target.respond(actions.stall(gate, actions.head(200, ("X-Early", "1"), *lines)))
    with proxy.connect() as client:
        client.send(message("GET /x"))
        assert client.receive_head().one("X-Early") == "1"


def test_half_a_chunk_is_passed_on_as_it_arrives(proxy: ProxyProcess, target: Upstream) -> None:
    gate = target.gate()
    head = actions.head(200, "Transfer-Encoding: chunked")
    target.respond(actions.raw(head, b"a\r\n01234", gate, b"56789\r\n0\r\n\r\n"))
    with proxy.connect() as client:
        client.send(message("GET /x"))
        body = client.body_of(client.receive_head())
        assert read_exactly(body, 5) == b"01234"
        gate.open()
        assert b"".join(body) == b"56789"


def test_an_answer_that_comes_before_the_body_was_read_passes(
    proxy: ProxyProcess, target: Upstream
) -> None:
    def refuse(exchange: Exchange) -> None:
        exchange.send(actions.answer(413, ("Connection", "close"), body=b"too much"))
        exchange.discard_body()
        exchange.close()

    target.respond(refuse)
    response = proxy.ask(message("POST /x", body=b"b" * 5_000_000))
    assert (response.status, response.body) == (413, b"too much")


# -- the client's connection -----------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "method"),
    [
        (actions.answer(200, body=b"x"), "GET"),
        (actions.answer(200), "GET"),
        (actions.answer(500, body=b"x"), "GET"),
        (actions.head(200, "Transfer-Encoding: chunked") + chunks(b"x"), "GET"),
        (actions.head(204), "POST"),
        (actions.head(304), "GET"),
        (actions.head(200, "Content-Length: 9"), "HEAD"),
        (actions.answer(200, "Connection: close", body=b"x"), "GET"),
        (actions.answer(200, body=b"x").replace(b"HTTP/1.1", b"HTTP/1.0"), "GET"),
    ],
    ids=[
        *("length", "empty", "error", "chunked", "204", "304", "head"),
        *("target-closes", "target-http-1.0"),
    ],
)
def test_the_clients_connection_is_kept(
    proxy: ProxyProcess, target: Upstream, raw: bytes, method: str
) -> None:
    target.respond(raw)
    with proxy.connect() as client:
        for _ in range(3):
            client.send(message(f"{method} /x"))
            response = client.receive(method)
            assert "close" not in (response.one("Connection") or "").lower()


def test_the_clients_connection_is_kept_after_a_body_that_ended_with_the_targets(
    proxy: ProxyProcess, target: Upstream
) -> None:
    target.respond(actions.then_close(actions.head(200), b"all of it"))
    with proxy.connect() as client:
        for _ in range(3):
            assert client.ask(message("GET /x")).body == b"all of it"


def test_the_clients_wish_to_close_is_granted(proxy: ProxyProcess, target: Upstream) -> None:
    with proxy.connect() as client:
        assert client.ask(message("GET /x", "Connection: close")).one("Connection") == "close"
        assert client.is_closed_by_peer()


@pytest.mark.parametrize(
    "raw",
    [
        actions.answer(200, body=b"abc"),
        actions.head(200, "Transfer-Encoding: chunked") + chunks(b"ab", b"c"),
    ],
    ids=["length", "chunked"],
)
def test_a_client_of_http_1_0_gets_no_chunks_and_the_end_by_closing(
    proxy: ProxyProcess, target: Upstream, raw: bytes
) -> None:
    target.respond(raw)
    with proxy.connect() as client:
        client.send(message("GET /x HTTP/1.0"))
        response = client.receive()
        assert (response.status, response.body) == (200, b"abc")
        assert response.all("Transfer-Encoding") == []
        assert client.is_closed_by_peer()


def test_a_client_that_goes_away_ends_the_targets_stream(
    proxy: ProxyProcess, target: Upstream
) -> None:
    piece = chunks(b"p" * 65536, end=False)

    def stream_for_ever(exchange: Exchange) -> None:
        exchange.send(actions.head(200, "Transfer-Encoding: chunked"))
        while True:
            exchange.send(piece)

    target.respond(stream_for_ever)
    with proxy.connect() as client:
        client.send(message("GET /x"))
        next(client.body_of(client.receive_head()))
        before = target.open_connections
    target.wait_for("the end of the stream", lambda: target.open_connections < before)


# -- connections to the target ------------------------------------------------------------


def test_connections_to_the_target_are_used_again(proxy: ProxyProcess, target: Upstream) -> None:
    target.close_idle()
    before = target.accepted
    for _ in range(5):
        assert proxy.get("/x").status == 200
    assert target.accepted == before + 1
    assert [request.ordinal for request in target.requests] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "raw",
    [
        actions.head(200, "Transfer-Encoding: chunked") + chunks(b"x"),
        actions.head(204),
        actions.head(304),
        actions.answer(500, body=b"x" * 100_000),
    ],
    ids=["chunked", "204", "304", "error"],
)
def test_a_targets_connection_is_kept_after(
    proxy: ProxyProcess, target: Upstream, raw: bytes
) -> None:
    target.close_idle()
    target.respond(raw)
    before = target.accepted
    for _ in range(3):
        proxy.get("/x")
    assert target.accepted == before + 1


@pytest.mark.parametrize(
    "raw",
    [
        actions.answer(200, "Connection: close", body=b"x"),
        actions.answer(200, body=b"x").replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
    ids=["close", "http-1.0"],
)
def test_a_targets_wish_to_close_is_granted(
    proxy: ProxyProcess, target: Upstream, raw: bytes
) -> None:
    target.close_idle()
    target.respond(raw)
    before = target.accepted
    for _ in range(3):
        assert proxy.get("/x").body == b"x"
    assert target.accepted == before + 3
