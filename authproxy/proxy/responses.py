"""Answers to clients: the target's as it streams past, and those of our own making."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Response

from authproxy.errors import ClientDisconnected, Reply, RequestError
from authproxy.http1.headers import returnable
from authproxy.proxy.access_log import RequestStory
from authproxy.proxy.excerpt import BodyExcerpt
from authproxy.upstream.target import Exchange

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class AnswerStream:
    """The answer's body on its way to the client, and the end of its story.

    Closing it ends the exchange, also where the client went away before the
    first byte.
    """

    def __init__(self, exchange: Exchange, story: RequestStory) -> None:
        self._exchange = exchange
        self._story = story
        self._pieces = exchange.answer.body()
        self._sent = 0
        self._open = True
        is_error = exchange.answer.status >= HTTPStatus.BAD_REQUEST
        encoding = exchange.answer.field("content-encoding")
        self._excerpt = BodyExcerpt(encoding) if is_error else None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            piece = next(self._pieces)
        except StopIteration:
            if self._open:
                self._open = False
                self._story.answered(self._exchange, self._sent, self._excerpt)
            raise
        except RequestError as error:
            self._open = False
            self._story.broken(self._exchange, self._sent, error.code, str(error))
            raise
        self._sent += len(piece)
        if self._excerpt is not None:
            self._excerpt.feed(piece)
        return piece

    def has_arrived(self) -> bool:
        """Whether the first piece can be had without waiting."""
        return self._exchange.answer.has_arrived()

    def read_for_the_log(self) -> None:
        """Read the beginning, which nobody is sent."""
        beginning = self._exchange.answer.beginning()
        if self._excerpt is not None:
            self._excerpt.feed(beginning)
        self._open = False
        self._story.withheld(self._exchange, len(beginning), self._excerpt)

    def close(self) -> None:
        """End the exchange (called by the WSGI server in any case)."""
        self._exchange.answer.close()
        if self._open:
            self._open = False
            gone = ClientDisconnected()
            self._story.broken(self._exchange, self._sent, gone.code, str(gone))


class StreamedResponse(Response):
    """The target's status line, fields and body, none of them made over.

    Werkzeug would rewrite Location, compute Content-Length and answer HEAD
    for itself.
    """

    default_mimetype = None

    def __init__(self, exchange: Exchange, body: AnswerStream) -> None:
        answer = exchange.answer
        fields = returnable(answer.fields)
        super().__init__(body, status=answer.status, headers=fields, direct_passthrough=True)
        self._line = f"{answer.status} {answer.reason}"
        self._fields = fields
        self._body = body

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response(self._line, self._fields)
        if not self._body.has_arrived():
            write(b"")  # the head goes ahead of a body that takes its time
        return self._body


def own_response(reply: Reply) -> Response:
    """Return a response of the proxy's own making."""
    return Response(reply.body, status=int(reply.status), headers=reply.headers)
