"""The probe of the target itself: one harmless request, sent as the proxy sends its own."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from io import BytesIO
from urllib.parse import urlsplit

from authproxy import __version__
from authproxy.diagnose.answers import Asked, Seen, judge
from authproxy.diagnose.identity import Token
from authproxy.diagnose.kinds import HarmlessRequest
from authproxy.diagnose.network import Way
from authproxy.diagnose.steps import Advice, Finding, ProbeFailed
from authproxy.diagnose.token_claims import printable
from authproxy.errors import RequestError, TargetTimeout, TargetUnreachable
from authproxy.http1.headers import canonical, forwardable
from authproxy.identity.http_transport import date_ahead_of
from authproxy.proxy.excerpt import BodyExcerpt
from authproxy.redaction import Redactor
from authproxy.settings import Settings
from authproxy.upstream.request import OutboundRequest, RequestBody
from authproxy.upstream.target import challenged_claims
from authproxy.upstream.transport import TargetAdapter

#: Of what the target says, this much is shown.
_TEXT_LIMIT = 600
#: And this much is searched for what it was sent, which may be most of it.
_READ_LIMIT = 4096


class HarmlessExchange:
    """Sends the request that fits the target, and judges the answer.

    `renew` fetches a token with the claims that a target demands of it (CAE).
    `clock_offset` is by how many seconds the target's Date was ahead.
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
        #: The tokens.
        self._sent: list[str] = []
        self._patience = min(settings.target_read_timeout_seconds, limit)

    def __call__(self, token: Token, renew: Callable[[str], Token]) -> Finding:
        """Return what the target's answer means. Raises ProbeFailed without one."""
        adapter = TargetAdapter(
            self._way.url,
            pool_size=1,
            connect_timeout=self._settings.target_connect_timeout_seconds,
            read_timeout=self._patience,
            ssl_context=self._context,
            proxy=self._way.proxy,
        )
        try:
            seen, claims = self._exchange(adapter, token)
            if claims is not None:
                token = renew(claims)
                seen, _ = self._exchange(adapter, token)
        except TargetTimeout as error:
            raise silent(self._patience) from error
        except TargetUnreachable as error:
            raise ProbeFailed(
                printable(str(error)),
                Advice(
                    "The target was reached a moment ago, and is not now: it restarts, or "
                    "something on the way limits connections",
                    "Run the check again",
                ),
            ) from error
        except RequestError as error:
            raise ProbeFailed(
                printable(str(error)),
                Advice(
                    "The target, or what stands before it, does not speak HTTP/1.1 or gave up",
                    f"Look at its own log; check the port in {self._way.setting}",
                ),
            ) from error
        finally:
            adapter.close()
        return judge(seen, Asked(self._way.url, self._settings.scope, self._request, token))

    def _exchange(self, adapter: TargetAdapter, token: Token) -> tuple[Seen, str | None]:
        request = self._request
        own = [("User-Agent", f"authproxy/{__version__} (check)"), *request.fields]
        body = None
        if request.body is not None:
            body = RequestBody(BytesIO(request.body), len(request.body))
        outbound = OutboundRequest(
            request.method,
            request.target,
            [
                ("Host", self._way.url.authority),
                *forwardable(own, overrides=self._overrides, client=None),
            ],
            body,
        )
        self._sent.append(token.fetched.value)
        answer = adapter.exchange(outbound, f"Bearer {token.fetched.value}")
        self.clock_offset = date_ahead_of(answer.field("date"), time.time())
        excerpt = BodyExcerpt(answer.field("content-encoding"))
        excerpt.feed(answer.beginning())
        challenge = answer.field("www-authenticate") or ""
        scheme, _, parameters = challenge.partition(" ")
        location = urlsplit(answer.field("location") or "")
        seen = Seen(
            status=answer.status,
            reason=self._shown(answer.reason),
            text=self._shown(excerpt.text()),
            challenge=f"{self._shown(scheme)} {self._shown(parameters)}".strip(),
            location=self._shown(location._replace(query="", fragment="").geturl()),
        )
        demanded = challenged_claims(challenge) if answer.status == 401 else None
        return seen, demanded

    def _shown(self, text: str) -> str:
        """Return what the target says, without what it was sent, on one line."""
        return _one_line(self._redact(text[:_READ_LIMIT], self._sent))


def silent(seconds: float) -> ProbeFailed:
    """Return what it means that the target took the request and did not answer."""
    return ProbeFailed(
        f"the target did not answer for {seconds:g} s",
        Advice(
            "The target, or a gateway before it, is overloaded or hangs",
            "Try again; look at its own log",
        ),
        Advice(
            "What it does takes longer than that",
            "Raise TARGET_READ_TIMEOUT_SECONDS, and --timeout of this check",
        ),
    )


def _one_line(text: str) -> str:
    text = printable(" ".join(text.split()))
    return text if len(text) <= _TEXT_LIMIT else f"{text[:_TEXT_LIMIT]}..."
