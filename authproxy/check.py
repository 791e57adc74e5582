"""`authproxy check`: does this configuration get a token, and for whom?"""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

from authproxy.credentials import FetchedToken, FetchError, TokenFetcher
from authproxy.settings import Settings

#: What is shown of a token: whom it is for and what it opens. Version 2.0 tokens
#: have azp where those of version 1.0 have appid.
_CLAIMS = ("appid", "azp", "oid", "tid", "aud", "roles")


def run_check(settings: Settings, echo: Callable[[str], object]) -> int:
    """Fetch one token and tell about it, a line at a time, through `echo`.

    Returns the exit status: 0, or 1 where no token is to be had. That the
    settings are in order is known already: they have been loaded.
    """
    echo(f"{_mark(True)} Settings: IDENTITY_TYPE={settings.identity_type} for {settings.target}")
    try:
        token = TokenFetcher(settings)(None)
    except FetchError as error:
        echo(f"{_mark(False)} Token: none for {settings.scope}")
        if error.explanation is not None:
            echo(f"    Cause: {error.explanation.cause} ({error.explanation.code}).")
            echo(f"    Mend: {error.explanation.mend}.")
        echo(f"    Message: {error.detail}")
        return 1
    echo(f"{_mark(True)} Token: for {settings.scope}")
    for line in describe(token, time.time()):
        echo(f"    {line}")
    return 0


def describe(token: FetchedToken, now: float) -> list[str]:
    """Return lines that tell a token's claims, never the token, at the wall time `now`.

    The claims are read without verification: it is the target that judges them.
    """
    claims = _claims(token.value)
    if claims is None:
        lines = ["an opaque token: its claims are for its issuer only"]
    else:
        lines = [f"{name}: {_text(claims[name])}" for name in _CLAIMS if name in claims]
    expiry = datetime.fromtimestamp(token.expires_on, timezone.utc)
    left = int(token.expires_on - now)
    return [*lines, f"exp: {expiry:%Y-%m-%dT%H:%M:%SZ} (in {left // 60} min {left % 60} s)"]


def _claims(token: str) -> Mapping[str, Any] | None:
    """Return the payload of a JWT (RFC 7519), or None where the token is not one."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    payload = parts[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except ValueError:
        return None
    return claims if isinstance(claims, dict) else None


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    text = value if isinstance(value, str) else json.dumps(value)
    return "".join(char if char.isprintable() else "?" for char in text)


def _mark(good: bool) -> str:
    """A tick or a cross; in words where standard output cannot show them."""
    mark = "\N{CHECK MARK}" if good else "\N{BALLOT X}"
    try:
        mark.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return "ok:" if good else "failed:"
    return mark
