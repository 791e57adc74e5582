"""A forward proxy that records what is asked of it and tunnels."""

from __future__ import annotations

import socket
import ssl
import threading

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
            self._start(self._pump, server, client)
            self._pump(client, server)
        except (OSError, Truncated):
            pass  # Either side went away.

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # Either side went away.
