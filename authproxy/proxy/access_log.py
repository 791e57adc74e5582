"""The access log: one line for each request, in the retired proxy's words."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from authproxy.errors import InternalError, RequestError
from authproxy.http1.inbound_request import InboundRequest
from authproxy.http1.urls import path_of
from authproxy.proxy.excerpt import SHOWN_BYTES, BodyExcerpt
from authproxy.proxy.repeated_failures import RepeatedFailures
from authproxy.redaction import Redactor
from authproxy.telemetry.events import Telemetry
from authproxy.tunnel import TunnelEnd
from authproxy.upstream.refused_identity import REFUSED_IDENTITY
from authproxy.upstream.target import Exchange

log = logging.getLogger(__name__)

#: Says why a target refused the identity, by request, status, text and WWW-Authenticate.
WhyRefused = Callable[[InboundRequest, int, str, str], str]

#: Lines of failures in ten seconds at most, of those that are alike and of all.
LINES_OF_ONE = 100
LINES_OF_ALL = 1000

#: What stands in a URL for itself.
_ASCII = "".join(map(chr, range(0x21, 0x7F)))

#: Of requests whose route is not known.
_NO_SECRETS = Redactor()


class AccessLog:
    """Which requests have a line. Any thread may call."""

    def __init__(self, telemetry: Telemetry, shown: str) -> None:
        """`shown` is ACCESS_LOG: `all`, `errors` or `none`."""
        self.shown = shown
        self._telemetry = telemetry
        #: A client that is refused before its target is known takes no lines from others.
        self._refusals = RepeatedFailures(LINES_OF_ONE, LINES_OF_ALL)
        self._failures = RepeatedFailures(LINES_OF_ONE, LINES_OF_ALL)

    def entry(self, request: InboundRequest) -> AccessLogEntry:
        """Return the entry of a request, which has arrived."""
        return AccessLogEntry(self, request, self._telemetry)

    def tick(self) -> None:
        """Write how many failures got no line, once their time is over."""
        self._refusals.tick()
        self._failures.tick()

    def flush(self) -> None:
        """Write how many failures got no line so far."""
        self._refusals.flush()
        self._failures.flush()

    def failure_gets_line(
        self, alike: Hashable, status: int, code: str | None, *, forwarded: bool
    ) -> bool:
        """Tell whether a failure has a line of its own, or is counted among those like it."""
        budget = self._failures if forwarded else self._refusals
        return self.shown != "none" and budget.gets_line(alike, status, code)

    @property
    def has_successes(self) -> bool:
        """Whether requests that went well have lines."""
        return self.shown == "all"

    @property
    def has_failures(self) -> bool:
        """Whether requests that failed have lines."""
        return self.shown != "none"


@dataclass(frozen=True)
class _ErrorResponse:
    """An error of the target as the log has it; `cause` is why it refused the identity, if so."""

    text: str
    fields: dict[str, Any]
    cause: str = ""


class AccessLogEntry:
    """What the log says of one request: one line, in the end."""

    def __init__(
        self, access_log: AccessLog, request: InboundRequest, telemetry: Telemetry
    ) -> None:
        self.watch = telemetry.request(request)
        self._log = access_log
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
        #: The upstream response in place of which the client gets an error: its exchange, bytes
        #: and error, if it is one.
        self._suppressed: tuple[Exchange, int, _ErrorResponse | None] | None = None

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

    def failed(self, error: RequestError) -> None:
        """End it: the proxy responds itself."""
        why = self._redact(str(error))
        if self._suppressed is None:
            self._request_failed(error.status, error, why)
            self.watch.failing(self._route, why)
            self.watch.ended(error.status, 0, error.code, seen_status=error.status)
            return
        exchange, received, response = self._suppressed
        status, attempts = exchange.response.status, exchange.attempts
        if response is None:
            self._request_failed(status, error, why, SentStatusCode=error.status, Attempts=attempts)
            self.watch.failing(self._route, why)
        else:
            sent = {"Code": error.code, "SentStatusCode": error.status}
            self._error_response(exchange, received, response, **sent)
            self.watch.failing(self._route, f"{why}\n{response.text}".rstrip())
        self.watch.ended(status, received, error.code, seen_status=error.status)

    def crashed(self) -> None:
        """End it: a bug ended the request; its traceback is logged where it is caught."""
        why = "a fault in authproxy: its log has the traceback"
        self._request_failed(InternalError.status, InternalError(), why)
        self.watch.failing(self._route, why)
        self.watch.ended(InternalError.status, error=InternalError.code)

    def responded(self, exchange: Exchange, sent: int, excerpt: BodyExcerpt | None) -> None:
        """End it: the client got the upstream response, so many bytes of body."""
        exchange.attempt.ended(sent)
        self.watch.target_responded = True
        status = exchange.response.status
        with self.watch.current():
            if excerpt is None:
                if self._log.has_successes:
                    fields = {
                        "ContentLength": sent,
                        "Request": self._url,
                        "StatusCode": status,
                        **self._fields(exchange.attempts),
                    }
                    message = "Successfully sent request, returning response back."
                    log.info(message, extra={"fields": fields})
            else:
                response = self._read_error(exchange, excerpt)
                self._error_response(exchange, sent, response)
                self.watch.failing(self._route, response.text)
        self.watch.ended(status, sent)

    def suppressed(self, exchange: Exchange, received: int, excerpt: BodyExcerpt | None) -> str:
        """Note an upstream response in place of which the client gets an error: `failed`.

        Returns why the identity was refused, empty where it was not.
        """
        exchange.attempt.ended(received)
        self.watch.target_responded = True
        response = None if excerpt is None else self._read_error(exchange, excerpt)
        self._suppressed = exchange, received, response
        return "" if response is None else response.cause

    def truncated(self, exchange: Exchange, sent: int, error: RequestError) -> None:
        """End it: the response was truncated after its head had gone to the client."""
        exchange.attempt.ended(sent, error.code)
        self.watch.target_responded = True
        why = self._redact(str(error))
        self.watch.failing(self._route, why)
        fields = {
            "ContentLength": sent,
            "Request": self._url,
            "StatusCode": exchange.response.status,
            "Error": why,
            **self._fields(exchange.attempts),
        }
        with self.watch.current():
            self._failure(failure_level(error.status), "Response cut short", fields)
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
        if self._log.has_successes:
            with self.watch.current():
                log.info("Tunnel ended", extra={"fields": fields})
        self.watch.ended(status, end.from_target)

    # The line.

    def _read_error(self, exchange: Exchange, excerpt: BodyExcerpt) -> _ErrorResponse:
        """Return what the target's error says, masked."""
        status, tokens = exchange.response.status, exchange.tokens
        text, cause = self._redact(excerpt.text(), tokens), ""
        if status in REFUSED_IDENTITY and self._why_refused is not None:
            challenge = exchange.response.field("www-authenticate") or ""
            challenge = self._redact(challenge[:SHOWN_BYTES], tokens)
            cause = self._why_refused(self._request, status, text, challenge)
        encoding = excerpt.encoding and self._redact(excerpt.encoding, tokens)
        return _ErrorResponse(text, {"Encoding": encoding, "Cause": cause or None}, cause)

    def _error_response(
        self, exchange: Exchange, sent: int, response: _ErrorResponse, **more: object
    ) -> None:
        status = exchange.response.status
        fields = {
            "ContentLength": sent,
            "Request": self._url,
            "StatusCode": status,
            **more,
            **response.fields,
            **self._fields(exchange.attempts),
        }
        self._failure(logging.ERROR, f"Error response body: {response.text}", fields)

    def _request_failed(self, status: int, error: RequestError, why: str, **more: object) -> None:
        fields = {
            "Request": self._url or self._shown_path(),
            "StatusCode": status,
            "Code": error.code,
            "Error": why,
            **self._fields(),
            **more,
        }
        self._failure(failure_level(error.status), "Request failed", fields)

    def _fields(self, attempts: int | None = None) -> dict[str, Any]:
        return {
            "RequestID": self._request.request_id,
            "DurationMs": round((time.monotonic() - self._start) * 1000),
            "Method": self._request.method,
            "Attempts": attempts,
            "Caller": self.caller,
            "Route": self._route,
            "Client": self._request.client,
        }

    def _shown_path(self) -> str | None:
        """Return the path of a request that was refused before its route was known."""
        return None if self._request.malformed else shown_url(self._request.path)

    def _failure(self, level: int, message: str, fields: dict[str, Any]) -> None:
        """Write the line of a request that failed; of those that are alike some are counted."""
        status, code = fields["StatusCode"], fields.get("Code")
        alike = self._request.client, self._shown_path(), status, code, fields.get("Error")
        forwarded = self._url is not None
        if self._log.failure_gets_line(alike, status, code, forwarded=forwarded):
            log.log(level, message, extra={"fields": fields})


def failure_level(status: int) -> int:
    """Return the level of the line of a request that failed with this status.

    A client's fault is no error of the proxy's.
    """
    return logging.ERROR if status >= 500 else logging.WARNING


def shown_url(url: str) -> str:
    """Return a URL or request target as the log has it.

    Bytes beyond ASCII are percent-encoded, as the retired proxy had them: half as
    long as escaped in a line, and as they would be sent by a client that encodes them.
    """
    return url if url.isascii() else quote(url, safe=_ASCII, encoding="latin-1", errors="replace")
