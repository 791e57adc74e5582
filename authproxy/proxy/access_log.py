"""What the log tells of each request, in the retired proxy's words."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from authproxy.errors import BadRequest, RequestError
from authproxy.http1.headers import client_address
from authproxy.http1.urls import path_of, request_target
from authproxy.proxy.excerpt import BodyExcerpt
from authproxy.redaction import Redactor
from authproxy.telemetry.events import Telemetry
from authproxy.upstream.target import Exchange

log = logging.getLogger(__name__)

#: What stands in a URL for itself.
_ASCII = "".join(map(chr, range(0x21, 0x7F)))

#: Of requests whose route is not known.
_NO_SECRETS = Redactor()


class RequestStory:
    """What the log tells of one request; it ends in one line, or one more for an error body."""

    def __init__(self, environ: Mapping[str, Any], telemetry: Telemetry) -> None:
        #: Masks what the target's errors may quote of what it was sent.
        self._redact = _NO_SECRETS
        self._route: str | None = None
        self.watch = telemetry.request(environ)
        self._environ = environ
        self.method: str = environ["REQUEST_METHOD"]
        self.url: str | None = None
        #: Who sent it, where that is known.
        self.caller: str | None = None
        self._request_id: str | None = environ.get("HTTP_X_REQUEST_ID")
        self._start = time.monotonic()
        #: What the target answered, the bytes of it, and what it said, where the client gets an
        #: error instead.
        self._withheld: tuple[int, int, str] | None = None

    def goes_to(self, route: str | None, host: str, redact: Redactor) -> None:
        """Its way is known: the name of its route, if there are several, and its target's host."""
        self._route = route
        self._redact = redact
        self.watch.target_host = host

    def _fields(self, attempts: int | None = None) -> dict[str, Any]:
        return {
            "RequestID": self._request_id,
            "DurationMs": round((time.monotonic() - self._start) * 1000),
            "Method": self.method,
            "Attempts": attempts,
            "Caller": self.caller,
            "Route": self._route,
        }

    def failed(self, error: RequestError) -> None:
        """The proxy answers the request itself."""
        level = (
            logging.ERROR if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.WARNING
        )
        why = self._redact(str(error))
        fields = {
            "Request": self.url or _path_of(self._environ),
            "StatusCode": int(error.status),
            "Code": error.code,
            "Error": why,
            **self._fields(),
            "Client": client_address(self._environ),
        }
        log.log(level, "Request failed", extra={"fields": fields})
        status, received, said = self._withheld or (int(error.status), 0, "")
        self.watch.failing(self._route, f"{why}\n{said}".rstrip())
        self.watch.ended(status, received, error.code, seen_status=int(error.status))

    def crashed(self) -> None:
        """A bug ended the request; whoever catches it logs it."""
        self.watch.failing(self._route, "a fault in authproxy: its log has the traceback")
        self.watch.ended(int(HTTPStatus.INTERNAL_SERVER_ERROR), error="InternalError")

    def answered(self, exchange: Exchange, sent: int, excerpt: BodyExcerpt | None) -> None:
        """The target's answer was passed on."""
        with self.watch.current():
            self._tell_of_answer(exchange, sent, excerpt)
        self.watch.ended(exchange.answer.status, sent)

    def withheld(self, exchange: Exchange, received: int, excerpt: BodyExcerpt | None) -> None:
        """The target's answer was read in the client's place, who gets an error: `failed`."""
        said = self._tell_of_answer(exchange, received, excerpt)
        self._withheld = exchange.answer.status, received, said

    def _tell_of_answer(self, exchange: Exchange, sent: int, excerpt: BodyExcerpt | None) -> str:
        """Return what an error says, masked as the log has it."""
        exchange.attempt.ended(sent)
        self.watch.target_responded = True
        status = exchange.answer.status
        fields = {
            "ContentLength": sent,
            "Request": self.url,
            "StatusCode": status,
            **self._fields(exchange.attempts),
        }
        message = "Successfully sent request, returning response back."
        log.info(message, extra={"fields": fields})
        if excerpt is None:
            return ""
        encoding = excerpt.encoding
        fields = {
            "Encoding": encoding and self._redact(encoding, exchange.tokens),
            "Request": self.url,
            "StatusCode": status,
        }
        said = self._redact(excerpt.text(), exchange.tokens)
        log.error("Error response body: %s", said, extra={"fields": fields})
        self.watch.failing(self._route, said)
        return said

    def broken(self, exchange: Exchange, sent: int, error: str, why: str) -> None:
        """The answer was cut short after its head had gone to the client.

        `error` is one word, `why` a sentence.
        """
        exchange.attempt.ended(sent, error)
        self.watch.target_responded = True
        self.watch.failing(self._route, self._redact(why))
        fields = {
            "ContentLength": sent,
            "Request": self.url,
            "StatusCode": exchange.answer.status,
            "Error": why,
            **self._fields(exchange.attempts),
        }
        with self.watch.current():
            log.error("Response cut short", extra={"fields": fields})
        self.watch.ended(exchange.answer.status, sent, error)


def _path_of(environ: Mapping[str, Any]) -> str | None:
    """Return what a request asked for that was refused before its way was known."""
    try:
        return shown_url(path_of(request_target(environ)))
    except BadRequest:
        return None


def shown_url(url: str) -> str:
    """Return a URL or request target as the log has it.

    Bytes beyond ASCII are percent-encoded, as the retired proxy had them: half as
    long as escaped in a line, and as they would be sent by a client that encodes them.
    """
    return url if url.isascii() else quote(url, safe=_ASCII, encoding="latin-1", errors="replace")
