"""What waits for a client: in order, in memory or a file, and within bounds."""

from __future__ import annotations

import contextlib
import resource
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.server import outbox as outbox_module
from authproxy.server.budget import Budget, Pool
from authproxy.server.client_socket import ClientSocket
from authproxy.server.outbox import MEMORY_BYTES, MOST_BYTES, Disconnected, Outbox, OutboxStore
from tests.support.process import wait_until
from tests.support.serving import Serving
from tests.support.wire import DEADLINE, message

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

MEMORY = 1_000_000
BUDGET = 3_000_000


class Client:
    """An outbox, and the client at the other end of its socket."""

    def __init__(self) -> None:
        ours, self._theirs = socket.socketpair()
        for end in (ours, self._theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            end.setblocking(False)
        self.store = OutboxStore(Pool(MEMORY), Budget(BUDGET, 0))
        self.changes = threading.Semaphore(0)
        self.box = Outbox(ClientSocket(ours), self.store, self.changes.release)
        self._socket = ours

    def read(self) -> bytes:
        """Take what has come, and have what waits flushed."""
        with contextlib.suppress(BlockingIOError):
            data = self._theirs.recv(1 << 20)
            self.box.flush()
            return data
        self.box.flush()
        return b""

    def read_all(self, count: int) -> bytes:
        """Take so many bytes, which a thread may still be writing."""
        taken = bytearray()

        def whole() -> bool:
            while piece := self.read():
                taken.extend(piece)
            return len(taken) >= count

        wait_until(f"{count} bytes", whole)
        return bytes(taken)

    def close(self) -> None:
        self.box.close()
        self._socket.close()
        self._theirs.close()

    @property
    def kept(self) -> tuple[int, int]:
        """Bytes taken of the memory and of the budget."""
        return MEMORY - self.store.memory.left, BUDGET - self.store.budget.left


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client()
    yield made
    made.close()


@given(st.lists(st.one_of(st.integers(1, 400_000), st.none()), max_size=12))
def test_bytes_leave_in_the_order_in_which_they_came(steps: list[int | None]) -> None:
    """Some pieces are read before the next is written, some wait in memory, some in a file."""
    client, came, left = Client(), b"", b""
    for at, step in enumerate(steps):
        if step is None:
            left += client.read()
        elif client.box.pending + step < BUDGET // 2:
            piece = bytes([at]) * step
            client.box.write(piece)
            came += piece
    left += client.read_all(len(came) - len(left))
    assert left == came
    assert client.kept == (0, 0)
    client.close()


def test_what_waits_is_counted_and_given_back(client: Client) -> None:
    client.box.write(bytes(MEMORY_BYTES))
    assert client.kept == (client.box.pending, client.box.pending)
    in_memory = client.box.pending
    client.box.write(bytes(MEMORY_BYTES))
    assert client.kept == (in_memory, in_memory + MEMORY_BYTES)
    client.box.close()
    assert client.kept == (0, 0)
    with pytest.raises(Disconnected):
        client.box.write(b"x")


def writing(client: Client, data: bytes) -> threading.Thread:
    """Have a thread write, and return once it waits for the client."""

    def write() -> None:
        with contextlib.suppress(Disconnected):
            client.box.write(data)

    thread = threading.Thread(target=write)
    thread.start()
    wait_until("it waits", lambda: client.box.awaited)
    return thread


@pytest.mark.parametrize(
    "fill",
    [
        lambda client: client.box.write(bytes(600_000)) or 600_000,
        lambda client: 0 * client.store.budget.take(BUDGET - 1_500_000),
    ],
    ids=["beyond the most that waits for one", "beyond the budget"],
)
def test_a_thread_waits_for_its_client_and_no_longer(
    client: Client, fill: Callable[[Client], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "MOST_BYTES", 1_200_000)
    assert MOST_BYTES > 1_200_000
    client.box.write(b"a" * 500_000)
    first = 500_000 + fill(client)
    thread = writing(client, b"b" * 1_100_000)
    whole = client.read_all(first + 1_100_000)
    assert whole[first:] == b"b" * 1_100_000
    thread.join(DEADLINE)
    assert not thread.is_alive()


def test_a_thread_that_waits_is_let_go_when_the_connection_closes(client: Client) -> None:
    assert client.store.budget.take(BUDGET)
    thread = writing(client, bytes(1_000_000))
    client.box.close()
    thread.join(DEADLINE)
    assert not thread.is_alive()


def test_what_must_not_wait_is_kept_whatever_is_full(client: Client) -> None:
    assert client.store.budget.take(BUDGET)
    assert client.store.memory.take(MEMORY)
    client.box.write(b"x" * 100_000, wait=False)
    client.box.write(b"y" * 100_000, wait=False)
    assert client.read_all(200_000) == b"x" * 100_000 + b"y" * 100_000


def test_where_no_file_can_be_had_the_thread_waits_with_what_it_has(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    client.box.write(b"a" * MEMORY_BYTES)
    thread = writing(client, b"b" * MEMORY_BYTES)
    assert client.read_all(2 * MEMORY_BYTES) == b"a" * MEMORY_BYTES + b"b" * MEMORY_BYTES
    thread.join(DEADLINE)
    assert caplog.text.count("A response waits in memory.") == 1
    assert client.kept == (0, 0)


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_where_a_file_grows_no_further_nothing_is_lost(client: Client) -> None:
    client.box.write(b"a" * MEMORY_BYTES)
    with files_of_at_most(1_000_000):
        client.box.write(b"b" * 700_000)
        thread = writing(client, b"c" * 700_000)
        whole = client.read_all(MEMORY_BYTES + 1_400_000)
    assert whole == b"a" * MEMORY_BYTES + b"b" * 700_000 + b"c" * 700_000
    thread.join(DEADLINE)
    assert client.kept == (0, 0)


def test_a_client_that_goes_while_its_response_is_written_is_no_error(
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
        with connection._outbox._changed:
            go_on.set()
            wait_until("the piece waits for the lock", is_writing)
            connection.close()
    assert "Unexpected error" not in caplog.text
