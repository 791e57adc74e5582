"""How long a token is good, when it is refreshed, how long the waits are."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.clock import rfc3339
from authproxy.identity.lifetimes import (
    BACKOFF_CEILING,
    BACKOFF_FIRST,
    EXPIRY_MARGIN,
    LONGEST_LIFETIME,
    RETRY_AFTER_CEILING,
    FetchedToken,
    Token,
    backoff,
    refresh_time,
)
from tests.support.clock import FakeClock

HOUR = 3600.0

lifetimes = st.floats(EXPIRY_MARGIN + 0.001, 48 * HOUR)
percentages = st.integers(1, 99)


@pytest.mark.parametrize(
    ("lifetime", "percentage", "refresh_on", "expected"),
    [
        pytest.param(HOUR, 10, None, 3240, id="when ten percent of the lifetime is left"),
        pytest.param(HOUR, 50, None, 1800, id="when half of the lifetime is left"),
        pytest.param(HOUR, 10, 1000, 1000, id="at the token's own time when that is sooner"),
        pytest.param(HOUR, 90, 1800, 360, id="at the percentage when that is sooner"),
        pytest.param(HOUR, 1, None, 3564, id="one percent of an hour is still early enough"),
        pytest.param(1000, 1, None, 970, id="never in the last thirty seconds"),
        pytest.param(HOUR, 10, -50, 30, id="a time in the past does not make a busy loop"),
        pytest.param(30, 10, None, 10, id="a short-lived token halfway through its usable life"),
        pytest.param(5, 10, None, 0, id="a useless token at once"),
    ],
)
def test_a_refresh_is_due(
    lifetime: float, percentage: int, refresh_on: float | None, expected: float
) -> None:
    acquired = 1_800_000_000.0
    wish = None if refresh_on is None else acquired + refresh_on
    due = refresh_time(acquired, acquired + lifetime, percentage, wish)
    assert due - acquired == pytest.approx(expected)


@given(lifetimes, percentages, st.none() | st.floats(-HOUR, 72 * HOUR))
def test_a_refresh_is_due_while_the_token_can_still_be_sent(
    lifetime: float, percentage: int, refresh_on: float | None
) -> None:
    due = refresh_time(0.0, lifetime, percentage, refresh_on)
    assert 0.0 <= due < lifetime - EXPIRY_MARGIN


@given(st.floats(2 * HOUR, 48 * HOUR), st.floats(60, HOUR), st.integers(2, 98))
def test_a_refresh_is_due_at_the_percentage_or_the_tokens_own_time_whichever_is_first(
    lifetime: float, refresh_on: float, percentage: int
) -> None:
    due = refresh_time(0.0, lifetime, percentage, refresh_on)
    assert due == min(refresh_on, lifetime - lifetime * percentage / 100)


@given(st.integers(1, 10**9), st.randoms(use_true_random=False))
def test_a_backoff_is_between_one_second_and_a_minute(attempt: int, random: Random) -> None:
    wait = backoff(attempt, random)
    assert BACKOFF_FIRST <= wait <= min(BACKOFF_CEILING, 2.0 ** min(attempt, 20))


def test_a_backoff_is_drawn_from_the_whole_range_so_that_a_fleet_spreads() -> None:
    random = Random(1)
    waits = [backoff(10, random) for _ in range(500)]
    assert min(waits) < 5
    assert max(waits) > 55


def test_backoffs_grow_with_each_failure() -> None:
    class Unlucky(Random):
        def uniform(self, a: float, b: float) -> float:
            return b

    assert [backoff(n, Unlucky()) for n in range(1, 9)] == [2, 4, 8, 16, 32, 60, 60, 60]


@given(st.integers(1, 50), st.randoms(use_true_random=False), st.floats(0, RETRY_AFTER_CEILING))
def test_retry_after_is_waited_out(attempt: int, random: Random, retry_after: float) -> None:
    assert backoff(attempt, random, retry_after) >= retry_after


def test_an_absurd_retry_after_is_cut_to_the_ceiling() -> None:
    assert backoff(1, Random(), 1e9) == RETRY_AFTER_CEILING


def token(clock: FakeClock, lifetime: float = HOUR) -> Token:
    return Token.acquired(FetchedToken("secret", clock.wall() + lifetime), 10, clock)


def test_a_token_is_not_sent_in_its_last_ten_seconds() -> None:
    clock = FakeClock()
    good = token(clock)
    clock.advance(HOUR - EXPIRY_MARGIN - 0.5)
    assert good.seconds_valid(clock) > 0
    clock.advance(0.5)
    assert good.seconds_valid(clock) <= 0


def test_a_suspend_past_expiry_makes_the_token_invalid() -> None:
    clock = FakeClock()
    good = token(clock)
    clock.jump(2 * HOUR)  # the monotonic clock stood still
    assert good.seconds_valid(clock) <= 0


@given(st.floats(0, 100 * HOUR))
def test_a_wall_clock_set_back_does_not_let_an_expired_token_out(back: float) -> None:
    clock = FakeClock()
    good = token(clock)
    clock.jump(-back)
    clock.advance(HOUR)
    assert good.seconds_valid(clock) <= 0


@given(st.floats(-10 * HOUR, 10 * HOUR))
def test_a_refresh_is_due_by_either_clock(jump: float) -> None:
    clock = FakeClock()
    good = token(clock)
    clock.jump(jump)
    clock.advance(0.9 * HOUR)
    assert good.seconds_fresh(clock) <= 0.001  # adding up floats loses microseconds


def test_a_token_is_not_shown_in_its_repr() -> None:
    assert "secret" not in repr(token(FakeClock()))
    assert "secret" not in repr(FetchedToken("secret", 1.0))


ODD = st.one_of(
    st.floats(),
    st.integers(),
    st.integers(min_value=10**300, max_value=10**400),
    st.text(),
    st.floats().map(str),
    st.integers().map(str),
    st.none(),
    st.binary(),
    st.lists(st.integers()),
)


@given(ODD, ODD)
def test_whatever_an_endpoint_states_can_be_lived_with(expires_on: object, wish: object) -> None:
    clock = FakeClock()
    try:
        fetched = FetchedToken.of("value", expires_on, wish, clock.wall())
    except ValueError:
        return  # no token, and another attempt
    token = Token.acquired(fetched, 10, clock)
    assert 0 <= token.expires_at <= clock.wall() + LONGEST_LIFETIME
    for moment in (token.expires_at, token.refresh_at, token.acquired_at):
        assert rfc3339(moment)
    if token.seconds_valid(clock) > 0:
        assert 0 < token.seconds_fresh(clock) < LONGEST_LIFETIME


@given(st.sampled_from([1, 1000, 10**6, 10**9]), st.integers(1, int(LONGEST_LIFETIME)))
def test_fractions_of_a_second_are_understood(unit: int, lifetime: int) -> None:
    now = 1_800_000_000.0
    fetched = FetchedToken.of("value", int((now + lifetime) * unit), None, now)
    assert fetched.expires_on == pytest.approx(now + lifetime, abs=1)
