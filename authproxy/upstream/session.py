"""The Session of one target: one exchange of bytes on a pooled connection.

The Session owns the adapter, the adapter the connections and their one TLS
context; urllib3 opens connections, also through HTTPS_PROXY. What urllib3
and requests would do to a request on its way (quote the target again, add
fields, decode, follow, keep cookies) does not happen: the head is sent as it
was built, and the response is passed on as it arrived.
"""

from __future__ import annotations

import math
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from http.client import HTTPException
from typing import Any, cast
from urllib.parse import urlsplit

from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError

from authproxy.errors import (
    AuthProxyError,
    ClientDisconnected,
    TargetProtocolError,
    TargetTimeout,
    TargetUnreachable,
)
from authproxy.http1.urls import DEFAULT_PORTS, TargetURL
from authproxy.redaction import Redactor
from authproxy.tls import proxy_password
from authproxy.upstream.connecting import Connector, Resolve, connection_class, resolve
from authproxy.upstream.keep_alive import (
    allow_unacknowledged,
    socket_options,
    unacknowledged_seconds,
)
from authproxy.upstream.pool import REST_SECONDS, ConnectionPool
from authproxy.upstream.request import OutboundRequest, RawRequest
from authproxy.upstream.request_writer import send
from authproxy.upstream.response import RawResponse, UpstreamResponse
from authproxy.upstream.response_reader import (
    ConnectionLost,
    NoResponse,
    ResponseReader,
    UnsolicitedResponse,
)
from authproxy.upstream.unsolicited import plain_socket

#: Characters of an error text of the forward proxy's.
MAX_ERROR_TEXT = 1000


class DeadConnection(AuthProxyError):
    """A pooled connection was of no use: not a byte of a response came on it.

    `wholly_sent` says whether the target may have the whole request all the same.
    """

    def __init__(self, message: str, *, wholly_sent: bool) -> None:
        super().__init__(message)
        self.wholly_sent = wholly_sent


class TargetSession(Session):
    """Sends requests to one target, and reaches nothing else.

    Takes what `TargetAdapter` takes.
    """

    def __init__(self, url: TargetURL, **options: Any) -> None:
        super().__init__()
        self.trust_env = False  # a .netrc would replace our token
        self.adapters.clear()
        self.mount(url.origin, TargetAdapter(url, **options))
        self._origin = url.origin

    def exchange(
        self, request: OutboundRequest, authorization: str, *, reconnect: bool = False
    ) -> UpstreamResponse:
        """Send one request and return its response, whose body is still to be read.

        `reconnect` forbids a connection that was used before. Raises what
        `TargetAdapter.send` does.
        """
        raw = RawRequest(self._origin, request, authorization, reconnect=reconnect)
        # Session.send itself costs 7 of a small request's 680 microseconds. `proxies` keeps it
        # from parsing the URL, which need not be one that can be parsed.
        return cast(UpstreamResponse, self.send(raw, stream=True, proxies={}))

    def resolve_redirects(self, *args: Any, **kwargs: Any) -> Iterator[Response]:
        """Follow no redirect, and read none: it is the client's."""
        return iter(())


