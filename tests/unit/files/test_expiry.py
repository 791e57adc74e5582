"""When a certificate's expiry is worth a warning."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from authproxy.files.expiry import Expiry

BEGIN = datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("lifetime", "left", "state"),
    [
        (timedelta(days=365), timedelta(days=14, seconds=1), "valid"),
        (timedelta(days=365), timedelta(days=14, seconds=-1), "expires soon"),
        (timedelta(days=365), timedelta(seconds=1), "expires soon"),
        (timedelta(days=365), timedelta(seconds=-1), "expired"),
        # Those that live shortly are renewed late.
        (timedelta(hours=24), timedelta(hours=8, seconds=1), "valid"),
        (timedelta(hours=24), timedelta(hours=8, seconds=-1), "expires soon"),
    ],
)
def test_a_certificate_is_warned_of_for_two_weeks_or_the_last_third_of_a_short_life(
    lifetime: timedelta, left: timedelta, state: str
) -> None:
    expiry = Expiry.of(BEGIN, BEGIN + lifetime)
    assert expiry.at == (BEGIN + lifetime).timestamp()
    assert expiry.state(expiry.at - left.total_seconds()) == state
