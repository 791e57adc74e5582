"""The second listener: the same server as on the proxied port, in threads of its own.

Its main loop and its threads share nothing with those of the proxied port, so
that a flood there leaves scrapes served.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from authproxy.server.limits import Limits
from authproxy.server.main_loop import Server, StopRequest

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_STOP_SECONDS = 2.0

#: No page takes a body.
_LIMITS = Limits(
    threads=2,
    queue=32,
    connections=100,
    body_bytes=1024,
    header_bytes=16 * 1024,
    buffered_bytes=32 * 1024 * 1024,
    shutdown_grace=1.0,
)


class MetricsServer:
    """Serves pages on sockets that listen already, until stopped."""

    def __init__(self, application: WSGIApplication, sockets: Sequence[socket.socket]) -> None:
        self._stop = StopRequest()
        self._server = Server(application, sockets, self._stop, _LIMITS, is_main=False)
        self._thread = threading.Thread(target=self._server.run, name="metrics-port", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the thread that accepts connections runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Close listeners and connections."""
        self._stop()
        self._thread.join(_STOP_SECONDS)
