"""The probe of the target itself: one harmless request, sent as the proxy sends its own."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable
from io import BytesIO

from authproxy import __version__
from authproxy.diagnose.identity import Token
from authproxy.diagnose.kinds import HarmlessRequest
from authproxy.diagnose.network import Way
from authproxy.diagnose.responses import Asked, Response, judge
from authproxy.diagnose.steps import Finding, ProbeFailed, Rule, first
from authproxy.diagnose.token_claims import printable
from authproxy.errors import Advice, RequestError, TargetTimeout, TargetUnreachable
from authproxy.http1.headers import canonical, forwardable
from authproxy.identity.http_transport import date_ahead_of
from authproxy.proxy.excerpt import BodyExcerpt
from authproxy.redaction import Redactor
from authproxy.settings import Settings
from authproxy.upstream.request import OutboundRequest, RequestBody
from authproxy.upstream.session import TargetSession
from authproxy.upstream.target import challenged_claims

#: Characters of a text of the target's that are shown, and that are searched for secrets.
_TEXT_LIMIT = 600
_READ_LIMIT = 4096


class HarmlessExchange:
    """Sends the request that fits the target, and says what the response means.

    `clock_offset` is by how many seconds the target's Date was ahead; `limit`
    is how many seconds a response may take.
    """

    def __init__(
        self,
        settings: Settings,
        way: Way,
        context: ssl.SSLContext | None,
        request: HarmlessRequest,
        *,
        limit: float,
    ) -> None:
        self.clock_offset: float | None = None
        self._settings = settings
        self._way = way
        self._context = context
        self._request = request
        self._overrides = {
            canonical(name): value.reveal()
            for name, value in settings.override_request_headers.items()
        }
        self._redact = Redactor(self._overrides.values())
        self._sent_tokens: list[str] = []
        self._seconds = min(settings.target_read_timeout_seconds, limit)

    def __call__(self, token: Token, renew: Callable[[str], Token]) -> Finding:
        """Return what the target's response means. Raises ProbeFailed without one.

        `renew` fetches a token with the claims that a target demands of it
        (continuous access evaluation).
        """
        session = TargetSession(
            self._way.url,
            pool_size=1,
            connect_timeout=self._settings.target_connect_timeout_seconds,
            read_timeout=self._seconds,
            ssl_context=self._context,
            proxy=self._way.proxy,
        )
        try:
            response, claims = self._exchange(session, token)
            if claims is not None:
                token = renew(claims)
                response, _ = self._exchange(session, token)
        except RequestError as error:
            raise ProbeFailed(no_response(error, self._way, self._seconds)) from error
        finally:
            session.close()
        return judge(response, Asked(self._way.url, self._settings.scope, self._request, token))

    def _exchange(self, session: TargetSession, token: Token) -> tuple[Response, str | None]:
        """Return a response, and the claims that it demands of another token."""
        request, way = self._request, self._way
        own = [("User-Agent", f"authproxy/{__version__} (check)"), *request.fields]
        body = None
        if request.body is not None:
            body = RequestBody(BytesIO(request.body), len(request.body))
        fields = forwardable(own, overrides=self._overrides, client=None)
        outbound = OutboundRequest(
            request.method, request.target, [("Host", way.url.authority), *fields], body
        )
        self._sent_tokens.append(token.fetched.value)
        response = session.exchange(outbound, f"Bearer {token.fetched.value}")
        self.clock_offset = date_ahead_of(response.field("date"), time.time())
        excerpt = BodyExcerpt(response.field("content-encoding"))
        excerpt.feed(response.beginning())
        challenge = response.field("www-authenticate") or ""
        scheme, _, parameters = challenge.partition(" ")
        # Nothing is parsed that a target may have malformed.
        location = re.split("[?#]", response.field("location") or "", maxsplit=1)[0]
        seen = Response(
            status=response.status,
            reason=self._shown(response.reason),
            text=self._shown(excerpt.text()),
            challenge=f"{self._shown(scheme)} {self._shown(parameters)}".strip(),
            location=self._shown(location),
        )
        return seen, challenged_claims(challenge) if response.status == 401 else None

    def _shown(self, text: str) -> str:
        """Return what the target says on one line, without what it was sent."""
        text = self._redact(text[:_READ_LIMIT], self._sent_tokens)
        text = printable(" ".join(text.split()))
        return text if len(text) <= _TEXT_LIMIT else f"{text[:_TEXT_LIMIT]}..."


def no_response(error: RequestError, way: Way, seconds: float) -> Finding:
    """Return what it means that no response came within `seconds`, or none that is valid."""
    words = printable(error.problem)
    return first(
        Rule(
            isinstance(error, TargetTimeout),
            f"the target did not respond for {seconds:g} s",
            Advice(
                "The target, or a gateway before it, is overloaded or hangs",
                "Try again; look at its own log",
            ),
            Advice(
                "What it does takes longer than that",
                "Raise TARGET_READ_TIMEOUT_SECONDS, and --timeout of this check",
            ),
        ),
        Rule(
            isinstance(error, TargetUnreachable),
            words,
            Advice(
                "The target was reached a moment ago, and is not now: it restarts, or "
                "something on the way limits connections",
                "Run the check again",
            ),
        ),
        Rule(
            True,
            words,
            Advice(
                "The target, or what stands before it, does not speak HTTP/1.1 or gave up",
                f"Look at its own log; check the port in {way.setting}",
            ),
        ),
    )
