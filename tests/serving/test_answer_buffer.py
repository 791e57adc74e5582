"""What waits of an answer: in order, in memory or a file, and nothing lost where neither grows."""

from __future__ import annotations

import contextlib
import resource
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.serving.answer_buffer import AnswerBuffer
from authproxy.serving.connection import Connection
from tests.support.process import wait_until
from tests.support.serving import Serving
from tests.support.wire import DEADLINE, message

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def read(buffer: AnswerBuffer, most: int) -> bytes:
    piece = bytes(buffer.get(most))
    buffer.skip(len(piece), True)
    return piece


@given(
    st.one_of(st.none(), st.integers(0, 60)),
    st.lists(st.one_of(st.binary(min_size=1, max_size=40), st.integers(1, 50)), max_size=30),
)
def test_bytes_leave_in_the_order_in_which_they_came(
    limit: int | None, steps: list[bytes | int]
) -> None:
    buffer, came, left = AnswerBuffer(limit), b"", b""
    for step in steps:
        if isinstance(step, bytes):
            buffer.append(step)
            came += step
        else:
            left += read(buffer, step)
        assert len(buffer) == len(came) - len(left)
    while len(buffer):
        left += read(buffer, 7)
    assert left == came
    buffer.close()


def test_where_no_file_can_be_had_nothing_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    buffer = AnswerBuffer(10)
    buffer.append(b"in memory")
    with pytest.raises(OSError, match="nonexistent"):
        buffer.append(b"too much")
    assert read(buffer, 100) == b"in memory"
    assert len(buffer) == 0


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_where_a_file_grows_no_further_a_piece_is_taken_whole_or_not_at_all() -> None:
    buffer = AnswerBuffer(0)
    buffer.append(b"a" * 600)
    with files_of_at_most(1000), pytest.raises(OSError, match="File too large"):
        buffer.append(b"b" * 600)
    assert len(buffer) == 600
    buffer.append(b"c" * 600)
    assert read(buffer, 1000) + read(buffer, 1000) == b"a" * 600 + b"c" * 600
    buffer.close()


def test_a_client_that_goes_while_its_answer_is_written_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The main loop closes the connection between the application's piece and its sending."""
    go_on = threading.Event()

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "2")])
        yield b"1"
        go_on.wait(DEADLINE)
        yield b"2"

    def is_writing() -> bool:
        stacks = (traceback.walk_stack(frame) for frame in sys._current_frames().values())
        return any(f.f_code.co_name == "write_soon" for stack in stacks for f, _ in stack)

    with Serving(application) as server, server.connect() as client:
        client.send(message("GET /"))
        assert next(client.body_of(client.receive_head())) == b"1"
        (connection,) = server.connections
        assert isinstance(connection, Connection)
        with connection.outbuf_lock:
            go_on.set()
            wait_until("the piece waits for the lock", is_writing)
            connection.handle_close()
    assert "Unexpected error" not in caplog.text
