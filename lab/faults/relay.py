"""A relay before an endpoint: it can swallow connections, be slow, and drip."""

from __future__ import annotations

import socket
import threading

from tests.support.relaying import RelayingAcceptor


class Relay:
    """Passes bytes on between a port of its own and another port of this machine.

    A connection that was made while `swallow` was on stays silent for good, as
    one whose packets a firewall drops.
    """

    def __init__(self, port: int) -> None:
        self._behind = port
        self.swallow = False
        self.swallowed = 0
        #: Seconds that each piece of a response is held back.
        self.delay = 0.0
        #: Whether responses come a byte each tenth of a second, and how many bytes came so.
        self.drip = False
        self.dripped = 0
        self._end = threading.Event()
        self._acceptor = RelayingAcceptor(self._serve)
        self.port = self._acceptor.port

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._acceptor.close()

    def _serve(self, near: socket.socket) -> None:
        if self.swallow:
            self.swallowed += 1
            self._end.wait()
            return
        with self._acceptor.onward(self._behind) as far:
            inward = threading.Thread(target=self._pass, args=(near, far, False), daemon=True)
            inward.start()
            self._pass(far, near, True)
            inward.join()

    def _pass(self, source: socket.socket, sink: socket.socket, slow: bool) -> None:
        try:
            while data := source.recv(65536):
                if slow and self.delay:
                    self._end.wait(self.delay)
                sink.sendall(self._dripped(data, sink) if slow else data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # One of the two went away; the other will learn of it.

    def _dripped(self, data: bytes, sink: socket.socket) -> bytes:
        """Pass bytes on one by one as long as `drip` is on; return what is left then."""
        at = 0
        while self.drip and at < len(data) and not self._end.wait(0.1):
            sink.sendall(data[at : at + 1])
            at += 1
            self.dripped += 1
        return data[at:]
