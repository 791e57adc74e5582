"""The pooled connections to the target: one exchange of bytes on one of them.

The Session owns the adapter, the adapter the connection pool with its one
TLS context; urllib3 opens and checks connections, also through HTTPS_PROXY.
What urllib3 and requests would do to a request on its way (quote the target
again, add fields, decode, follow, keep cookies) is gone around: the head goes
out as it was built, and the answer comes back as it arrived.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.client import HTTPException
from queue import Empty
from typing import Any, cast

from requests import Session
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.util import Timeout

from authproxy.abort import AbortSignal
from authproxy.errors import (
    AuthProxyError,
    ClientDisconnected,
    TargetProtocolError,
    TargetTimeout,
    TargetUnreachable,
)
from authproxy.upstream.request import OutboundRequest
from authproxy.upstream.response import NoResponse, TargetResponse
from authproxy.urls import TargetURL

#: The most that fits into one record of TLS.
RECORD_BYTES = 16 * 1024

#: How much, and for how long, an answer is read that nobody is sent.
BEGINNING_BYTES = 16 * 1024
BEGINNING_SECONDS = 0.5


class DeadConnection(AuthProxyError):
    """A pooled connection had been closed: not a byte was answered on it."""


class Answer:
    """The target's answer; its connection goes back to the pool when it is read."""

    def __init__(
        self,
        response: TargetResponse,
        connection: HTTPConnection,
        give_back: Callable[[HTTPConnection], None],
        abort: AbortSignal,
    ) -> None:
        self._response = response
        self._abort = abort
        self._read_timeout = connection.sock.gettimeout()
        self._connection = connection
        self._give_back = give_back
        self._released = False
        self.status = response.head.status
        self.reason = response.head.reason
        self.fields = response.head.fields
        if response.complete:
            self._release()

    def field(self, name: str) -> str | None:
        """Return the values of a header field, joined; `name` in lower case."""
        values = [value for key, value in self.fields if key.lower() == name]
        return ", ".join(values) if values else None

    def body(self) -> Iterator[bytes]:
        """Yield the body as it arrives.

        Raises TargetTimeout or TargetProtocolError where it ends too early,
        ClientDisconnected where the client made it end.
        """
        try:
            for piece in self._response.pieces():
                if self._response.complete:
                    self._release()  # the client may ask again as soon as it has this piece
                yield piece
        except TimeoutError as error:
            raise TargetTimeout("the target stopped sending within its answer") from error
        except (HTTPException, OSError, ValueError) as error:
            if self._abort.aborted:
                raise ClientDisconnected from error
            raise TargetProtocolError("the target's answer ended too early") from error
        finally:
            self._release()

    def has_arrived(self) -> bool:
        """Whether bytes of the body, or its end, can be had without waiting."""
        return self._response.has_arrived()

    def beginning(self) -> bytes:
        """Return what comes of the body at once, and end the exchange.

        For an answer that nobody is sent: its connection is kept where that
        was all of the body, and a slow or endless one holds nobody up.
        """
        content = bytearray()
        if self._released:
            return b""
        deadline = time.monotonic() + BEGINNING_SECONDS
        self._connection.sock.settimeout(BEGINNING_SECONDS)
        try:
            for piece in self._response.pieces():
                content += piece
                if len(content) >= BEGINNING_BYTES or time.monotonic() > deadline:
                    break
        except (HTTPException, OSError):
            pass  # it was not wanted anyway
        finally:
            self._connection.sock.settimeout(self._read_timeout)
            self._release()
        return bytes(content)

    def close(self) -> None:
        """End the exchange; a connection with unread bytes is closed."""
        self._release()

    def _release(self) -> None:
        if self._released:
            return
        self._released = True
        self._abort.on_abort(None)
        if not self._response.complete or self._response.will_close or self._abort.aborted:
            self._connection.close()
        self._give_back(self._connection)


