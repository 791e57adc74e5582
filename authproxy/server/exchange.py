"""What the thread that serves a request sees of its connection."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from waitress.adjustments import Adjustments

from authproxy.cancellation import Cancellation
from authproxy.server.outbox import Outbox
from authproxy.server.tunnel import Tunnel
from authproxy.server.tunnels import Tunnels

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

#: An interim response that every client of HTTP/1.1 knows.
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

#: A client's host and port; no port behind a Unix socket.
Address = tuple[str, int | None]


@dataclass(frozen=True)
class Site:
    """What responses on one listening socket have in common; waitress calls it the server."""

    application: WSGIApplication
    adj: Adjustments
    server_name: str
    effective_port: str
    is_draining: Callable[[], bool]
    tunnels: Tunnels

    @cached_property
    def environ(self) -> Mapping[str, Any]:
        """What the WSGI environments of all requests have in common (PEP 3333)."""
        return {
            "SERVER_NAME": self.server_name,
            "SERVER_PORT": self.effective_port,
            "SERVER_SOFTWARE": "waitress",
            "SCRIPT_NAME": "",
            "wsgi.url_scheme": self.adj.url_scheme,
            "wsgi.version": (1, 0),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
        }


class Finished(Protocol):
    """Called when a response is written.

    `close` and `cut`: how the connection ends, if it does; `tunnel`: what it becomes, if anything.
    """

    def __call__(self, *, close: bool, cut: bool, tunnel: Tunnel | None = None) -> None: ...


class Exchange:
    """What waitress's tasks call a channel; `finished` and `cancellation` are additions."""

    def __init__(
        self,
        site: Site,
        addr: Address,
        outbox: Outbox,
        finished: Finished,
        *,
        may_wait: bool,
        takes_interim: bool,
    ) -> None:
        """`may_wait`: a thread may be held for a client that is slow to take the response.

        `takes_interim`: the client knows interim responses.
        """
        self.server = site
        self.addr = addr
        self.finished = finished
        self.cancellation = Cancellation()
        self._outbox = outbox
        self._may_wait = may_wait
        #: An interim response may still be sent; the lock keeps it in front of the response.
        self.may_probe = takes_interim
        self._beginning = threading.Lock()

    def check_client_disconnected(self) -> bool:
        return self._outbox.closed

    def write_soon(self, data: bytes) -> int:
        """Send a piece of the response. Raises Disconnected."""
        if self.may_probe:
            with self._beginning:
                self.may_probe = False
        self._outbox.write(data, wait=self._may_wait)
        return len(data)

    def probe(self) -> None:
        """Send an interim response, unless the response has begun. Raises Disconnected.

        A client may get 100 without having asked, and discards it (RFC 9110 section 15.2.1).
        Called by the main loop.
        """
        with self._beginning:
            if self.may_probe:
                self._outbox.write(CONTINUE, wait=False)
