"""What there is to tell of a source of tokens: no token, no secret."""

from __future__ import annotations

from dataclasses import dataclass

from authproxy.errors import AuthProxyError
from authproxy.identity.credentials import FetchError
from authproxy.identity.entra_errors import Explanation


@dataclass(frozen=True)
class Trouble:
    """Why there was no token: the error's words, without the frames that it holds on to."""

    #: The explanation, or else the detail.
    summary: str
    detail: str
    explanation: Explanation | None

    @classmethod
    def of(cls, error: AuthProxyError) -> Trouble:
        """Return what an error says."""
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
    trouble: Trouble | None
    next_attempt_at: float
