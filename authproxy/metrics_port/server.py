"""The second listener: a waitress of its own, in threads of its own.

Its main loop and its threads share nothing with those of the proxied port, so
that a flood there leaves scrapes answered.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)

_THREADS = 2
_TICK_SECONDS = 1.0
_STOP_SECONDS = 2.0


class _Listener(TcpWSGIServer):
    logger = log


class MetricsServer:
    """Serves pages on sockets that listen already, until stopped."""

    def __init__(self, application: WSGIApplication, sockets: Sequence[socket.socket]) -> None:
        self._map: dict[int, Any] = {}
        self._dispatcher = ThreadedTaskDispatcher()
        self._dispatcher.set_thread_count(_THREADS)
        adjustments = Adjustments(
            threads=_THREADS,
            connection_limit=100,
            channel_timeout=30,
            cleanup_interval=10,
            max_request_header_size=16 * 1024,
            max_request_body_size=1024,  # nothing here takes a body
            asyncore_use_poll=True,
            log_socket_errors=False,
            ident=None,
        )
        self._listeners = [
            _Listener(
                application,
                map=self._map,
                _sock=sock,
                dispatcher=self._dispatcher,
                adj=adjustments,
                sockinfo=(sock.family, sock.type, sock.proto, sock.getsockname()),
                bind_socket=False,
            )
            for sock in sockets
        ]
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="metrics-port", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the thread runs that takes connections."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Close listeners and connections."""
        self._stopped = True
        self._listeners[0].pull_trigger()
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopped:
            wasyncore.loop(timeout=_TICK_SECONDS, use_poll=True, map=self._map, count=1)
        self._dispatcher.shutdown(timeout=_TICK_SECONDS)
        wasyncore.close_all(self._map)
