"""The access log: what the log says of each request, in the retired proxy's words."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from authproxy.errors import InternalError, RequestError
from authproxy.http1.inbound_request import InboundRequest
from authproxy.http1.urls import path_of
from authproxy.proxy.excerpt import SHOWN_BYTES, BodyExcerpt
from authproxy.redaction import Redactor
from authproxy.telemetry.events import Telemetry
from authproxy.tunnel import TunnelEnd
from authproxy.upstream.refused_identity import REFUSED_IDENTITY
from authproxy.upstream.target import Exchange

log = logging.getLogger(__name__)

#: Says why a target refused the identity, by request, status, text and WWW-Authenticate.
WhyRefused = Callable[[InboundRequest, int, str, str], str]

#: What stands in a URL for itself.
_ASCII = "".join(map(chr, range(0x21, 0x7F)))

#: Of requests whose route is not known.
_NO_SECRETS = Redactor()


class AccessLogEntry:
    """What the log says of one request: one line in the end, and one more for an error body."""

    def __init__(self, request: InboundRequest, telemetry: Telemetry) -> None:
        self.watch = telemetry.request(request)
        self._request = request
        #: Who sent it, where that is known.
        self.caller: str | None = None
        self._url: str | None = None
        self._route: str | None = None
        #: Masks what the target's errors may quote of what it was sent.
        self._redact = _NO_SECRETS
        #: Says why the target refused the identity, where it did.
        self._why_refused: WhyRefused | None = None
        self._start = time.monotonic()
        #: Status, bytes and text of an upstream response in place of which the client gets
        #: an error.
        self._suppressed: tuple[int, int, str] | None = None

    def routed(
        self, route: str | None, host: str, redact: Redactor, why_refused: WhyRefused
    ) -> None:
        """Note the route: its name, if there are several, and its target's host."""
        self._route = route
        self._redact = redact
        self._why_refused = why_refused
        self.watch.target_host = host

    def set_url(self, origin: str, target: str, *, log_query: bool) -> None:
        """Note where it is sent: the origin of the target, and the request target."""
        self._url = shown_url(origin + (target if log_query else path_of(target)))

    def _fields(self, attempts: int | None = None) -> dict[str, Any]:
        return {
            "RequestID": self._request.request_id,
            "DurationMs": round((time.monotonic() - self._start) * 1000),
            "Method": self._request.method,
            "Attempts": attempts,
            "Caller": self.caller,
            "Route": self._route,
        }

    def failed(self, error: RequestError) -> None:
        """End it: the proxy responds itself."""
        why = self._redact(str(error))
        fields = {
            "Request": self._url or self._shown_path(),
            "StatusCode": error.status,
            "Code": error.code,
            "Error": why,
            **self._fields(),
            "Client": self._request.client,
        }
        log.log(failure_level(error), "Request failed", extra={"fields": fields})
        status, received, text = self._suppressed or (error.status, 0, "")
        self.watch.failing(self._route, f"{why}\n{text}".rstrip())
        self.watch.ended(status, received, error.code, seen_status=error.status)

    def _shown_path(self) -> str | None:
        """Return the path of a request that was refused before its route was known."""
        return None if self._request.malformed else shown_url(self._request.path)

    def crashed(self) -> None:
        """End it: a bug ended the request; its traceback is logged where it is caught."""
        self.watch.failing(self._route, "a fault in authproxy: its log has the traceback")
        self.watch.ended(InternalError.status, error=InternalError.code)

    def responded(self, exchange: Exchange, sent: int, excerpt: BodyExcerpt | None) -> None:
        """End it: the client got the upstream response, so many bytes of body."""
        with self.watch.current():
            self._log_response(exchange, sent, excerpt)
        self.watch.ended(exchange.response.status, sent)

    def suppressed(self, exchange: Exchange, received: int, excerpt: BodyExcerpt | None) -> str:
        """Log an upstream response in place of which the client gets an error: `failed`.

        Returns why the identity was refused, empty where it was not.
        """
        text, cause = self._log_response(exchange, received, excerpt)
        self._suppressed = exchange.response.status, received, text
        return cause

    def _log_response(
        self, exchange: Exchange, sent: int, excerpt: BodyExcerpt | None
    ) -> tuple[str, str]:
        """Return the masked text of an error, and why the identity was refused, if it was."""
        exchange.attempt.ended(sent)
        self.watch.target_responded = True
        status = exchange.response.status
        fields = {
            "ContentLength": sent,
            "Request": self._url,
            "StatusCode": status,
            **self._fields(exchange.attempts),
        }
        message = "Successfully sent request, returning response back."
        log.info(message, extra={"fields": fields})
        if excerpt is None:
            return "", ""
        encoding = excerpt.encoding
        text, cause = self._redact(excerpt.text(), exchange.tokens), ""
        if status in REFUSED_IDENTITY and self._why_refused is not None:
            challenge = exchange.response.field("www-authenticate") or ""
            challenge = self._redact(challenge[:SHOWN_BYTES], exchange.tokens)
            cause = self._why_refused(self._request, status, text, challenge)
        fields = {
            "Encoding": encoding and self._redact(encoding, exchange.tokens),
            "Request": self._url,
            "StatusCode": status,
            "Cause": cause or None,
        }
        log.error("Error response body: %s", text, extra={"fields": fields})
        self.watch.failing(self._route, text)
        return text, cause

    def truncated(self, exchange: Exchange, sent: int, error: RequestError) -> None:
        """End it: the response was truncated after its head had gone to the client."""
        exchange.attempt.ended(sent, error.code)
        self.watch.target_responded = True
        self.watch.failing(self._route, self._redact(str(error)))
        fields = {
            "ContentLength": sent,
            "Request": self._url,
            "StatusCode": exchange.response.status,
            "Error": str(error),
            **self._fields(exchange.attempts),
        }
        with self.watch.current():
            log.error("Response cut short", extra={"fields": fields})
        self.watch.ended(exchange.response.status, sent, error.code)

    def tunnel_ended(self, exchange: Exchange, end: TunnelEnd) -> None:
        """End it: the response was 101, and the tunnel behind it has ended."""
        exchange.attempt.ended(end.from_target)
        self.watch.target_responded = True
        self.watch.request_bytes += end.from_client
        status = exchange.response.status
        fields = {
            "ContentLength": end.from_target,
            "RequestBytes": end.from_client,
            "Request": self._url,
            "StatusCode": status,
            "EndedBy": end.by,
            "Error": end.problem or None,
            **self._fields(exchange.attempts),
        }
        with self.watch.current():
            log.info("Tunnel ended", extra={"fields": fields})
        self.watch.ended(status, end.from_target)


def failure_level(error: RequestError) -> int:
    """Return the level of the line of a request that the proxy responds to itself."""
    return logging.ERROR if error.status >= 500 else logging.WARNING


def shown_url(url: str) -> str:
    """Return a URL or request target as the log has it.

    Bytes beyond ASCII are percent-encoded, as the retired proxy had them: half as
    long as escaped in a line, and as they would be sent by a client that encodes them.
    """
    return url if url.isascii() else quote(url, safe=_ASCII, encoding="latin-1", errors="replace")
