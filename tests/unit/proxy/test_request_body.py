"""Receiving a request's body from any WSGI server."""

import io
from collections.abc import Callable, Iterator

import pytest

from authproxy.errors import BadRequest, RequestBodyTooLarge
from authproxy.http1.inbound_request import InboundRequest
from authproxy.proxy.request_body import MEMORY_BYTES, receive_body
from authproxy.upstream.request import RequestBody
from tests.support.inbound import inbound

LIMIT = 10_000_000


class Unseekable:
    """A stream as mod_wsgi gives it: read once, in pieces of its own choosing."""

    def __init__(self, content: bytes, breaks: bool = False) -> None:
        self._content = io.BytesIO(content)
        self._breaks = breaks

    def read(self, size: int) -> bytes:
        piece = self._content.read(min(size, 1007))
        if not piece and self._breaks:
            raise OSError("failed to read request data")
        return piece


def request(stream: object, length: int | None = None, chunked: bool = False) -> InboundRequest:
    framing = {} if length is None else {"CONTENT_LENGTH": str(length)}
    if chunked:
        framing["HTTP_TRANSFER_ENCODING"] = "chunked"
    return inbound("/", body=stream, **framing)


Receive = Callable[[InboundRequest], RequestBody]


@pytest.fixture
def receive() -> Iterator[Receive]:
    """Receive a body that is there, and free it in the end."""
    bodies: list[RequestBody] = []

    def receive_one(request: InboundRequest) -> RequestBody:
        body = receive_body(request, LIMIT)
        assert body is not None
        bodies.append(body)
        return body

    yield receive_one
    for body in bodies:
        body.close()


def test_a_request_without_framing_has_no_body() -> None:
    assert receive_body(request(io.BytesIO()), LIMIT) is None


def test_an_empty_body_is_still_a_body(receive: Receive) -> None:
    body = receive(request(io.BytesIO(), 0))
    assert (body.length, list(body.pieces())) == (0, [])


def test_what_the_server_has_received_already_is_not_copied(receive: Receive) -> None:
    stream = io.BytesIO(b"abc")
    assert receive(request(stream, 3)).stream is stream


@pytest.mark.parametrize("chunked", [False, True])
def test_a_streamed_body_can_be_sent_twice(receive: Receive, chunked: bool) -> None:
    content = bytes(range(256)) * 20
    body = receive(request(Unseekable(content), None if chunked else len(content), chunked))
    assert body.length == len(content)
    assert b"".join(body.pieces()) == b"".join(body.pieces()) == content


def test_no_more_than_the_declared_length_is_read(receive: Receive) -> None:
    stream = Unseekable(b"abcNEXT")
    assert b"".join(receive(request(stream, 3)).pieces()) == b"abc"
    assert stream.read(10) == b"NEXT"


@pytest.mark.parametrize("chunked", [False, True])
def test_the_limit_itself_is_allowed_and_a_byte_more_is_not(chunked: bool) -> None:
    def receive_of(size: int) -> RequestBody | None:
        return receive_body(request(Unseekable(bytes(size)), None if chunked else size, chunked), 9)

    allowed = receive_of(9)
    assert allowed is not None
    allowed.close()
    with pytest.raises(RequestBodyTooLarge, match="9"):
        receive_of(10)


def test_a_long_body_goes_to_a_file(receive: Receive) -> None:
    body = receive(request(Unseekable(bytes(MEMORY_BYTES + 1)), None, True))
    assert body.stream._rolled  # type: ignore[attr-defined]
    assert sum(map(len, body.pieces())) == MEMORY_BYTES + 1


def test_a_client_that_goes_away_within_its_body_is_told_from_a_whole_one() -> None:
    with pytest.raises(BadRequest, match="too early"):
        receive_body(request(Unseekable(b"abc"), 4), LIMIT)
    with pytest.raises(BadRequest, match="could not be read"):
        receive_body(request(Unseekable(b"abc", breaks=True), 4), LIMIT)


@pytest.mark.parametrize("declared", ["+3", "3x", "-1", " 3", "\xb2"])
def test_a_length_that_is_no_number_is_refused(declared: str) -> None:
    """Our own server and Apache refuse it themselves; other WSGI servers pass it on."""
    odd = inbound("/", CONTENT_LENGTH=declared, body=io.BytesIO(b"abc"))
    with pytest.raises(BadRequest, match="not a number"):
        receive_body(odd, LIMIT)
