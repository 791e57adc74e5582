"""The state of a source of tokens, without token or secret."""

from __future__ import annotations

from dataclasses import dataclass

from authproxy.errors import AuthProxyError
from authproxy.files.expiry import Expiry
from authproxy.identity.credentials import FetchError
from authproxy.identity.explanation import Explanation


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
    #: Of the current token, valid or not.
    acquired_at: float | None
    expires_at: float | None
    refresh_at: float | None
    #: The last attempt, and why it failed, if it did.
    tried_at: float | None
    last_error: LastError | None
    next_attempt_at: float
    #: Of the client certificate that proves the identity, where there is one.
    certificate_expiry: Expiry | None
