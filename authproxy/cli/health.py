"""The health of a process that serves, for systemd and for the parent of several workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from authproxy.identity.tokens import TokenSource
from authproxy.server.processes.supervision import Health


def health_of(sources: Mapping[str, TokenSource], ended: Sequence[str]) -> Health:
    """Return the health of a process whose routes, by name, have these sources of tokens.

    `ended` are the vital threads that have ended. In an outage of the identity the
    process still serves: its responses are 503.
    """
    if ended:
        text = f"Cannot serve: a thread has ended ({', '.join(ended)}), see the log."
        return Health(False, False, text)
    ready = any(tokens.ready for tokens in sources.values()) and all(
        tokens.tried for tokens in sources.values()
    )
    texts = ["Ready." if ready else "Not ready, requests get 503."]
    texts += [
        f"{name}: {_of_token(tokens)}" if name else _of_token(tokens)
        for name, tokens in sources.items()
    ]
    return Health(True, ready, " ".join(texts))


def _of_token(tokens: TokenSource) -> str:
    status = tokens.status()
    error, expires_at = status["last_error"], status["expires_at"]
    if tokens.ready:
        late = f" The last refresh failed: {error}" if error else ""
        return f"The token is valid until {expires_at}.{late}"
    why = error or (f"it expired at {expires_at}" if expires_at else "it is being fetched")
    return f"There is no valid token: {why}"
