"""A WSGI application of a test's own behind the real server, in this process."""

from __future__ import annotations

import ssl
import threading
from typing import TYPE_CHECKING

from authproxy.server.connection import Connection
from authproxy.server.hooks import Hooks
from authproxy.server.limits import Limits, Timeouts
from authproxy.server.listening import listen_tcp
from authproxy.server.main_loop import Server, StopRequest
from authproxy.server.refusals import RefusedRequest
from tests.support.wire import DEADLINE, Client, Response, exchange, message

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


class RecordedLifecycle:
    """Notes what the server told, with an event to wait for each."""

    def __init__(self) -> None:
        self.draining = threading.Event()
        self.refusing = threading.Event()

    def begin_drain(self) -> None:
        self.draining.set()

    def refuse(self) -> None:
        self.refusing.set()


class Serving:
    """The server on a port of its own; leaving stops it, and it must drain in time."""

    def __init__(
        self,
        application: WSGIApplication,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        host: str = "127.0.0.1",
        urgent: frozenset[str] = frozenset(),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        #: Method, target and status of the requests that no application saw.
        self.refused: list[tuple[str, str, int]] = []
        self._sockets = listen_tcp(host, 0)
        self.address = self._sockets[0].getsockname()[:2]
        self.lifecycle = RecordedLifecycle()
        self.stop = StopRequest()
        self._server = server = Server(
            application,
            self._sockets,
            self.stop,
            limits or Limits(threads=4, shutdown_grace=DEADLINE),
            timeouts=timeouts or Timeouts(),
            hooks=Hooks(
                on_refused=self._note_refusal,
                is_probe=lambda method, target: method == "GET" and target in urgent,
                begin_drain=self.lifecycle.begin_drain,
                refuse=self.lifecycle.refuse,
            ),
            tls=None if tls is None else lambda: tls,
        )
        self._thread = threading.Thread(target=server.run)

    def _note_refusal(self, request: RefusedRequest) -> None:
        self.refused.append((request.method, request.target, request.refusal.status))

    @property
    def queued(self) -> int:
        """Requests that wait for a thread."""
        return self._server.queued

    @property
    def connections(self) -> list[Connection]:
        """The connections that are open."""
        return self._server.connections

    def __enter__(self) -> Serving:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.wait_until_ended()

    def wait_until_ended(self) -> None:
        self._thread.join(2 * DEADLINE)
        assert not self._thread.is_alive(), "the server does not end"

    def connect(self) -> Client:
        return Client(self.address)

    def ask(self, raw: bytes) -> Response:
        """Send a whole request on a connection of its own; return the answer."""
        return exchange(self.address, raw)

    def get(self, target: str, *lines: bytes | str) -> Response:
        return self.ask(message(f"GET {target}", *lines))
