"""How a process that serves fares, for systemd and for the parent of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from authproxy.identity.tokens import TokenSource
from authproxy.server.processes.service_manager import Condition


def condition_of(sources: Mapping[str, TokenSource], ended: Sequence[str]) -> Condition:
    """Return how the process fares whose routes, by name, have these sources of tokens.

    `ended` are the vital threads that have ended. The identity's outage does
    not keep it from serving: it answers with 503.
    """
    if ended:
        text = f"Cannot serve: a thread has ended ({', '.join(ended)}), see the log."
        return Condition(False, False, text)
    ready = any(tokens.ready for tokens in sources.values()) and all(
        tokens.tried for tokens in sources.values()
    )
    told = ["Ready." if ready else "Not ready, requests get 503."]
    told += [
        f"{name}: {_of_token(tokens)}" if name else _of_token(tokens)
        for name, tokens in sources.items()
    ]
    return Condition(True, ready, " ".join(told))


def _of_token(tokens: TokenSource) -> str:
    status = tokens.status()
    error, expires_at = status["last_error"], status["expires_at"]
    if tokens.ready:
        late = f" The last refresh failed: {error}" if error else ""
        return f"The token is valid until {expires_at}.{late}"
    why = error or (f"it expired at {expires_at}" if expires_at else "it is being fetched")
    return f"There is no valid token: {why}"
