"""What the server takes for a request, and what it refuses, over real sockets."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from authproxy.http1.chunks import MAX_LINE_BYTES, MAX_TRAILER_BYTES
from authproxy.server.limits import Limits
from authproxy.server.request_head import MAX_FIELDS
from tests.support.parsed import Parsed
from tests.support.serving import Serving
from tests.support.wire import Response, chunks, message

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

BODY_LIMIT = 100_000
HEADER_LIMIT = 8192
LIMITS = Limits(threads=2, body_bytes=BODY_LIMIT, header_bytes=HEADER_LIMIT)


def echo(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer with what the application was given."""
    seen = {key: value for key, value in environ.items() if isinstance(value, str)}
    body = json.dumps({**seen, "body_length": len(environ["wsgi.input"].read())}).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with Serving(echo, LIMITS) as serving:
        yield serving


def environ_of(response: Response) -> dict[str, Any]:
    assert response.status == 200, response.body
    environ: dict[str, Any] = json.loads(response.body)
    return environ


def assert_refused(response: Response, status: int, code: str) -> None:
    assert (response.status, json.loads(response.body)["code"]) == (status, code)
    assert response.one("Content-Type") == "application/json"
    assert response.one("Connection") == "close"


HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"

MALFORMED = {
    "no version": b"GET /\r\nHost: a\r\n\r\n",
    "HTTP/0.9": b"GET / HTTP/0.9\r\nHost: a\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "HTTP/9.9": b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    "two blanks": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "blank at the end": b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    "blank in the target": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "NUL in the target": b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    "tab in the target": b"GET /\t HTTP/1.1\r\nHost: a\r\n\r\n",
    "fragment in the target": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "lower-case method": b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: a\r\nhOST: a\r\n\r\n",
    "two Hosts in HTTP/1.0": b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    "blank before the colon": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "field without colon": b"GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n",
    "folded first field": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "folded field": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "folded length": HEAD + b"Content-Length:\r\n 5\r\n\r\nhello",
    "blank before the line": b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "line feed before the line": b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "carriage return before the line": b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "line of blanks before the line": b" \r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "head of blanks": b" \r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "Host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "Host with user information": b"GET / HTTP/1.1\r\nHost: b@a\r\n\r\n",
    "Host with a port that is none": b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
    "bare CR in a field": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    "bare LF in a field": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\nb\r\n\r\n",
    "NUL in a field": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    "length with a sign": HEAD + b"Content-Length: +5\r\n\r\nhello",
    "length with an underscore": HEAD + b"Content-Length: 1_0\r\n\r\nhello",
    "length twice": HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "length in hexadecimal": HEAD + b"Content-Length: 0x5\r\n\r\nhello",
    "empty length": HEAD + b"Content-Length:\r\n\r\n",
    "length beyond int()": HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "length and chunked": HEAD
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": HEAD
    + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "chunked twice": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "two fields of chunked": HEAD
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "empty Transfer-Encoding": HEAD + b"Transfer-Encoding:\r\n\r\n",
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk size not hexadecimal": HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "chunk size with a sign": HEAD + b"Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n",
    "chunk longer than it says": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nhello\r\n",
    "bare LF in a chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\n\r\nhello\r\n",
    "bare LF in an extension": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;a\n\r\nhello\r\n",
    "empty line for a chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n\r\n0\r\n\r\n",
    "request for a trailer": HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "endless chunk line": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * MAX_LINE_BYTES,
    "endless trailer": HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: "
    + b"x" * MAX_TRAILER_BYTES,
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED.keys())
def test_an_ambiguous_request_is_refused_and_its_connection_closed(
    server: Serving, raw: bytes
) -> None:
    with server.connect() as client:
        assert_refused(client.ask(raw), 400, "BadRequest")
        assert client.is_closed_by_peer()


@pytest.mark.parametrize("coding", ["gzip", "identity", "gzip, chunked", "chunked;q=1"])
def test_a_transfer_coding_other_than_chunked_is_not_implemented(
    server: Serving, coding: str
) -> None:
    response = server.ask(HEAD + f"Transfer-Encoding: {coding}\r\n\r\n".encode())
    assert_refused(response, 501, "NotImplemented")


