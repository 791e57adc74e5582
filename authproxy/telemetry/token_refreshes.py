"""What is counted and traced of tokens: attempts to get one, and when each expires."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from opentelemetry.trace import Span, StatusCode, TracerProvider

from authproxy import __version__
from authproxy.clock import rfc3339
from authproxy.telemetry.events import Refresh, TokenTelemetry
from authproxy.telemetry.series import Labels


class Identity(NamedTuple):
    """Whose tokens are fetched: labels of the refreshes."""

    audience: str
    client_id: str
    tenant_id: str
    identity_type: str


class TokenSide(TokenTelemetry):
    """Counts one source's attempts to get a token; with a tracer, they are traced.

    Counted by the thread of an attempt; read by any.
    """

    def __init__(
        self, refreshes: TokenRefreshes, identity: Identity, provider: TracerProvider | None
    ) -> None:
        self._refreshes = refreshes
        self._tracer = provider.get_tracer("authproxy", __version__) if provider else None
        self.identity = identity
        self.outcomes = {True: 0, False: 0}
        #: Of the token that it has now.
        self.expires_at: float | None = None
        self.over = False

    @contextmanager
    def refresh(self) -> Iterator[Refresh]:
        if self._tracer is None:
            yield _ObservedRefresh(self, None)
            return
        with self._tracer.start_as_current_span(
            "refreshAADToken", attributes=self.identity._asdict()
        ) as span:
            yield _ObservedRefresh(self, span)

    def refreshed(self, *, is_success: bool, expires_at: float | None = None) -> None:
        """Count an attempt to get a token; `expires_at` is that of the one now in use."""
        self.outcomes[is_success] += 1
        if expires_at is not None:
            self.expires_at = expires_at

    def in_force(self) -> None:
        self._refreshes.add(self)

    def ended(self) -> None:
        """Its token is used no more, and another source may continue its counts."""
        self.expires_at = None
        self.over = True


class _ObservedRefresh(Refresh):
    def __init__(self, side: TokenSide, span: Span | None) -> None:
        self._side = side
        self._span = span

    def succeeded(self, expires_at: float, next_refresh: float) -> None:
        self._side.refreshed(is_success=True, expires_at=expires_at)
        if self._span is not None:
            self._span.set_attribute("token.expiry_timestamp", rfc3339(expires_at))
            self._outcome(self._span, next_refresh, is_success=True)

    def failed(self, reason: str, next_refresh: float) -> None:
        self._side.refreshed(is_success=False)
        if self._span is not None:
            self._outcome(self._span, next_refresh, is_success=False)
            self._span.set_status(StatusCode.ERROR, reason)

    def _outcome(self, span: Span, next_refresh: float, *, is_success: bool) -> None:
        span.set_attribute("is_success", is_success)
        span.set_attribute("tokenrefresh.next_refresh_timestamp", rfc3339(next_refresh))


class TokenRefreshes:
    """The sources of tokens. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sources: list[TokenSide] = []

    def add(self, source: TokenSide) -> None:
        """Report a source of tokens; it continues the counts of ended ones with its labels."""
        with self._lock:
            if source in self._sources:
                return
            for former in [each for each in self._sources if each.over]:
                if former.identity == source.identity:
                    self._sources.remove(former)
                    for outcome, count in former.outcomes.items():
                        source.outcomes[outcome] += count
            self._sources.append(source)

    def counts(self) -> dict[Labels, int]:
        """Return the attempts of each identity, by outcome."""
        totals: Counter[Labels] = Counter()
        with self._lock:
            for source in self._sources:
                for outcome, count in source.outcomes.items():
                    labels = (*source.identity._asdict().items(), ("is_success", outcome))
                    totals[labels] += count
        return totals

    def expiries(self) -> dict[Labels, float]:
        """Return when the first token of each audience expires, in seconds since the epoch."""
        earliest: dict[Labels, float] = {}
        with self._lock:
            for source in self._sources:
                if (expires_at := source.expires_at) is not None:
                    labels: Labels = (("audience", source.identity.audience),)
                    earliest[labels] = min(expires_at, earliest.get(labels, expires_at))
        return earliest
