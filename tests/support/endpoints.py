"""Identity and key endpoints that misbehave: they drip, keep silent, or send without end."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

from authproxy.demo.stand_ins.acceptor import Acceptor

#: What an endpoint sends on a connection, piece by piece, once the request is there; a number
#: is a pause in seconds.
Pieces = Callable[[], Iterator[bytes | float]]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def whole(content: bytes, *fields: bytes) -> bytes:
    """Return a response with this body."""
    lines = b"".join(field + b"\r\n" for field in (*fields, b"Content-Length: %d" % len(content)))
    return HEAD + lines + b"\r\n" + content


def dripping(first: bytes, seconds: float, piece: bytes = b" ") -> Pieces:
    """Send `first`, and then a piece each `seconds` for ever."""

    def pieces() -> Iterator[bytes | float]:
        yield first
        while True:
            yield seconds
            yield piece

    return pieces


def endless(first: bytes, piece: bytes) -> Pieces:
    """Send `first`, and then pieces as fast as they are taken."""

    def pieces() -> Iterator[bytes]:
        yield first
        while True:
            yield piece

    return pieces


class Endpoint:
    """A listener on loopback that answers each request with `pieces`; TLS if there is a context.

    With `handshake` false, it takes connections and says nothing, TLS or not.
    """

    def __init__(
        self,
        pieces: Pieces,
        tls: ssl.SSLContext | None = None,
        *,
        handshake: bool = True,
    ) -> None:
        self.pieces = pieces
        #: What came on each connection, as it came.
        self.requests: list[bytes] = []
        self._tls = tls
        self._handshake = handshake
        self._arrived = threading.Condition()
        self._over = threading.Event()
        self._acceptor = Acceptor(self._serve, tls=tls if handshake else None)
        self.port = self._acceptor.port

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._acceptor.connections)

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def thumbprint(self) -> str:
        """SHA-1 of its certificate, as Service Fabric names it."""
        with socket.create_connection(("127.0.0.1", self.port)) as plain:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            with context.wrap_socket(plain) as sock:
                certificate = sock.getpeercert(binary_form=True)
        assert certificate is not None
        return hashlib.sha1(certificate).hexdigest()

    def wait_for_requests(self, count: int, seconds: float = 60) -> None:
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.requests) >= count, seconds)

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._acceptor.close()

    def _serve(self, sock: socket.socket) -> None:
        while request := sock.recv(65536):
            with self._arrived:
                self.requests.append(request)
                self._arrived.notify_all()
            if self._handshake:
                for piece in self.pieces():
                    if isinstance(piece, bytes):
                        sock.sendall(piece)
                    elif self._over.wait(piece):
                        return
