"""What a token says of itself, as it is shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from authproxy.clock import rfc3339

#: What is shown of a token: whom it is for and what it opens. Version 2.0 tokens
#: have azp where those of version 1.0 have appid.
_SHOWN = ("appid", "azp", "oid", "tid", "aud", "roles")


def shown(claims: Mapping[str, Any], names: tuple[str, ...] = _SHOWN) -> dict[str, str]:
    """Return these claims as text that is safe to print, those that are there."""
    return {name: text_of(claims[name]) for name in names if name in claims}


def moment(claims: Mapping[str, Any] | None, name: str) -> float | None:
    """Return a claim that is a time, in seconds since the epoch, or None."""
    value = (claims or {}).get(name)
    return float(value) if isinstance(value, int) and abs(value) < 1e11 else None


def expiry(expires_on: float, now: float) -> str:
    """Say when a token expires and how long that is from `now`, both in epoch seconds."""
    left = int(expires_on - now)
    minutes, seconds = divmod(abs(left), 60)
    span = f"{minutes} min {seconds} s"
    if minutes >= 120:
        span = f"{minutes // 60} h {minutes % 60} min"
    return f"{utc(expires_on)} ({f'in {span}' if left >= 0 else f'{span} ago'})"


def days_of(span: timedelta) -> str:
    """Return a span of time in whole days, in words."""
    return f"{span.days} day{'s' * (span.days != 1)}"


def utc(moment: float) -> str:
    """Return an epoch time as logs have it; times beyond the calendar as the number."""
    try:
        return rfc3339(moment)
    except (ValueError, OverflowError, OSError):
        return f"{moment:g}"


def text_of(value: object) -> str:
    """Return a JSON value as one line of printable text."""
    values = value if isinstance(value, list) else [value]
    return ", ".join(printable(each if isinstance(each, str) else _json(each)) for each in values)


def _json(value: object) -> str:
    try:
        return json.dumps(value)
    except RecursionError:  # what could just be read may be too deep to be written
        return "..."


def printable(text: str) -> str:
    """Return `text` with every character that could move a cursor replaced."""
    return "".join(char if char.isprintable() else "?" for char in text)
