"""Pure rule: when a certificate's expiry is worth a warning."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

#: A certificate that expires so soon is worth a warning, unless it is of a kind that lives
#: shortly: of such a one the last third is.
NOTICE = timedelta(days=14)
_NOTICE_SHARE = 3

State = Literal["valid", "expires soon", "expired"]


@dataclass(frozen=True)
class Expiry:
    """When a certificate expires, and from when on to warn of it; in seconds since the epoch."""

    at: float
    warn_from: float

    @classmethod
    def of(cls, not_before: datetime, not_after: datetime) -> Expiry:
        """Return that of a server's certificate."""
        notice = min(NOTICE, (not_after - not_before) / _NOTICE_SHARE)
        return cls(not_after.timestamp(), (not_after - notice).timestamp())

    def state(self, now: float) -> State:
        """Return what is to be said of it at that time, in seconds since the epoch."""
        if now > self.at:
            return "expired"
        return "expires soon" if now > self.warn_from else "valid"
