"""What the server makes of the application's responses, over real sockets."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import pytest

from authproxy.errors import ShuttingDown, TargetProtocolError
from tests.support.serving import Serving
from tests.support.wire import DEADLINE, Truncated, message

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Fields = list[tuple[str, str]]


def answering(
    status: str, fields: Fields, body: Callable[[], Iterable[bytes]] = list
) -> WSGIApplication:
    """Return an application that always gives this response."""

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(status, fields)
        return body()

    return application


def streamed(*pieces: bytes) -> Callable[[], Iterator[bytes]]:
    """Return a body of unknown length."""
    return lambda: iter(pieces)


def broken(*pieces: bytes, error: Exception) -> Callable[[], Iterator[bytes]]:
    """Return a body that fails after these pieces."""

    def body() -> Iterator[bytes]:
        yield from pieces
        raise error

    return body


OK_STREAM = answering("200 OK", [], streamed(b"hello", b"world"))
OK_LENGTH = answering("200 OK", [("Content-Length", "5")], streamed(b"hello"))


@pytest.mark.parametrize(
    "application",
    [
        OK_STREAM,
        OK_LENGTH,
        answering("204 No Content", []),
        answering("304 Not Modified", [("ETag", '"x"')]),
        answering("304 Not Modified", [("Content-Length", "1234")]),
        answering("200 OK", [("Content-Length", "0")]),
        answering("200 OK", [], streamed()),
    ],
)
def test_the_connection_is_kept_whatever_the_framing(application: WSGIApplication) -> None:
    with Serving(application) as server, server.connect() as client:
        first = client.ask(message("GET /"))
        second = client.ask(message("GET /"))
        assert first.head == second.head
        assert first.one("Connection") is None


def test_a_body_of_unknown_length_is_chunked() -> None:
    with Serving(OK_STREAM) as server:
        response = server.get("/")
        assert response.framing == "chunked"
        assert response.body == b"helloworld"


def test_fields_go_out_in_order_with_case_and_repeats() -> None:
    fields = [
        ("x-request-ID", "1"),
        ("Set-Cookie", "a=1"),
        ("ETag", 'W/"\xe9"'),
        ("Set-Cookie", "b=2"),
        ("Content-Length", "0"),
        ("Date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("Server", "target/1"),
        ("aaa", "last"),
    ]
    with Serving(answering("200 All Right", fields)) as server:
        response = server.get("/")
        assert response.fields == fields
        assert response.reason == "All Right"


def test_nothing_is_added_but_the_date() -> None:
    with Serving(answering("200 OK", [("Content-Length", "0")])) as server:
        assert [name for name, _ in server.get("/").fields] == ["Content-Length", "Date"]


def test_a_head_answer_has_the_length_and_no_body() -> None:
    application = answering("200 OK", [("Content-Length", "5")], streamed(b"hello"))
    with Serving(application) as server, server.connect() as client:
        for _ in range(2):
            response = client.ask(message("HEAD /"))
            assert response.one("Content-Length") == "5"
        assert client.ask(message("GET /")).body == b"hello"


def test_a_head_answer_without_length_ends_with_its_head() -> None:
    with Serving(OK_STREAM) as server, server.connect() as client:
        response = client.ask(message("HEAD /"))
        assert response.framing == "eof"
        assert client.ask(message("GET /")).body == b"helloworld"


def test_a_304_keeps_its_length() -> None:
    with Serving(answering("304 Not Modified", [("Content-Length", "1234")])) as server:
        assert server.get("/").one("Content-Length") == "1234"


def test_a_204_has_no_length() -> None:
    with Serving(answering("204 No Content", [("Content-Length", "0")])) as server:
        assert server.get("/").one("Content-Length") is None


def test_a_body_in_one_piece_gets_its_length() -> None:
    with Serving(answering("200 OK", [], lambda: [b"hello"])) as server:
        assert server.get("/").framing == 5


@pytest.mark.parametrize("value", ["close", "CLOSE", "keep-alive, Close", "close , x", "x,\tclose"])
def test_a_client_that_asks_to_close_is_closed(value: str) -> None:
    with Serving(OK_LENGTH) as server, server.connect() as client:
        response = client.ask(message("GET /", f"Connection: {value}"))
        assert response.one("Connection") == "close"
        assert client.is_closed_by_peer()


def test_an_old_client_is_closed_unless_it_asks() -> None:
    with Serving(OK_LENGTH) as server, server.connect() as client:
        kept = client.ask(message("GET / HTTP/1.0", "Connection: x, Keep-Alive"))
        assert (kept.version, kept.one("Connection")) == ("1.0", "keep-alive")
        closed = client.ask(message("GET / HTTP/1.0"))
        assert closed.one("Connection") == "close"
        assert client.is_closed_by_peer()


def test_an_old_client_gets_an_unknown_length_up_to_the_close() -> None:
    with Serving(OK_STREAM) as server, server.connect() as client:
        response = client.ask(message("GET / HTTP/1.0", "Connection: keep-alive"))
        assert response.framing == "eof"
        assert response.one("Connection") == "close"
        assert response.body == b"helloworld"


def test_the_first_byte_goes_out_before_the_second_is_there() -> None:
    second = threading.Event()

    def body() -> Iterator[bytes]:
        yield b"1"
        assert second.wait(DEADLINE)
        yield b"2"

    with Serving(answering("200 OK", [], body)) as server, server.connect() as client:
        client.send(message("GET /"))
        pieces = client.body_of(client.receive_head())
        assert next(pieces) == b"1"
        second.set()
        assert b"".join(pieces) == b"2"


# Failures.

BUG = RuntimeError("the bug's own words")


@pytest.mark.parametrize("error", [BUG, ConnectionResetError("no client's"), OSError(28, "full")])
def test_a_bug_before_the_head_is_a_500_that_tells_nothing(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    application = answering("200 OK", [("X-Secret", "1")], broken(error=error))
    with Serving(application) as server:
        response = server.get("/", "X-Request-ID: 7")
    assert response.status == 500
    assert json.loads(response.body)["code"] == "InternalError"
    assert response.one("X-Request-ID") == "7"
    assert response.one("X-Secret") is None
    assert b"own words" not in response.body
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.exc_info


def test_an_error_of_ours_before_the_head_is_its_own_reply(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failing = answering("200 OK", [], broken(error=ShuttingDown("over", retry_after=1)))
    with Serving(failing) as server:
        response = server.get("/")
    assert response.status == 503
    assert response.one("Retry-After") == "1"
    assert json.loads(response.body) == {"code": "ShuttingDown", "message": "Over."}
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("error", [BUG, TargetProtocolError("the target went away")])
@pytest.mark.parametrize("fields", [[], [("Content-Length", "100")]], ids=["chunked", "length"])
def test_a_response_that_fails_is_seen_to_be_cut(fields: Fields, error: Exception) -> None:
    application = answering("200 OK", fields, broken(b"begun", error=error))
    with Serving(application) as server, server.connect() as client:
        client.send(message("GET /"))
        with pytest.raises(Truncated) as cut:
            client.receive()
        assert cut.value.seen == b"begun"
        assert client.is_closed_by_peer()


def test_a_response_up_to_the_close_that_fails_is_reset() -> None:
    application = answering("200 OK", [], broken(b"begun", error=BUG))
    with Serving(application) as server, server.connect() as client:
        client.send(message("GET / HTTP/1.0"))
        head = client.receive_head()
        with pytest.raises(ConnectionResetError):
            list(client.body_of(head))


def test_an_error_of_ours_leaves_no_traceback_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = TargetProtocolError("the target went away")
    application = answering("200 OK", [], broken(b"begun", error=error))
    with Serving(application) as server, pytest.raises(Truncated):
        server.get("/")
    assert not [record for record in caplog.records if record.exc_info]


def test_too_short_a_body_is_seen_to_be_cut() -> None:
    application = answering("200 OK", [("Content-Length", "10")], streamed(b"hello"))
    with Serving(application) as server, server.connect() as client:
        with pytest.raises(Truncated):
            client.ask(message("GET /"))
        assert client.is_closed_by_peer()


def test_too_long_a_body_ends_where_the_length_says() -> None:
    application = answering("200 OK", [("Content-Length", "3")], streamed(b"hello", b"more"))
    with Serving(application) as server, server.connect() as client:
        assert client.ask(message("GET /")).body == b"hel"
        assert client.ask(message("GET /")).body == b"hel"


@pytest.mark.parametrize("name", ["Connection", "Transfer-Encoding", "Upgrade"])
def test_the_application_may_not_frame_by_itself(name: str) -> None:
    with Serving(answering("200 OK", [(name, "x")])) as server:
        assert server.get("/").status == 500


@pytest.mark.parametrize("value", ["a\r\nX: b", "a\nb", "\u20ac"])
def test_a_value_that_cannot_be_sent_splits_nothing(value: str) -> None:
    with Serving(answering("200 OK", [("X-A", value)])) as server:
        response = server.get("/")
        assert response.status == 500
        assert response.one("X") is None


@pytest.mark.parametrize("status", ["200 OK\r\nX: b", "200 OK\nX: b"])
def test_a_status_that_cannot_be_sent_splits_nothing(status: str) -> None:
    with Serving(answering(status, [])) as server:
        response = server.get("/")
        assert response.status == 500
        assert response.one("X") is None


def test_an_application_may_take_back_a_head_that_is_not_sent() -> None:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("X-First", "1"), ("Content-Length", "100")])
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            start_response("404 Not Found", [("X-Second", "2")], sys.exc_info())
        return [b"gone"]

    with Serving(application) as server, server.connect() as client:
        for _ in range(2):
            response = client.ask(message("GET /"))
            assert (response.status, response.body) == (404, b"gone")
            assert (response.one("X-First"), response.one("X-Second")) == (None, "2")


def test_an_application_cannot_take_back_a_head_that_is_sent() -> None:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "9")])(b"some")
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            start_response("404 Not Found", [], sys.exc_info())
        return []

    with Serving(application) as server, server.connect() as client:
        client.send(message("GET /"))
        with pytest.raises(Truncated):
            client.receive()


def twice(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [])
    start_response("200 OK", [])
    return []


def never(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    return [b"x"]


@pytest.mark.parametrize("application", [twice, never])
def test_an_application_starts_a_response_once(application: WSGIApplication) -> None:
    with Serving(application) as server:
        assert server.get("/").status == 500


def test_the_body_is_closed_when_the_client_goes_away() -> None:
    closed = threading.Event()

    class Endless:
        def __iter__(self) -> Iterator[bytes]:
            return self

        def __next__(self) -> bytes:
            return bytes(1000)

        def close(self) -> None:
            closed.set()

    with Serving(answering("200 OK", [], Endless)) as server:
        with server.connect() as client:
            client.send(message("GET /"))
            client.receive_head()
        assert closed.wait(DEADLINE)


def test_the_application_can_ask_whether_the_client_is_gone() -> None:
    arrived, gone = threading.Event(), threading.Event()

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        arrived.set()
        pause = threading.Event()
        while not environ["waitress.client_disconnected"]():
            pause.wait(0.01)
        gone.set()
        start_response("204 No Content", [])
        return []

    with Serving(application) as server:
        with server.connect() as client:
            client.send(message("GET /"))
            assert arrived.wait(DEADLINE)
        assert gone.wait(DEADLINE)
