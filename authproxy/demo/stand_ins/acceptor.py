"""The listener of everything that stands in for a server: threads, TLS, and a clean end."""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

LOOPBACK = "127.0.0.1"

#: Seconds that the threads of connections have to end, once their sockets are shut down.
_END_SECONDS = 10.0


def end(sock: socket.socket) -> None:
    """End a connection as a crash would."""
    with suppress(OSError):  # it has ended already
        # Not SSLSocket's, which drops the TLS state under a thread that still writes.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


class Acceptor:
    """Accepts connections and has `serve` handle each in a thread of its own, until it is closed.

    With `tls`, the handshake takes place in that thread, and `serve` gets the
    TLS socket. The connection is closed when `serve` returns; an OSError of
    the handshake or of `serve` is the peer's doing, and ends that connection
    alone. At most `most` connections are open at a time; further ones wait in
    the backlog. `port` 0 lets the system choose. Raises OSError if the port is
    taken.
    """

    def __init__(
        self,
        serve: Callable[[socket.socket], None],
        *,
        host: str = LOOPBACK,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        most: int = 1024,
    ) -> None:
        self._serve = serve
        self._tls = tls
        self._listener = socket.create_server((host, port), backlog=256)
        # A connection that is gone again by the time of accept() must not block it.
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._room = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, socket.socket] = {}
        self._ended = False
        self._woken, self._wake = socket.socketpair()
        self._thread = threading.Thread(
            target=self._accept, name=f"acceptor-{self.port}", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connections(self) -> list[socket.socket]:
        """The sockets of the connections that are open."""
        with self._lock:
            return list(self._open.values())

    def shut(self) -> None:
        """Stop listening, and end every connection. Returns at once."""
        with self._lock:
            if not self._ended:
                self._ended = True
                self._wake.close()
        for sock in self.connections:
            end(sock)

    def close(self) -> None:
        """Do as `shut`, and wait for the threads. Raises RuntimeError if one goes on for 10 s."""
        self.shut()
        with self._lock:
            threads = [self._thread, *self._open]
        for thread in threads:
            thread.join(_END_SECONDS)
            if thread.is_alive():
                raise RuntimeError(f"{thread.name} has not ended")

    def _accept(self) -> None:
        with self._listener, self._woken, selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                self._room.acquire()
                if any(key.fileobj is self._woken for key, _ in selector.select()):
                    return
                try:
                    sock, _ = self._listener.accept()
                except OSError:
                    self._room.release()  # the client left before it was accepted
                    continue
                self._begin(sock)

    def _begin(self, sock: socket.socket) -> None:
        thread = threading.Thread(
            target=self._run, args=(sock,), name=f"connection-{self.port}", daemon=True
        )
        with self._lock:
            if self._ended:
                sock.close()
                self._room.release()
                return
            self._open[thread] = sock
            thread.start()

    def _run(self, sock: socket.socket) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                # The handshake comes when `shut` knows the socket that it can end.
                with self._lock:
                    sock = self._tls.wrap_socket(
                        sock, server_side=True, do_handshake_on_connect=False
                    )
                    self._open[threading.current_thread()] = sock
                sock.do_handshake()
            self._serve(sock)
        except OSError:
            pass  # the peer left, or never meant to speak TLS
        finally:
            sock.close()
            with self._lock:
                del self._open[threading.current_thread()]
            self._room.release()
