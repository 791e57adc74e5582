"""The pooled connections to the target: one exchange of bytes on one of them.

The Session owns the adapter, the adapter the connections and their one TLS
context; urllib3 opens connections, also through HTTPS_PROXY.
What urllib3 and requests would do to a request on its way (quote the target
again, add fields, decode, follow, keep cookies) is gone around: the head goes
out as it was built, and the answer comes back as it arrived.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.client import HTTPException
from typing import Any, cast

from requests import Session
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.util import Timeout

from authproxy.cancellation import AbortSignal
from authproxy.errors import (
    AuthProxyError,
    ClientDisconnected,
    TargetProtocolError,
    TargetTimeout,
    TargetUnreachable,
)
from authproxy.http1.urls import TargetURL
from authproxy.redaction import Redactor
from authproxy.tls import proxy_password
from authproxy.upstream.pool import REST_SECONDS, ConnectionPool
from authproxy.upstream.request import OutboundRequest
from authproxy.upstream.response import NoResponse, TargetResponse, UnsolicitedResponse
from authproxy.upstream.unsolicited import plain_socket

#: The most that fits into one record of TLS.
RECORD_BYTES = 16 * 1024

#: Characters of an error text of the forward proxy's.
MAX_ERROR_TEXT = 1000

#: How much, and for how long, an answer is read that nobody is sent.
BEGINNING_BYTES = 16 * 1024
BEGINNING_SECONDS = 0.5


class DeadConnection(AuthProxyError):
    """A pooled connection was of no use: not a byte of a response came on it."""


class Answer:
    """The target's answer; its connection goes back to the pool when it is read."""

    def __init__(
        self,
        response: TargetResponse,
        connection: HTTPConnection,
        pool: ConnectionPool,
        abort: AbortSignal,
    ) -> None:
        self._response = response
        self._abort = abort
        self._read_timeout = connection.sock.gettimeout()
        self._connection = connection
        self._pool = pool
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
        if self._response.surplus:
            self._pool.distrust()
        if not self._response.complete or self._response.will_close or self._abort.aborted:
            self._connection.close()
        else:
            self._pool.give_back(self._connection)


class TargetAdapter(HTTPAdapter):
    """Connections to one target, and the exchange of one request on one of them.

    Timeouts are in seconds; `read_timeout` is the longest silence, `rest` how
    long a connection rests between requests. `proxy` is the URL of a forward
    proxy to tunnel through.
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
        rest: float = REST_SECONDS,
    ) -> None:
        super().__init__(pool_connections=1)
        self._read_timeout = read_timeout
        self._redact = Redactor([proxy_password(proxy)])
        self._pool = ConnectionPool(url.authority, pool_size, rest=rest)
        manager = (
            self.proxy_manager_for(proxy, proxy_ssl_context=ssl_context)
            if proxy
            else self.poolmanager
        )
        pool_options: dict[str, Any] = {"timeout": Timeout(connect=connect_timeout)}
        if ssl_context:
            pool_options["ssl_context"] = ssl_context
        self._opener: HTTPConnectionPool = manager.connection_from_host(
            url.host, url.port, url.scheme, pool_options
        )

    def exchange(
        self, request: OutboundRequest, authorization: str, *, reconnect: bool = False
    ) -> Answer:
        """Send one request and return its answer, whose body is still to be read.

        `reconnect` forbids a connection that was used before. Raises
        DeadConnection where a pooled connection turned out to be of no use
        before a byte of a response; ClientDisconnected where the client left
        meanwhile; TargetUnreachable, TargetTimeout or TargetProtocolError
        otherwise.
        """
        kept = None if reconnect else self._pool.take()
        connection = kept or cast(HTTPConnection, self._opener._new_conn())
        try:
            if kept is None:
                self._connect(connection)
            request.abort.on_abort(partial(_hang_up, connection.sock))
            response = self._converse(connection, request, authorization, kept is not None)
        except BaseException as error:
            request.abort.on_abort(None)
            connection.close()
            if request.abort.aborted and isinstance(error, AuthProxyError):
                raise ClientDisconnected from error
            raise
        return Answer(response, connection, self._pool, request.abort)

    def close(self) -> None:
        """Close the pooled connections; those in use end with their answers.

        A request that still comes, on its way here when the settings were
        reloaded, gets a connection for itself alone.
        """
        self._pool.close()

    def _connect(self, connection: HTTPConnection) -> None:
        try:
            if self._opener.proxy:
                self._opener._prepare_proxy(connection)
            else:
                connection.connect()
        except (HTTPError, HTTPException, OSError) as error:
            why = self._redact(str(error)[:MAX_ERROR_TEXT])
            raise TargetUnreachable(f"cannot connect to the target: {why}") from error
        connection.sock.settimeout(self._read_timeout)
        if isinstance(connection.sock, ssl.SSLSocket):
            # A missing close_notify is an end too early (RFC 9112 section 9.8).
            connection.sock.suppress_ragged_eofs = False  # type: ignore[attr-defined]

    def _converse(
        self, connection: HTTPConnection, request: OutboundRequest, authorization: str, reused: bool
    ) -> TargetResponse:
        try:
            response = TargetResponse(connection.sock, method=request.method)
            sent = _send(connection, request, authorization, response)
            response.begin()
        except (NoResponse, UnsolicitedResponse) as error:
            if isinstance(error, UnsolicitedResponse):
                self._pool.distrust()
            if reused:
                raise DeadConnection(str(error)) from error
            raise TargetProtocolError(f"the target {error}") from error
        except TimeoutError as error:
            raise TargetTimeout(f"the target was silent for {self._read_timeout:g} s") from error
        except (HTTPException, OSError) as error:
            raise TargetProtocolError(f"the target sent no valid answer: {error}") from error
        response.will_close = response.will_close or not sent
        return response


def _send(
    connection: HTTPConnection,
    request: OutboundRequest,
    authorization: str,
    response: TargetResponse,
) -> bool:
    """Send a whole request; False where the target closed while it was sent.

    A target may respond before it has read everything (413, say) and close:
    then the response is worth more than the error. Raises UnsolicitedResponse.
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
            response.look()
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
    with suppress(OSError):
        socket.socket.shutdown(plain_socket(connected), socket.SHUT_RDWR)


def open_session(url: TargetURL, adapter: TargetAdapter) -> Session:
    """Return the Session that owns the connections to the target.

    It takes nothing from the environment: a .netrc would replace our token.
    """
    session = Session()
    session.trust_env = False
    session.mount(f"{url.origin}/", adapter)
    return session
