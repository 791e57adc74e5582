"""How many examples hypothesis tries."""

from __future__ import annotations

from hypothesis import settings


def examples(times: float) -> settings:
    """Let a test have so many times as many examples as others, whatever the profile."""
    return settings(max_examples=round(times * settings().max_examples))
