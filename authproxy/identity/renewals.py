"""Pure rules: for which rejections by the target a new token is fetched."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

#: Fetches after rejections in any `RENEWAL_PERIOD`.
RENEWAL_PERIOD = 30.0
RENEWALS_PER_PERIOD = 3


@dataclass(frozen=True)
class Renewal:
    """A request for a new token after a rejection, and when it was made (monotonic)."""

    claims: str | None
    at: float


class Renewals:
    """The renewals of one source of tokens.

    A 401 must not become a load on Entra, nor undo the back-off while Entra is
    down. So none is begun

    - within 30 s of one for the same claims, or where there are no claims now:
      that one either brought the token that was rejected, which shows that a
      fresh one does not help, or it failed;
    - after three in 30 s, whatever the claims.
    """

    def __init__(self) -> None:
        self._latest: deque[Renewal] = deque(maxlen=RENEWALS_PER_PERIOD)

    def begin(self, claims: str | None, now: float) -> Renewal | None:
        """Return a renewal for these claims at this monotonic time, None if there may be none."""
        recent = [each for each in self._latest if now - each.at < RENEWAL_PERIOD]
        if len(recent) == RENEWALS_PER_PERIOD:
            return None
        if recent and (claims is None or any(claims == each.claims for each in recent)):
            return None
        renewal = Renewal(claims, now)
        self._latest.append(renewal)
        return renewal