def test_a_header_that_would_backtrack_is_refused_at_once() -> None:
    # Half a minute of the main loop in waitress's own regular expression.
    with Serving(echo) as server:
        raw = b"GET / HTTP/1.1\r\nHost: a\r\nX:" + b" " * 60_000 + b"\x01\r\n\r\n"
        assert_refused(server.ask(raw), 400, "BadRequest")


def test_a_refusal_repeats_nothing_of_the_request_but_its_id(server: Serving) -> None:
    raw = b"GET / HTTP/1.1\r\nX-Request-ID: abc-1\r\nX: <script>\r\nnonsense<b>\r\n\r\n"
    response = server.ask(raw)
    assert_refused(response, 400, "BadRequest")
    assert response.one("X-Request-ID") == "abc-1"
    assert b"<" not in response.body


def test_a_refusal_says_what_is_wrong_with_a_body(server: Serving) -> None:
    response = server.ask(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nno field\r\n\r\n")
    said = "In the body, a trailer is not a header field."
    assert json.loads(response.body)["message"] == said


@pytest.mark.parametrize("value", [b"a" * 129, b"a b", b"\xe9"])
def test_an_id_that_is_no_plain_word_does_not_come_back(server: Serving, value: bytes) -> None:
    response = server.ask(b"GET / HTTP/1.1\r\nX-Request-ID: " + value + b"\r\n\r\n")
    assert response.status == 400
    assert response.one("X-Request-ID") is None


TARGETS = [
    "/",
    "/a%2Fb//c;x?y=%20&z",
    "/%zz",
    "//host/x",
    "/x/../y",
    "/?",
    "/q?a=b?c",
    "/\xc3\xa9?\xff",
    '/{}|"<>\\^`',
    "*",
    "http://a/b?c",
    "http://[",
    "http://[::1/x",
    "nonsense",
    "//",
]


@pytest.mark.parametrize("target", TARGETS)
def test_the_application_gets_the_raw_target(server: Serving, target: str) -> None:
    assert environ_of(server.get(target))["REQUEST_URI"] == target


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [("/a%20b?c%20d", "/a b", "c%20d"), ("http://h/b?c", "/b", "c"), ("//h/x", "/h/x", "")],
)
def test_path_and_query_are_those_of_wsgi(
    server: Serving, target: str, path: str, query: str
) -> None:
    environ = environ_of(server.get(target))
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == (path, query)


def test_a_name_with_an_underscore_shadows_no_other(server: Serving) -> None:
    environ = environ_of(server.get("/", "Content_Length: 5", "X_A: bad", "X-A: good"))
    assert environ["HTTP_X_A"] == "good"
    assert "CONTENT_LENGTH" not in environ


def test_several_cookie_fields_are_joined_as_cookies(server: Serving) -> None:
    environ = environ_of(server.get("/", "Cookie: a=1", "X: y", "cOOKIE: b=2, c"))
    assert environ["HTTP_COOKIE"] == "a=1; b=2, c"


def test_other_repeated_fields_are_joined_with_a_comma(server: Serving) -> None:
    assert environ_of(server.get("/", "X: a", "X: b"))["HTTP_X"] == "a, b"


def test_values_keep_their_bytes(server: Serving) -> None:
    value = bytes([*range(0x21, 0x7F), *range(0x80, 0x100)]).decode("latin-1")
    assert environ_of(server.get("/", f"X: {value}"))["HTTP_X"] == value


