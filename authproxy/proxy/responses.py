"""Responses to clients: the target's as it streams past, and the proxy's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Response
from werkzeug.datastructures import Headers

from authproxy.errors import ClientDisconnected, RequestError
from authproxy.http1.headers import Field
from authproxy.proxy.access_log import AccessLogEntry
from authproxy.proxy.excerpt import BodyExcerpt
from authproxy.upstream.response import UpstreamResponse
from authproxy.upstream.target import Exchange

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class ResponseStream:
    """The body of the upstream response on its way to the client, and the end of its log entry.

    Closing it ends the exchange, also where the client has left before the
    first byte.
    """

    def __init__(self, exchange: Exchange, entry: AccessLogEntry) -> None:
        self.exchange = exchange
        self._entry = entry
        self._pieces = exchange.response.body()
        self._sent = 0
        self._open = True
        is_error = exchange.response.status >= HTTPStatus.BAD_REQUEST
        self._excerpt = (
            BodyExcerpt(exchange.response.field("content-encoding")) if is_error else None
        )

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            piece = next(self._pieces)
        except StopIteration:
            if self._open:
                self._open = False
                self._entry.responded(self.exchange, self._sent, self._excerpt)
            raise
        except RequestError as error:
            self._open = False
            self._entry.truncated(self.exchange, self._sent, error)
            raise
        self._sent += len(piece)
        if self._excerpt is not None:
            self._excerpt.feed(piece)
        return piece

    def has_arrived(self) -> bool:
        """Whether the first piece can be had without waiting."""
        return self.exchange.response.has_arrived()

    def suppress(self) -> str:
        """Read the beginning for the log; the client gets an error instead.

        Returns why the identity was refused, as the log has it; empty where it was not.
        """
        beginning = self.exchange.response.beginning()
        if self._excerpt is not None:
            self._excerpt.feed(beginning)
        self._open = False
        return self._entry.suppressed(self.exchange, len(beginning), self._excerpt)

    def close(self) -> None:
        """End the exchange (called by the WSGI server in any case)."""
        self.exchange.response.close()
        if self._open:
            self._open = False
            self._entry.truncated(self.exchange, self._sent, ClientDisconnected())


class StreamedResponse(Response):
    """The target's status line and body as they came, with the fields that go to the client.

    Werkzeug would rewrite Location, compute Content-Length and respond to HEAD
    itself.
    """

    default_mimetype = None

    def __init__(
        self, upstream: UpstreamResponse, fields: Sequence[Field], body: ResponseStream
    ) -> None:
        super().__init__(body, status=upstream.status, direct_passthrough=True)
        del self.headers  # few look at them, and they cost 3 % of a small request
        self._line = f"{upstream.status} {upstream.reason}"
        self._fields = list(fields)
        self._body = body

    @cached_property
    def headers(self) -> Headers:  # type: ignore[override]
        """The fields, for hooks; what these change of them is not sent."""
        return Headers(self._fields)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response(self._line, self._fields)
        if not self._body.has_arrived():
            write(b"")  # the head goes ahead of a body that takes its time
        return self._body


def error_response(error: RequestError, request_id: str | None) -> Response:
    """Return the proxy's own response; `request_id` is the client's, which comes back in it."""
    local = error.response(request_id)
    return Response(local.body, status=local.status, headers=local.headers)
