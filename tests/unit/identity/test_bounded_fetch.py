"""Fetches over HTTP end, in time and in bytes, whatever the endpoint does."""

from __future__ import annotations

import gzip
import ssl
import threading
import zlib
from collections.abc import Callable

import pytest
from requests import RequestException, Response, Session

from authproxy.identity.bounded_fetch import RESPONSE_BYTES, BoundedAdapter, Budget
from tests.support.authority import Authority
from tests.support.endpoints import HEAD, Endpoint, Pieces, dripping, endless, whole

#: Seconds of a budget that is to be exceeded, and of one that is not.
SHORT, AMPLE = 0.4, 30.0


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.bundle))


def fetch(
    url: str,
    budget: Budget,
    context: ssl.SSLContext | None = None,
    proxies: dict[str, str] | None = None,
) -> Response:
    with Session() as session:
        session.trust_env = False
        for scheme in ("http://", "https://"):
            session.mount(scheme, BoundedAdapter(budget, context))
        return session.get(url, proxies=proxies, timeout=(10, 30))


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
DRIPS: dict[str, Pieces] = {
    "within the status line": dripping(b"HTTP/1.1 2", 0.05, b"0"),
    "within a field": dripping(HEAD + b"X-Half: ", 0.05, b"x"),
    "one field after another": dripping(HEAD, 0.05, b"X-More: x\r\n"),
    "interim responses": dripping(b"", 0.05, b"HTTP/1.1 100 Continue\r\n\r\n"),
    "within the body": dripping(HEAD + b"Content-Length: 5000\r\n\r\n{", 0.05),
    "a body until the end of the connection": dripping(HEAD + b"\r\n{", 0.05),
    "chunks": dripping(CHUNKED, 0.05, b"1\r\nx\r\n"),
    "within the size of a chunk": dripping(CHUNKED, 0.05, b"0"),
    "trailers": dripping(CHUNKED + b"0\r\n", 0.05, b"X-More: x\r\n"),
    "nothing": dripping(b"", 1000),
}


@pytest.mark.parametrize("where", DRIPS)
def test_an_endpoint_that_drips_is_given_up(where: str) -> None:
    budget = Budget(SHORT)
    with Endpoint(DRIPS[where]) as endpoint, pytest.raises(RequestException):
        fetch(endpoint.url, budget)
    assert budget.exceeded == "timed out: no whole response within 0.4 s"


@pytest.mark.parametrize("handshake", [True, False], ids=["after the handshake", "before it"])
def test_one_that_drips_over_tls_is_given_up(authority: Authority, handshake: bool) -> None:
    budget = Budget(SHORT)
    pieces = DRIPS["within a field"]
    listener = Endpoint(pieces, authority.context(), handshake=handshake)
    with listener as endpoint, pytest.raises(RequestException):
        fetch(endpoint.url, budget, trusting(authority))
    assert budget.seconds_left <= 0


def test_a_forward_proxy_that_drips_is_given_up(authority: Authority) -> None:
    budget = Budget(SHORT)
    listener = Endpoint(dripping(b"HTTP/1.1 200 OK\r\n", 0.05, b"X: x\r\n"))
    proxies = {"https": listener.url}
    with listener, pytest.raises(RequestException):
        fetch("https://nowhere.invalid/", budget, trusting(authority), proxies)
    assert budget.exceeded


def test_several_requests_share_a_budget() -> None:
    budget = Budget(2)  # enough for the first one, on a busy machine too
    with Endpoint(lambda: iter([whole(b"{}")])) as endpoint:
        fetch(endpoint.url, budget)
        threading.Event().wait(budget.seconds_left)
        with pytest.raises(RequestException):
            fetch(endpoint.url, budget)
    assert budget.exceeded


def bomb(compress: Callable[[bytes], bytes], encoding: bytes) -> Pieces:
    body = compress(bytes(RESPONSE_BYTES + 1))
    assert len(body) < 5000
    return lambda: iter([whole(body, b"Content-Encoding: " + encoding)])


LARGE: dict[str, Pieces] = {
    "as announced": lambda: iter([whole(bytes(RESPONSE_BYTES + 1))]),
    "without an announcement": endless(HEAD + b"\r\n", bytes(65536)),
    "in chunks": endless(CHUNKED, b"8000\r\n" + bytes(0x8000) + b"\r\n"),
    "one field after another": endless(HEAD, b"X-More: x\r\n" * 100),
    "within a field": endless(HEAD + b"X: ", b"x" * 1000),
    "interim responses": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "trailers": endless(CHUNKED + b"0\r\n", b"X-More: x\r\n" * 100),
    "gzip": bomb(gzip.compress, b"gzip"),
    "deflate": bomb(zlib.compress, b"deflate"),
    "gzip twice": bomb(lambda data: gzip.compress(gzip.compress(data)), b"gzip, gzip"),
}


@pytest.mark.parametrize("how", LARGE)
def test_a_response_that_is_too_large_is_not_read_to_its_end(how: str) -> None:
    budget = Budget(AMPLE)
    with Endpoint(LARGE[how]) as endpoint, pytest.raises(RequestException):
        fetch(endpoint.url, budget)
    # Some are refused by http.client before: a line of 64 KiB, or a hundred fields.
    assert budget.exceeded in ("the response is larger than 1024 KiB", None)
    assert budget.seconds_left > 0


@pytest.mark.parametrize("how", ["as announced", "gzip", "gzip twice", "interim responses"])
def test_what_is_too_large_is_said(how: str) -> None:
    budget = Budget(AMPLE)
    with Endpoint(LARGE[how]) as endpoint, pytest.raises(RequestException):
        fetch(endpoint.url, budget)
    assert budget.exceeded == "the response is larger than 1024 KiB"


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_response_within_the_bounds_is_read_whole(encoding: str) -> None:
    content = bytes(RESPONSE_BYTES - 1000)
    if encoding == "gzip":
        pieces = [whole(gzip.compress(content), b"Content-Encoding: gzip")]
    else:
        pieces = [whole(content)]
    budget = Budget(AMPLE)
    with Endpoint(lambda: iter(pieces)) as endpoint:
        response = fetch(endpoint.url, budget)
    assert response.content == content
    assert (response.status_code, budget.exceeded) == (200, None)


def test_a_slow_response_within_the_bounds_is_read_whole() -> None:
    parts = [whole(b'{"a": 1}')[index : index + 1] for index in range(len(whole(b'{"a": 1}')))]
    with Endpoint(lambda: iter(parts)) as endpoint:
        assert fetch(endpoint.url, Budget(AMPLE)).json() == {"a": 1}


def test_a_connection_is_used_for_the_next_request_too() -> None:
    with Endpoint(lambda: iter([whole(b"{}")])) as endpoint, Session() as session:
        session.mount("http://", BoundedAdapter(Budget(AMPLE)))
        for _ in range(3):
            assert session.get(endpoint.url).json() == {}
        assert endpoint.connections == 1