class TargetAdapter(HTTPAdapter):
    """Connections to one target, and the exchange of one request on one of them.

    Timeouts are in seconds; `read_timeout` is the longest silence. `proxy` is
    the URL of a forward proxy to tunnel through.
    """

    def __init__(
        self,
        url: TargetURL,
        *,
        pool_size: int,
        connect_timeout: float,
        read_timeout: float,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
    ) -> None:
        super().__init__(pool_connections=1, pool_maxsize=pool_size)
        self._read_timeout = read_timeout
        self._retired = False
        manager = (
            self.proxy_manager_for(proxy, proxy_ssl_context=ssl_context)
            if proxy
            else self.poolmanager
        )
        pool_options: dict[str, Any] = {"timeout": Timeout(connect=connect_timeout)}
        if ssl_context:
            pool_options["ssl_context"] = ssl_context
        self._pool: HTTPConnectionPool = manager.connection_from_host(
            url.host, url.port, url.scheme, pool_options
        )

    def exchange(
        self, request: OutboundRequest, authorization: str, *, reconnect: bool = False
    ) -> Answer:
        """Send one request and return its answer, whose body is still to be read.

        `reconnect` forbids a connection that was used before. Raises
        DeadConnection where a pooled connection turned out closed before a
        byte of an answer; ClientDisconnected where the client left meanwhile;
        TargetUnreachable, TargetTimeout or TargetProtocolError otherwise.
        """
        connection = cast(HTTPConnection, self._pool._get_conn())
        if reconnect:
            connection.close()
        try:
            reused = not connection.is_closed
            if not reused:
                self._connect(connection)
            request.abort.on_abort(partial(_hang_up, connection.sock))
            response = self._converse(connection, request, authorization, reused)
        except BaseException as error:
            request.abort.on_abort(None)
            connection.close()
            self._give_back(connection)
            if request.abort.aborted and isinstance(error, AuthProxyError):
                raise ClientDisconnected from error
            raise
        return Answer(response, connection, self._give_back, request.abort)

    def close(self) -> None:
        """Close the pooled connections; those in use end with their answers.

        A request that still comes, on its way here when the settings were
        reloaded, gets a connection for itself alone. The pool would refuse it.
        """
        self._retired = True
        self._close_idle()

    def _give_back(self, connection: HTTPConnection) -> None:
        self._pool._put_conn(connection)
        if self._retired:
            self._close_idle()

    def _close_idle(self) -> None:
        idle = self._pool.pool
        assert idle is not None  # it is never closed
        with suppress(Empty):
            while True:
                if connection := idle.get_nowait():
                    connection.close()

    def _connect(self, connection: HTTPConnection) -> None:
        try:
            if self._pool.proxy:
                self._pool._prepare_proxy(connection)
            else:
                connection.connect()
        except (HTTPError, HTTPException, OSError) as error:
            raise TargetUnreachable(f"cannot connect to the target: {error}") from error
        connection.sock.settimeout(self._read_timeout)
        if isinstance(connection.sock, ssl.SSLSocket):
            # A missing close_notify is an end too early (RFC 9112 section 9.8).
            connection.sock.suppress_ragged_eofs = False  # type: ignore[attr-defined]

    def _converse(
        self, connection: HTTPConnection, request: OutboundRequest, authorization: str, reused: bool
    ) -> TargetResponse:
        try:
            sent = _send(connection, request, authorization)
            response = TargetResponse(connection.sock, method=request.method)
            response.begin()
        except NoResponse as error:
            if reused:
                raise DeadConnection(str(error)) from error
            raise TargetProtocolError(f"the target {error}") from error
        except TimeoutError as error:
            raise TargetTimeout(f"the target was silent for {self._read_timeout:g} s") from error
        except (HTTPException, OSError) as error:
            raise TargetProtocolError(f"the target sent no valid answer: {error}") from error
        response.will_close = response.will_close or not sent
        return response


def _send(connection: HTTPConnection, request: OutboundRequest, authorization: str) -> bool:
    """Send a whole request; False where the target closed while it was sent.

    A target may answer before it has read everything (413, say) and close:
    then the answer is worth more than the error.
    """
    head = request.head(authorization)
    sock = connection.sock
    try:
        pieces = iter(()) if request.body is None else request.body.pieces()
        first = memoryview(next(pieces, b""))
        # The head and what fits behind it into a TLS record go out as one.
        room = max(0, RECORD_BYTES - len(head))
        sock.sendall(head + first[:room])
        if len(first) > room:
            sock.sendall(first[room:])
        for piece in pieces:
            sock.sendall(piece)
    except (ConnectionError, ssl.SSLError):
        return False
    return True


def _hang_up(connected: Any) -> None:
    """End a connection under the thread that waits for it, which then closes it.

    TLS is gone around: its state is that thread's alone.
    """
    plain = getattr(connected, "socket", connected)  # of TLS within the TLS of a proxy
    with suppress(OSError):
        socket.socket.shutdown(plain, socket.SHUT_RDWR)


def open_session(url: TargetURL, adapter: TargetAdapter) -> Session:
    """Return the Session that owns the connections to the target.

    It takes nothing from the environment: a .netrc would replace our token.
    """
    session = Session()
    session.trust_env = False
    session.mount(f"{url.origin}/", adapter)
    return session
