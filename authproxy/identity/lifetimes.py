"""Pure rules: how long a token is good, when to refresh it, how long to wait.

Times are seconds: "wall" since the epoch, "monotonic" on the machine's other
clock. A token is judged by both, so that neither a suspend (in which the
monotonic clock stands still) nor a wall clock that is set back lets an expired
one out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random

from authproxy.clock import Clock
from authproxy.errors import Explanation
from authproxy.identity.provenance import Provenance

#: Entra's longest: tokens for continuous access evaluation live for 28 hours at most.
#: https://learn.microsoft.com/entra/identity/conditional-access/concept-continuous-access-evaluation
LONGEST_LIFETIME = 28 * 3600.0

#: In milliseconds this is the year 2001, in seconds none that a calendar has.
_NO_SECONDS = 1e12

#: A token is not sent in its last seconds: it has to live until the target judges it.
EXPIRY_MARGIN = 10.0

#: A refresh is due at least this long before expiry, however small the percentage...
REFRESH_RESERVE = 30.0
#: ...and at most this soon after the last one, whatever `refresh_on` says.
REFRESH_PAUSE = 30.0

BACKOFF_FIRST = 1.0
BACKOFF_CEILING = 60.0
#: The longest Retry-After obeyed: one absurd value must not be an outage of a day.
RETRY_AFTER_CEILING = 300.0


def refresh_time(
    acquired: float, expires: float, percentage: float, refresh_on: float | None = None
) -> float:
    """Return the wall time at which a token is to be refreshed.

    That is when `percentage` of its lifetime is left or at `refresh_on`, the
    issuer's own wish, whichever is first. Two bounds keep odd values harmless.
    Never later than `REFRESH_RESERVE` before expiry, so that 1 percent of an
    hour still leaves time to fetch; never sooner than `REFRESH_PAUSE` after
    `acquired`, so that a `refresh_on` in the past is no endless loop. A token
    too short-lived for these is refreshed halfway through its usable life.
    """
    halfway = max(0.0, expires - acquired - EXPIRY_MARGIN) / 2
    wanted = expires - (expires - acquired) * percentage / 100
    if refresh_on is not None:
        wanted = min(wanted, refresh_on)
    latest = max(acquired + halfway, expires - REFRESH_RESERVE)
    earliest = acquired + min(REFRESH_PAUSE, halfway)
    return max(earliest, min(wanted, latest))


def backoff(attempt: int, random: Random, retry_after: float | None = None) -> float:
    """Return the wait in seconds after failure number `attempt` (1 is the first).

    Exponential with full jitter between 1 s and 60 s, so that a fleet that lost
    its identity endpoint does not come back as one. `retry_after` is a floor:
    what the endpoint asked for is waited out, up to `RETRY_AFTER_CEILING`.
    """
    # The exponent is bounded first: 2.0 ** 1024 is an OverflowError.
    ceiling = min(BACKOFF_CEILING, 2.0 * BACKOFF_FIRST * 2.0 ** min(attempt - 1, 10))
    wait = random.uniform(BACKOFF_FIRST, ceiling)
    return max(wait, min(retry_after or 0.0, RETRY_AFTER_CEILING))


@dataclass(frozen=True)
class FetchedToken:
    """A token as the issuer gave it. Times are seconds since the epoch."""

    value: str = field(repr=False)
    expires_on: float
    #: When the issuer would like it refreshed, if it says so.
    refresh_on: float | None = None
    provenance: Provenance | None = field(default=None, compare=False)

    @classmethod
    def of(
        cls,
        value: str,
        expires_on: object,
        refresh_on: object,
        now: float,
        provenance: Provenance | None = None,
    ) -> FetchedToken:
        """Return a token with times as an endpoint says them, whatever that is, at `now`.

        They may be texts, and milliseconds. A lifetime beyond Entra's longest
        is cut to that. Where the expiry was not as it should be, `refresh_on`
        is dropped: libraries compute it from the expiry. Raises ValueError for
        what is no time at all.
        """
        stated, expires = _finite(expires_on), _seconds(expires_on)
        if expires != stated or expires > now + LONGEST_LIFETIME:
            refresh_on = None
        refresh = None if refresh_on is None else _seconds(refresh_on)
        return cls(value, min(expires, now + LONGEST_LIFETIME), refresh, provenance)


def _finite(stated: object) -> float:
    try:
        number = float(stated)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("the identity endpoint states no time at which the token expires")
    return number


def _seconds(stated: object) -> float:
    """Return a time since the epoch, none of which is before it."""
    seconds = max(0.0, _finite(stated))
    while seconds >= _NO_SECONDS:  # milliseconds, microseconds or nanoseconds
        seconds /= 1000
    return seconds


@dataclass(frozen=True)
class Token:
    """A token, and when it stops being good on each clock."""

    value: str = field(repr=False)
    #: Wall time of expiry, as the issuer has it.
    expires_at: float
    refresh_at: float
    #: The same two moments on the monotonic clock, the first less the margin.
    deadline: float
    refresh_by: float
    #: Wall time at which it was fetched.
    acquired_at: float
    provenance: Provenance | None = None

    @classmethod
    def acquired(cls, fetched: FetchedToken, percentage: float, clock: Clock) -> Token:
        """Return what was fetched just now, with its times worked out on both clocks."""
        wall, monotonic = clock.wall(), clock.monotonic()
        refresh_at = refresh_time(wall, fetched.expires_on, percentage, fetched.refresh_on)
        return cls(
            value=fetched.value,
            expires_at=fetched.expires_on,
            refresh_at=refresh_at,
            deadline=monotonic + fetched.expires_on - wall - EXPIRY_MARGIN,
            refresh_by=monotonic + refresh_at - wall,
            acquired_at=wall,
            provenance=fetched.provenance,
        )

    def seconds_valid(self, clock: Clock) -> float:
        """Return for how long it may still be sent; zero or less: not any more."""
        wall_left = self.expires_at - EXPIRY_MARGIN - clock.wall()
        return min(wall_left, self.deadline - clock.monotonic())

    def seconds_fresh(self, clock: Clock) -> float:
        """Return the time until its refresh is due; zero or less: it is due."""
        return min(self.refresh_at - clock.wall(), self.refresh_by - clock.monotonic())

    @property
    def mismatch(self) -> Explanation | None:
        """What it means that it is of another identity than that of the settings; None if not."""
        return self.provenance.mismatch if self.provenance else None

    def replaces(self, current: Token, because_rejected: bool) -> bool:
        """Whether this one is worth having instead: another token that lives longer.

        In place of a rejected token any other will do.
        """
        if self.value == current.value:
            return False
        return because_rejected or self.expires_at > current.expires_at
