"""A forward proxy that records what is asked of it and tunnels."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from contextlib import suppress

from tests.support.wire import DEADLINE, Stream, Truncated


class ForwardProxy:
    """Takes CONNECT and tunnels to loopback, or refuses with `refusal`; over TLS if told to.

    `heads` has the head of every request that came.
    """

    def __init__(self, refusal: bytes | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        self.heads: list[bytes] = []
        self._refusal = refusal
        self._tls = tls
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def __enter__(self) -> ForwardProxy:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            sockets = [self._listener, *self._sockets]
        for sock in sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # Not connected any more.
        for thread in self._threads:
            thread.join(DEADLINE)
        for sock in sockets:
            sock.close()

    @property
    def accepted(self) -> list[socket.socket]:
        """The connections of those who asked, as long as they are open."""
        with self._lock:
            opened = [sock for sock in self._sockets if sock.fileno() >= 0]
        return [sock for sock in opened if sock.getsockname()[1] == self.port]

    def _start(self, work, *arguments: object) -> None:  # type: ignore[no-untyped-def]
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._sockets.append(client)
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        try:
            if self._tls is not None:
                client = self._tls.wrap_socket(client, server_side=True)
                with self._lock:
                    self._sockets.append(client)
            stream = Stream(client)
            head = stream.until(b"\r\n\r\n", "a request head")
            with self._lock:
                self.heads.append(head)
            if self._refusal is not None or not head.startswith(b"CONNECT "):
                client.sendall(self._refusal or b"HTTP/1.1 405 Only CONNECT\r\n\r\n")
                client.shutdown(socket.SHUT_RDWR)
                return
            port = int(head.split(b" ", 2)[1].rpartition(b":")[2])
            server = socket.create_connection(("127.0.0.1", port))
            with self._lock:
                self._sockets.append(server)
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self._relay(client, server)
        except (OSError, Truncated):
            pass  # Either side went away.

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
