"""Fetches over HTTP that end: within a time in all, and within a number of bytes.

A socket's timeout bounds a silence, not a fetch: with one byte every few seconds
the head of a response never ends. And the length of a compressed body on the wire
does not bound its decoded length. Responses with tokens and keys are small and take less
than a second; both are bounded here, whatever library sends the request through the adapter.
"""

from __future__ import annotations

import io
import socket
import ssl
import time
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any, ClassVar

from requests import PreparedRequest, RequestException, Response
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from authproxy.tls import ContextAdapter

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: Seconds that a fetch may take in all, from the first connection to the last byte.
FETCH_SECONDS = 30.0

#: A response may have so many bytes: head and body as they arrive, and the body decoded.
RESPONSE_BYTES = 1024 * 1024

#: Decoded at a time, so that little is decoded past the bound.
_PIECE_BYTES = 4096


class ResponseTooLarge(RequestException):
    """A body is larger than RESPONSE_BYTES once it is decoded."""


class _TooManyBytes(HTTPException):
    """A response is larger than RESPONSE_BYTES as it arrives."""


class Budget:
    """What one fetch may take, with all requests that belong to it.

    `exceeded` has the bound that it exceeded, in words, or None.
    """

    def __init__(self, seconds: float = FETCH_SECONDS) -> None:
        self.exceeded: str | None = None
        self._seconds = seconds
        self._ends_at = time.monotonic() + seconds

    @property
    def seconds_left(self) -> float:
        """The time that is left; zero or less: it is over."""
        return self._ends_at - time.monotonic()

    def timeout(self, longest: float | None) -> float:
        """Return how long to wait for the next thing, `longest` at most. Raises TimeoutError."""
        left = self.seconds_left
        if left <= 0:
            raise self.overdue()
        return left if longest is None else min(left, longest)

    def overdue(self) -> TimeoutError:
        """Note that the time is over; return the error to raise."""
        self.exceeded = f"timed out: no whole response within {self._seconds:g} s"
        return TimeoutError(self.exceeded)

    def too_large(self) -> str:
        """Note that a response is too large; return that in words."""
        self.exceeded = f"the response is larger than {RESPONSE_BYTES // 1024} KiB"
        return self.exceeded


class BoundedAdapter(ContextAdapter):
    """Sends the requests of one fetch, and reads their responses whole, within its budget.

    Without a TLS context it is for http alone. `options` are urllib3's, of its pools.
    """

    def __init__(
        self, budget: Budget, context: ssl.SSLContext | None = None, **options: Any
    ) -> None:
        self._budget = budget
        self._options = options
        self._pools = {
            "http": _pool_class(HTTPConnectionPool, HTTPConnection, budget),
            "https": _pool_class(HTTPSConnectionPool, HTTPSConnection, budget),
        }
        super().__init__(context)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, **self._options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """Return the response with its body read.

        Raises RequestException, for a response that is too large or takes too long as well.
        """
        kwargs["stream"] = True  # as far as requests is concerned
        response = super().send(request, *args, **kwargs)
        body = bytearray()
        try:
            for piece in response.iter_content(_PIECE_BYTES):
                body += piece
                if len(body) > RESPONSE_BYTES:
                    raise ResponseTooLarge(self._budget.too_large(), response=response)
        finally:
            response.close()
        response._content = bytes(body)
        return response


def _pool_class(
    pool: type[HTTPConnectionPool], connection: type[HTTPConnection], budget: Budget
) -> type[HTTPConnectionPool]:
    """Return the pool's class, with connections that keep to the budget."""
    shared = {"budget": budget}
    response = type("BoundedResponse", (_BoundedResponse,), shared)
    bounded = type(
        "BoundedConnection",
        (_BoundedConnection, connection),
        {**shared, "response_class": response},
    )
    return type("BoundedPool", (pool,), {"ConnectionCls": bounded})


class _BoundedConnection(HTTPConnection):
    """A connection on which each wait is bound by what is left of the budget."""

    budget: ClassVar[Budget]

    def _new_conn(self) -> socket.socket:
        # `connect` takes it for the handshake as well, which is bounded as one wait.
        self.timeout = self.budget.timeout(self.timeout)
        return super()._new_conn()


class _BoundedResponse(HTTPResponse):
    """What http.client reads a response with, the head and then the body."""

    budget: ClassVar[Budget]

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        unbuffered = sock.makefile("rb", buffering=0)
        reader = _BoundedReader(unbuffered, sock, sock.gettimeout(), self.budget)
        self.fp = io.BufferedReader(reader)


class _BoundedReader(io.RawIOBase):
    """The bytes of one response as they arrive, as long as they keep to the budget."""

    def __init__(
        self, raw: io.RawIOBase, sock: socket.socket, silence: float | None, budget: Budget
    ) -> None:
        self._raw = raw
        self._sock = sock
        self._silence = silence
        self._budget = budget
        self._received = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        self._sock.settimeout(self._budget.timeout(self._silence))
        try:
            count = self._raw.readinto(buffer)
        except TimeoutError:
            if self._budget.seconds_left <= 0:
                raise self._budget.overdue() from None
            raise
        self._received += count or 0
        if self._received > RESPONSE_BYTES:
            raise _TooManyBytes(self._budget.too_large())
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()
