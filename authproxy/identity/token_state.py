"""The state of a source of tokens, as probes, people and the log have it: without the token."""

from __future__ import annotations

from dataclasses import dataclass, field

from authproxy.clock import rfc3339
from authproxy.errors import AuthProxyError, Explanation
from authproxy.files.expiry import Expiry
from authproxy.identity.credentials import FetchError
from authproxy.identity.lifetimes import Token


@dataclass(frozen=True)
class LastError:
    """Why the last attempt failed: texts only, as an exception keeps frames in memory."""

    #: The explanation, or else the detail.
    summary: str
    detail: str
    explanation: Explanation | None

    @classmethod
    def of(cls, error: AuthProxyError) -> LastError:
        """Return the texts of an error."""
        if isinstance(error, FetchError):
            return cls(error.summary, error.detail, error.explanation)
        return cls(str(error), str(error), None)


@dataclass(frozen=True)
class TokenState:
    """A source of tokens at one moment; times are seconds since the epoch."""

    ready: bool
    #: The current one, valid or not: its times, and where it comes from.
    token: Token | None = field(repr=False)
    #: The last attempt, and why it failed, if it did.
    tried_at: float | None
    last_error: LastError | None
    next_attempt_at: float
    #: Of the client certificate that proves the identity, where there is one.
    certificate_expiry: Expiry | None

    def brief(self, now: float) -> dict[str, str | float | None]:
        """Return what a probe may show: RFC 3339, and seconds from `now`."""
        return {
            "expires_at": rfc3339(self.token.expires_at) if self.token else None,
            "last_error": self.last_error.summary if self.last_error else None,
            "next_attempt_seconds": self._seconds_to_next(now),
        }

    def fields(
        self, audience: str | None, error: AuthProxyError | None, now: float
    ) -> dict[str, str | float | None]:
        """Return what the log says of an attempt that has ended, with this error or well."""
        fields: dict[str, str | float | None] = {"Audience": audience}
        if error is not None:
            fields = {"Error": str(error), **fields}
        if self.token is not None:
            fields["ExpiresOn"] = rfc3339(self.token.expires_at)
        if error is not None:
            return {**fields, "NextAttempt": self._seconds_to_next(now)}
        fields["NextRefresh"] = rfc3339(self.next_attempt_at)
        given = self.token.provenance if self.token else None
        return fields if given is None else {**fields, **given.fields()}

    def _seconds_to_next(self, now: float) -> float:
        return round(max(0.0, self.next_attempt_at - now), 1)