def test_forwarded_fields_pass_and_the_client_keeps_its_address(server: Serving) -> None:
    fields = ("X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "Forwarded: for=a")
    environ = environ_of(server.get("/", *fields))
    assert environ["HTTP_X_FORWARDED_FOR"] == "192.0.2.1"
    assert environ["HTTP_X_FORWARDED_PROTO"] == "https"
    assert environ["HTTP_FORWARDED"] == "for=a"
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert environ["wsgi.url_scheme"] == "http"


def test_a_body_of_exactly_the_limit_is_taken(server: Serving) -> None:
    body = bytes(BODY_LIMIT)
    whole = server.ask(message("POST /", body=body))
    assert environ_of(whole)["body_length"] == BODY_LIMIT
    coded = chunks(*(body[at : at + 7] for at in range(0, BODY_LIMIT, 7)))
    chunked = server.ask(message("POST /", "Transfer-Encoding: chunked", body=coded))
    assert environ_of(chunked)["body_length"] == BODY_LIMIT
    assert environ_of(chunked)["CONTENT_LENGTH"] == str(BODY_LIMIT)


def test_one_byte_more_is_too_large(server: Serving) -> None:
    body = bytes(BODY_LIMIT + 1)
    assert_refused(server.ask(message("POST /", body=body)), 413, "RequestBodyTooLarge")
    coded = chunks(body[:-1], body[-1:])
    chunked = server.ask(message("POST /", "Transfer-Encoding: chunked", body=coded))
    assert_refused(chunked, 413, "RequestBodyTooLarge")


def test_a_chunk_that_announces_too_much_is_refused_before_it_comes(server: Serving) -> None:
    start = chunks(b"hello", end=False) + b"ffffffffffff\r\n"
    response = server.ask(message("POST /", "Transfer-Encoding: chunked", body=start))
    assert_refused(response, 413, "RequestBodyTooLarge")


def test_chunk_extensions_and_trailers_are_dropped(server: Serving) -> None:
    coded = b'3;name="va;lue"\r\nabc\r\n0\r\nX-Trailer: t\r\n\r\n'
    environ = environ_of(server.ask(message("POST /", "Transfer-Encoding: chunked", body=coded)))
    assert environ["body_length"] == 3
    assert "HTTP_X_TRAILER" not in environ


def test_a_header_of_exactly_the_limit_is_taken_and_one_byte_more_is_not(
    server: Serving,
) -> None:
    bare = message("GET /", "X: ")
    room = HEADER_LIMIT - len(bare)
    assert server.get("/", "X: " + room * "x").status == 200
    assert_refused(server.get("/", "X: " + (room + 1) * "x"), 431, "RequestHeaderTooLarge")


def test_so_many_fields_are_taken_and_one_more_is_not(server: Serving) -> None:
    most = [f"X-{n}: {n}" for n in range(MAX_FIELDS - 1)]
    short = [f"{n:x}:" for n in range(MAX_FIELDS)]
    assert_refused(server.get("/", *short), 431, "RequestHeaderTooLarge")
    with Serving(echo) as roomy:
        assert environ_of(roomy.get("/", *most))["HTTP_X_998"] == "998"


@pytest.mark.parametrize("framing", ["Content-Length: 5", "Transfer-Encoding: chunked"])
def test_many_fields_are_all_there_also_where_the_body_comes_later(
    server: Serving, framing: str
) -> None:
    lines = [f"X-{n}: {n}" for n in range(200)]
    with server.connect() as client:
        client.send(message("POST /", *lines, framing, "Expect: 100-continue"))
        assert client.stream.until(b"\r\n\r\n", "the interim response").startswith(b"HTTP/1.1 100 ")
        client.send(b"hello" if "Length" in framing else chunks(b"hello"))
        environ = environ_of(client.receive())
    assert [environ[f"HTTP_X_{n}"] for n in range(200)] == [str(n) for n in range(200)]
    assert (environ["body_length"], environ["CONTENT_LENGTH"]) == (5, "5")
    assert "HTTP_TRANSFER_ENCODING" not in environ


def test_a_body_that_is_refused_behind_many_fields_gives_the_id_back(server: Serving) -> None:
    lines = ["X-Request-ID: abc", *(f"X-{n}: {n}" for n in range(200))]
    raw = message("POST /", *lines, "Transfer-Encoding: chunked", body=b"nonsense\r\n")
    response = server.ask(raw)
    assert_refused(response, 400, "BadRequest")
    assert response.one("X-Request-ID") == "abc"


def test_a_header_without_end_is_refused(server: Serving) -> None:
    with server.connect() as client:
        client.offer(b"GET / HTTP/1.1\r\nX: " + b"x" * HEADER_LIMIT)
        assert_refused(client.receive(), 431, "RequestHeaderTooLarge")


def test_a_body_is_asked_for_with_100_where_the_client_waits(server: Serving) -> None:
    with server.connect() as client:
        client.send(message("POST /", "Expect: 100-continue", "Content-Length: 5"))
        assert client.stream.until(b"\r\n\r\n", "the interim response").startswith(b"HTTP/1.1 100 ")
        client.send(b"hello")
        assert environ_of(client.receive())["body_length"] == 5


def test_expecting_100_without_a_body_hangs_nobody(server: Serving) -> None:
    with server.connect() as client:
        for _ in range(2):
            response = client.ask(message("GET /", "Expect: 100-continue"))
            assert response.status == 200
            assert not response.interim


def test_no_body_is_asked_for_that_is_refused_anyway(server: Serving) -> None:
    response = server.ask(
        message("POST /", "Expect: 100-continue", f"Content-Length: {BODY_LIMIT + 1}")
    )
    assert_refused(response, 413, "RequestBodyTooLarge")
    assert not response.interim


def test_pipelined_requests_are_answered_in_order(server: Serving) -> None:
    with server.connect() as client:
        client.send(b"".join(message(f"GET /{n}") for n in range(50)))
        seen = [environ_of(client.receive())["REQUEST_URI"] for _ in range(50)]
    assert seen == [f"/{n}" for n in range(50)]


def test_what_follows_a_refused_request_is_never_served() -> None:
    served: list[str] = []

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        served.append(environ["REQUEST_URI"])
        return list(echo(environ, start_response))

    with Serving(application) as server, server.connect() as client:
        client.send(b"POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n")
        client.offer(message("GET /smuggled"))
        assert client.receive().status == 400
        assert client.is_closed_by_peer()
    assert served == []


# A client in the middle of an upload has to be able to read why it is refused.

UPLOAD = 100 * 1024 * 1024


def test_http_client_reads_the_refusal_of_an_upload(server: Serving) -> None:
    host, port = server.address
    connection = http.client.HTTPConnection(host, port, timeout=30)
    piece = bytes(1 << 20)
    pieces = (piece for _ in range(UPLOAD // len(piece)))
    connection.request("POST", "/", body=pieces, headers={"Content-Length": str(UPLOAD)})
    assert connection.getresponse().status == 413
    connection.close()


def test_requests_reads_the_refusal_of_a_chunked_upload(server: Serving) -> None:
    piece = bytes(1 << 20)
    host, port = server.address
    pieces = (piece for _ in range(UPLOAD // len(piece)))
    response = requests.post(f"http://{host}:{port}/", data=pieces, timeout=30)
    assert response.status_code == 413
    assert response.json()["code"] == "RequestBodyTooLarge"


@pytest.mark.process
@pytest.mark.real("curl")
def test_curl_reads_the_refusal_of_an_upload(server: Serving, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    upload = tmp_path / "upload"
    with upload.open("wb") as file:
        file.truncate(UPLOAD)
    host, port = server.address
    command = ["curl", "-sS", "-H", "Expect:", "-T", str(upload), f"http://{host}:{port}/"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["code"] == "RequestBodyTooLarge"


# The parser by itself.


def parse(pieces: Iterable[bytes]) -> Parsed:
    parsed = Parsed(BODY_LIMIT, HEADER_LIMIT)
    for piece in pieces:
        parsed.feed(piece)
    return parsed


ALPHABET = b"GETPOS /:%[]#?\r\n\t\0 HTTP1.0Content-LghrasfEdck;,aA_\xff"


@given(
    st.lists(
        st.sampled_from(
            [
                *(bytes([b]) for b in ALPHABET),
                b"\r\n",
                b" HTTP/1.1\r\n",
                b"Host: a\r\n",
                b"Transfer-Encoding: chunked\r\n",
                b"Content-Length: 3\r\n",
                b"\r\n\r\n",
            ]
        )
    )
)
def test_no_bytes_upset_the_parser(parts: list[bytes]) -> None:
    parse([b"".join(parts)]).close()
    parse([b"GET / HTTP/1.1\r\n" + b"".join(parts) + b"\r\n\r\n"]).close()


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=8),
    st.lists(st.integers(min_value=1, max_value=30), min_size=1),
)
def test_how_the_bytes_arrive_changes_nothing(parts: list[bytes], sizes: list[int]) -> None:
    raw = message("POST /x", "Transfer-Encoding: chunked", body=chunks(*parts))
    pieces: list[bytes] = []
    at = 0
    while at < len(raw):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(raw[at : at + size])
        at += size
    parsed = parse(pieces)
    ((request, body),) = parsed.requests
    assert body == b"".join(parts)
    assert request.headers["CONTENT_LENGTH"] == str(len(body))
    assert not parsed.begun
