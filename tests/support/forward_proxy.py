"""A forward proxy that records what is asked of it and tunnels."""

from __future__ import annotations

import select
import socket
import ssl
from contextlib import suppress

from tests.support.relaying import RelayingAcceptor
from tests.support.wire import Stream, Truncated


class ForwardProxy:
    """Takes CONNECT and tunnels to loopback, or refuses with `refusal`; over TLS if told to.

    `heads` has the head of every request that came.
    """

    def __init__(self, refusal: bytes | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        self.heads: list[bytes] = []
        self._refusal = refusal
        self._acceptor = RelayingAcceptor(self._serve, tls=tls)
        self.port = self._acceptor.port

    def __enter__(self) -> ForwardProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._acceptor.close()

    @property
    def accepted(self) -> list[socket.socket]:
        """The connections of those who asked, as long as they are open."""
        return self._acceptor.connections

    def _serve(self, client: socket.socket) -> None:
        try:
            head = Stream(client).until(b"\r\n\r\n", "a request head")
        except Truncated:
            return
        self.heads.append(head)
        if self._refusal is not None or not head.startswith(b"CONNECT "):
            client.sendall(self._refusal or b"HTTP/1.1 405 Only CONNECT\r\n\r\n")
            client.shutdown(socket.SHUT_RDWR)
            return
        port = int(head.split(b" ", 2)[1].rpartition(b":")[2])
        with self._acceptor.onward(port) as server:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self._relay(client, server)

    @staticmethod
    def _relay(client: socket.socket, server: socket.socket) -> None:
        """Pass on what comes from either side, in one thread: a TLS connection is for one alone.

        What is plain for it is not taken before it has been passed on.
        """
        open_sides = [client, server]
        while open_sides:
            pending = (
                isinstance(client, ssl.SSLSocket) and client in open_sides and client.pending()
            )
            readable = [client] if pending else select.select(open_sides, [], [])[0]
            for source in readable:
                sink = server if source is client else client
                try:
                    data = _read(source)
                    if data:
                        sink.sendall(data)
                    if data and not isinstance(source, ssl.SSLSocket):
                        source.recv(len(data))
                except OSError:
                    data = b""  # Either side went away.
                if data == b"":
                    open_sides.remove(source)
                    with suppress(OSError):
                        socket.socket.shutdown(sink, socket.SHUT_WR)


def _read(source: socket.socket) -> bytes | None:
    """Return what is there, None where that is no data of TLS's; without TLS, only look."""
    if not isinstance(source, ssl.SSLSocket):
        return source.recv(65536, socket.MSG_PEEK)
    source.settimeout(0)
    try:
        return source.recv(65536)
    except ssl.SSLWantReadError:
        return None
    finally:
        source.settimeout(None)