class TargetAdapter(HTTPAdapter):
    """Connections to one target, and the exchange of one request on one of them.

    Timeouts are in seconds; `read_timeout` is the longest silence, `rest` how
    long a connection rests between requests, `idle_seconds` and `max_age` bound
    when it is used again; `connect_timeout` bounds all that it takes to open
    one, the look-up of the name with `resolver` included. `proxy` is the URL of
    a forward proxy to tunnel through.
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
        idle_seconds: float = math.inf,
        max_age: float = math.inf,
        resolver: Resolve = resolve,
    ) -> None:
        super().__init__(pool_connections=1)  # whose pools are not used: they look at nothing
        self._read_timeout = read_timeout
        self._unacknowledged = unacknowledged_seconds(read_timeout)
        self._redact = Redactor([proxy_password(proxy)])
        self._pool = ConnectionPool(
            url.authority, pool_size, rest=rest, idle_seconds=idle_seconds, max_age=max_age
        )
        self._url = url
        self._proxy = urlsplit(proxy or "")
        self._proxy_headers = self.proxy_headers(proxy or "")
        #: To whom connections are opened: the forward proxy where there is one.
        self._peer = url.host, url.port
        if proxy:
            default_port = DEFAULT_PORTS[self._proxy.scheme]
            self._peer = self._proxy.hostname or "", self._proxy.port or default_port
        connector = Connector(*self._peer, connect_timeout, resolver)
        self._connection_class = connection_class(connector, ssl_context)
        self._connect_timeout = connect_timeout

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: object = None,
        verify: bool | str = True,
        cert: object = None,
        proxies: Mapping[str, str] | None = None,
    ) -> UpstreamResponse:
        """Send a RawRequest and return its response, whose body is still to be read.

        Timeouts, TLS and forward proxy are those of the adapter. Raises
        DeadConnection where a pooled connection turned out to be of no use
        before a byte of a response; ClientDisconnected where the client left
        meanwhile; TargetUnreachable, TargetTimeout or TargetProtocolError
        otherwise; TypeError for a request that requests has prepared, and so
        rewritten.
        """
        if not isinstance(request, RawRequest):
            raise TypeError("only a RawRequest is sent")
        cancellation = request.outbound.cancellation
        kept = None if request.reconnect else self._pool.take()
        connection = kept or self._new_connection()
        try:
            if kept is None:
                self._connect(connection)
            allow_unacknowledged(connection.sock, self._unacknowledged)
            cancellation.on_cancel(partial(_hang_up, connection.sock))
            reader = self._converse(connection, request, kept is not None)
        except BaseException as error:
            cancellation.on_cancel(None)
            connection.close()
            if cancellation.cancelled and isinstance(error, AuthProxyError):
                raise ClientDisconnected from error
            raise
        return UpstreamResponse(request, RawResponse(reader, connection, self._pool, cancellation))

    def close(self) -> None:
        """Close the pooled connections; those in use end with their responses.

        A request that still comes, on its way here when the settings were
        reloaded, gets a connection for itself alone.
        """
        self._pool.close()

    def _new_connection(self) -> HTTPConnection:
        """Return a connection that is still to be opened."""
        host, port = self._peer
        connection = self._connection_class(
            host, port, timeout=self._connect_timeout, socket_options=socket_options()
        )
        if scheme := self._proxy.scheme:
            connection.set_tunnel(self._url.host, self._url.port, self._proxy_headers, scheme)
        return connection

    def _connect(self, connection: HTTPConnection) -> None:
        try:
            connection.connect()
        except (HTTPError, HTTPException, OSError) as error:
            why = self._redact(str(error)[:MAX_ERROR_TEXT])
            raise TargetUnreachable(f"cannot connect to the target: {why}") from error
        self._pool.opened(connection)
        connection.sock.settimeout(self._read_timeout)

    def _converse(
        self, connection: HTTPConnection, request: RawRequest, reused: bool
    ) -> ResponseReader:
        sent = False
        try:
            outbound = request.outbound
            reader = ResponseReader(connection.sock, outbound.method, outbound.upgrade)
            sent = send(connection.sock, request, reader)
            reader.begin()
        except (NoResponse, UnsolicitedResponse) as error:
            if isinstance(error, UnsolicitedResponse):
                self._pool.distrust()
            if reused:
                self._pool.suspect()
                raise DeadConnection(str(error), wholly_sent=sent) from error
            if isinstance(error, ConnectionLost):
                raise TargetTimeout(f"the target {error}") from error
            raise TargetProtocolError(f"the target {error}") from error
        except TimeoutError as error:
            if reused:
                self._pool.suspect()
            raise TargetTimeout(f"the target was silent for {self._read_timeout:g} s") from error
        except (HTTPException, OSError) as error:
            raise TargetProtocolError(f"the target sent no valid response: {error}") from error
        reader.will_close = reader.will_close or not sent
        return reader


def _hang_up(connected: Any) -> None:
    """End a connection under the thread that waits for it, which then closes it.

    TLS is gone around: its state is that thread's alone.
    """
    with suppress(OSError):
        socket.socket.shutdown(plain_socket(connected), socket.SHUT_RDWR)
