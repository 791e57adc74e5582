"""One request to the target with the proxy's token, and when it is sent again."""

from __future__ import annotations

import re
from base64 import b64decode
from collections import deque
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Protocol, TypeVar

from authproxy.errors import AuthProxyError, TargetProtocolError
from authproxy.telemetry.events import NO_ATTEMPT, NO_TARGET_TELEMETRY, Attempt, TargetTelemetry
from authproxy.upstream.repeatable import is_repeatable
from authproxy.upstream.request import OutboundRequest
from authproxy.upstream.response import UpstreamResponse
from authproxy.upstream.session import DeadConnection, TargetSession

#: Seconds that a request which the target refused with 401 waits for a new token.
RENEWAL_WAIT_SECONDS = 5.0

#: Tokens that are remembered as sent: more than renewals can use up while one request lasts.
RECENT_TOKENS = 4

_CLAIMS = re.compile(r'claims="([A-Za-z0-9+/=_-]+)"')


class BearerToken(Protocol):
    """What is needed of a token here."""

    @property
    def value(self) -> str: ...


T = TypeVar("T", bound=BearerToken)


class Tokens(Protocol[T]):
    """What is needed of a source of tokens here; see `authproxy.identity.tokens.TokenSource`."""

    def current(self) -> T: ...

    def renew(self, rejected: T, claims: str | None, timeout: float) -> T | None: ...


@dataclass(frozen=True)
class Exchange:
    """A response and the number of times that the request was sent for it.

    `tokens` are those that the target was sent lately, this request's among
    them: it may quote any of them.
    """

    response: UpstreamResponse
    attempts: int
    attempt: Attempt = NO_ATTEMPT
    tokens: tuple[str, ...] = field(default=(), repr=False)


class Target:
    """Sends requests, each with the current token, each at most twice.

    A request is sent again, once, where (a) a pooled connection turned out to
    be dead before any byte of a response, and the target either cannot have the
    whole request or may get it twice, or (b) the target responded 401 and a
    fresh token is to be had. Never otherwise: what the target may have
    processed is the client's to send again.
    """

    def __init__(
        self,
        session: TargetSession,
        tokens: Tokens[T],
        telemetry: TargetTelemetry = NO_TARGET_TELEMETRY,
    ) -> None:
        self._session = session
        self._tokens = tokens
        self._telemetry = telemetry
        self._recent_tokens: deque[str] = deque(maxlen=RECENT_TOKENS)

    def send(self, request: OutboundRequest) -> Exchange:
        """Return the upstream response.

        Raises AuthenticationTokenNotFound without a valid token,
        TargetProtocolError where a pooled connection was dead and the request is
        not to be sent twice, and what `TargetSession.exchange` raises otherwise.
        """
        token = self._tokens.current()
        try:
            exchange = self._attempt(request, token, 1)
        except DeadConnection as error:
            if error.wholly_sent and not is_repeatable(
                request.method, request.target, request.fields
            ):
                raise TargetProtocolError(
                    f"the target {error}; the connection had been used before, and "
                    f"{request.method} is not sent again as the target may have processed it"
                ) from error
            self._telemetry.retried("dead_connection")
            return self._resend(request, token)
        response = exchange.response
        if response.status == HTTPStatus.UNAUTHORIZED:
            claims = challenged_claims(response.field("www-authenticate"))
            fresh = self._tokens.renew(token, claims, RENEWAL_WAIT_SECONDS)
            if fresh is not None:
                exchange.attempt.ended(len(response.beginning()))  # it is not wanted
                self._telemetry.retried("unauthorized")
                return self._resend(request, fresh)
        return exchange

    def send_preflight(self, request: OutboundRequest) -> Exchange:
        """Return the response to a preflight, which goes out with a token only where it must.

        It is sent again, once, where a pooled connection was dead, or, with the token, where
        the target responded 401. Raises what `send` does.
        """
        try:
            exchange = self._attempt(request, None, 1)
        except DeadConnection:
            self._telemetry.retried("dead_connection")
            return self._resend(request, None)
        if exchange.response.status != HTTPStatus.UNAUTHORIZED:
            return exchange
        exchange.attempt.ended(len(exchange.response.beginning()))  # it is not wanted
        token = self._tokens.current()
        self._telemetry.retried("unauthorized")
        return self._resend(request, token)

    def _resend(self, request: OutboundRequest, token: BearerToken | None) -> Exchange:
        """Send once more, on a connection of its own: the others may be dead as well."""
        try:
            return self._attempt(request, token, 2)
        except DeadConnection as error:
            raise TargetProtocolError(f"the target {error}") from error

    def _attempt(
        self, request: OutboundRequest, token: BearerToken | None, number: int
    ) -> Exchange:
        sent = [] if token is None else [token.value]
        self._recent_tokens += [value for value in sent if value not in self._recent_tokens]
        attempt = self._telemetry.attempt(request.method, request.target, number)
        fields = attempt.carried(request.fields)
        if fields is not request.fields:
            request = replace(request, fields=fields)
        try:
            authorization = "" if token is None else f"Bearer {token.value}"
            response = self._session.exchange(request, authorization, reconnect=number > 1)
        except AuthProxyError as error:
            attempt.ended(0, type(error).__name__)
            raise
        attempt.response_began(response.status)
        return Exchange(response, number, attempt, (*self._recent_tokens, *sent))


def challenged_claims(challenge: str | None) -> str | None:
    """Return the claims that a 401 asks for, as JSON, if it asks for any.

    This is the claims challenge of continuous access evaluation:
    `WWW-Authenticate: Bearer error="insufficient_claims", claims="<base64>"`.
    """
    match = _CLAIMS.search(challenge or "")
    if not match or "insufficient_claims" not in (challenge or ""):
        return None
    encoded = match[1].translate({ord("-"): "+", ord("_"): "/"}).rstrip("=")
    try:
        return b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except ValueError:
        return None
