"""An acceptor whose connections lead on to another port."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from authproxy.demo.stand_ins.acceptor import LOOPBACK, Acceptor, end


class RelayingAcceptor(Acceptor):
    """Ends what it has connected to as well."""

    def __init__(self, serve: Callable[[socket.socket], None], **options: Any) -> None:
        self._onward: set[socket.socket] = set()
        super().__init__(serve, **options)

    @contextmanager
    def onward(self, port: int) -> Iterator[socket.socket]:
        """Yield a connection to another port of this machine, which `shut` ends as well."""
        with socket.create_connection((LOOPBACK, port)) as sock:
            with self._lock:
                if self._ended:
                    raise ConnectionAbortedError("no longer listening")
                self._onward.add(sock)
            try:
                yield sock
            finally:
                with self._lock:
                    self._onward.discard(sock)

    def shut(self) -> None:
        super().shut()
        with self._lock:
            sockets = list(self._onward)
        for sock in sockets:
            end(sock)
