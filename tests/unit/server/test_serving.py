"""The request of a connection on its way to a thread and back, without a main loop."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import pytest
from waitress.adjustments import Adjustments

from authproxy.cancellation import CANCELLATION_KEY
from authproxy.errors import Overloaded
from authproxy.server.budget import Budget, Pool
from authproxy.server.client_socket import ClientSocket
from authproxy.server.exchange import Site
from authproxy.server.limits import Limits
from authproxy.server.outbox import Outbox, OutboxStore
from authproxy.server.request_head import Request
from authproxy.server.serving import Serving
from authproxy.server.threads import Dispatcher, OverloadLog
from authproxy.server.tunnel import Tunnel
from authproxy.server.tunnels import Tunnels
from tests.support.wire import DEADLINE

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

MIB = 1024 * 1024


class Served:
    """A connection's request, served by a thread that waits until it `may_respond`."""

    def __init__(self, dispatcher: Dispatcher | None = None) -> None:
        self.began, self.may_respond = threading.Event(), threading.Event()
        self.ended = threading.Event()
        self.cancelled: list[bool] = []
        self._ours, self.client = socket.socketpair()
        self._ours.setblocking(False)
        self.client.settimeout(DEADLINE)
        self._others: list[Served] = []
        store = OutboxStore(Pool(MIB), Budget(MIB, MIB // 2))
        self.outbox = Outbox(ClientSocket(self._ours), store, lambda: None)
        self.dispatcher = dispatcher or Dispatcher(Limits(threads=1, queue=1), None, OverloadLog())
        site = Site(
            self.application, Adjustments(), "localhost", "80", lambda: False, Tunnels(1, 1)
        )
        self.serving = Serving(site, ("127.0.0.1", 1), self.outbox, self.dispatcher)

    def another(self) -> Served:
        """Return a connection whose requests the same thread serves."""
        one = Served(self.dispatcher)
        self._others.append(one)
        return one

    def close(self) -> None:
        """Let all responses be written, and end the thread."""
        self.may_respond.set()
        for one in self._others:
            one.close()
        self.dispatcher.end(DEADLINE)
        self.client.close()
        self._ours.close()

    def application(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        self.began.set()
        assert self.may_respond.wait(DEADLINE)
        self.cancelled.append(environ[CANCELLATION_KEY].cancelled)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    def finished(self, *, close: bool, cut: bool, tunnel: Tunnel | None = None) -> None:
        self.serving.end(close=close, cut=cut, tunnel=tunnel)
        self.ended.set()

    def request(self, more: bytes = b"") -> Request:
        head = b"GET / HTTP/1.1\r\nHost: a\r\n" + more + b"\r\n"
        request = self.serving.request = Request(head, Adjustments(), MIB)
        return request

    def begin(self, more: bytes = b"") -> None:
        assert self.serving.begin(self.request(more), self.finished) is None
        assert self.began.wait(DEADLINE)


@pytest.fixture
def served() -> Iterator[Served]:
    one = Served()
    yield one
    one.close()


def test_a_request_takes_its_turn_until_its_response_is_written(served: Served) -> None:
    serving = served.serving
    assert serving.idle
    served.begin()
    assert not serving.idle
    assert not serving.takes_request
    served.may_respond.set()
    assert served.ended.wait(DEADLINE)
    assert serving.idle
    assert (serving.closing, serving.cut, serving.running_tunnel) == (False, False, None)
    assert served.client.recv(1000).endswith(b"\r\n\r\nok")
    assert served.cancelled == [False]


def test_the_last_request_leaves_the_connection_to_be_closed(served: Served) -> None:
    served.begin(b"Connection: close\r\n")
    served.may_respond.set()
    assert served.ended.wait(DEADLINE)
    assert served.serving.closing
    assert not served.serving.takes_request


def test_a_request_that_no_thread_can_take_is_refused_and_the_last_one(served: Served) -> None:
    served.begin()
    waiting, other = served.another(), served.another()
    assert waiting.serving.begin(waiting.request(), waiting.finished) is None
    request = other.request()
    assert isinstance(other.serving.begin(request, other.finished), Overloaded)
    assert other.serving.take_request() is request
    assert (other.serving.request, other.serving.exchange) == (None, None)
    assert other.serving.closing


def test_a_closed_connection_cancels_what_is_done_for_it(served: Served) -> None:
    served.begin()
    assert served.serving.abandon()
    assert not served.serving.takes_request
    served.may_respond.set()
    assert served.ended.wait(DEADLINE)
    assert served.cancelled == [True]


def test_a_closed_connection_without_a_thread_gives_back_the_request_itself(
    served: Served,
) -> None:
    closed: list[bool] = []
    request = served.request()
    request.close = partial(closed.append, True)
    assert not served.serving.abandon()
    assert closed == [True]
    assert not served.serving.takes_request
