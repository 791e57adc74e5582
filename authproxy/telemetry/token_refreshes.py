"""What is counted of tokens: attempts to get one, and when each expires."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

from authproxy.telemetry.series import Labels


@dataclass(frozen=True)
class Identity:
    """Whose tokens are fetched: labels of the refreshes."""

    audience: str
    client_id: str
    tenant_id: str
    identity_type: str

    def labels(self) -> dict[str, str]:
        return dict(vars(self))


@dataclass(eq=False)
class RefreshSeries:
    """The refreshes of one source of tokens, counted by the thread of an attempt; read by any."""

    identity: Identity
    outcomes: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    #: Of the token that it has now.
    expires_at: float | None = None
    over: bool = False

    def refreshed(self, *, is_success: bool, expires_at: float | None = None) -> None:
        """Count an attempt to get a token; `expires_at` is that of the one now in use."""
        self.outcomes[is_success] += 1
        if expires_at is not None:
            self.expires_at = expires_at

    def ended(self) -> None:
        """Note that its token is used no more, and that another source may continue its counts."""
        self.expires_at = None
        self.over = True


class TokenRefreshes:
    """The sources of tokens. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sources: list[RefreshSeries] = []

    def add(self, series: RefreshSeries) -> None:
        """Report a source of tokens; it continues the counts of ended ones with its labels."""
        with self._lock:
            if series in self._sources:
                return
            for former in [each for each in self._sources if each.over]:
                if former.identity == series.identity:
                    self._sources.remove(former)
                    for outcome, count in former.outcomes.items():
                        series.outcomes[outcome] += count
            self._sources.append(series)

    def counts(self) -> dict[Labels, int]:
        """Return the attempts of each identity, by outcome."""
        totals: Counter[tuple[Identity, bool]] = Counter()
        with self._lock:
            for source in self._sources:
                for outcome, count in source.outcomes.items():
                    totals[source.identity, outcome] += count
        return {
            (*identity.labels().items(), ("is_success", outcome)): count
            for (identity, outcome), count in totals.items()
        }

    def expiries(self) -> dict[Labels, float]:
        """Return when the first token of each audience expires, in seconds since the epoch."""
        earliest: dict[Labels, float] = {}
        with self._lock:
            for source in self._sources:
                if (expires_at := source.expires_at) is not None:
                    labels: Labels = (("audience", source.identity.audience),)
                    earliest[labels] = min(expires_at, earliest.get(labels, expires_at))
        return earliest
