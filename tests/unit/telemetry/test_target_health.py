"""Rate, latency and refusals of a target, in one process and in several together."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.telemetry.target_health import (
    BOUNDS,
    LEAST_REFUSALS,
    TargetHealth,
    identity_verdict,
    quantile,
    together,
)

NOW = 1_800_000_030.0


def whole(*healths: TargetHealth, now: float = NOW) -> dict[str, Any]:
    """Return the health of one target that these processes report on."""
    reports = [json.loads(json.dumps({"t.test": each.data(now)})) for each in healths]
    return together(reports, now)["t.test"]


def after(*statuses: int, now: float = NOW, write: bool = True) -> TargetHealth:
    """Return the health after these responses, a second apart, the last of them at `now`."""
    health = TargetHealth(now - 3600)
    for index, status in enumerate(statuses):
        health.ended(now - len(statuses) + 1 + index, 0.01, status, write=write)
    return health


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        *((status, "accepted") for status in (101, 200, 204, 304)),
        *((status, "refused") for status in (401, 403)),
        *((status, "unknown") for status in (400, 404, 429, 500, 503)),
    ],
)
def test_a_status_says_something_of_the_identity_or_nothing(status: int, verdict: str) -> None:
    assert identity_verdict(status) == verdict


def test_a_target_that_refuses_all_is_told_with_the_time_since_when() -> None:
    health = after(204, 403, 503, 401, 404, 403)
    expected = {"since_at": NOW - 4, "refusals": 3, "status": 403}
    assert whole(health)["refusing"] == {"write": expected}


@pytest.mark.parametrize(
    "statuses",
    [(), (403,) * (LEAST_REFUSALS - 1), (403,) * 9 + (204,), (403, 403, 204, 403), (500,) * 9],
    ids=["nothing", "too few", "accepted again", "accepted between", "failures"],
)
def test_others_are_not(statuses: tuple[int, ...]) -> None:
    assert whole(after(*statuses))["refusing"] == {}


def test_writes_and_other_requests_are_judged_apart() -> None:
    health = after(403, 403, 403)
    health.ended(NOW, 0.01, 200, write=False)
    assert set(whole(health)["refusing"]) == {"write"}
    assert set(whole(after(401, 401, 401, write=False))["refusing"]) == {"other"}


def test_refusals_are_forgotten_when_nothing_comes_any_more() -> None:
    health = after(403, 403, 403)
    assert whole(health, now=NOW + 299)["refusing"]
    assert whole(health, now=NOW + 300)["refusing"] == {}


def test_one_worker_that_is_accepted_speaks_for_all() -> None:
    refused, accepted = after(*(403,) * 5, now=NOW - 10), after(204)
    assert whole(refused, accepted)["refusing"] == {}
    # What the others were refused after that counts.
    refused, accepted = after(*(403,) * 5), after(204, now=NOW - 2)
    assert whole(refused, accepted)["refusing"]["write"]["since_at"] == NOW - 2
    twice = whole(after(403, 403), after(401, now=NOW - 1))["refusing"]["write"]
    assert (twice["refusals"], twice["status"]) == (3, 403)


def test_rate_and_latency_are_those_of_the_last_minutes() -> None:
    health = TargetHealth(NOW - 600)
    for second in range(600):
        slow = second % 100 == 99
        health.ended(NOW - 600 + second, 0.9 if slow else 0.01, 204, write=True)
    health.ended(NOW, 0.0, None, write=False)  # no response, and no latency
    health.ended(NOW, 3600.0, 101, write=False)  # a tunnel
    found = whole(health)
    # Four minutes, and the half of the present one.
    assert found["requests"] == 272
    assert found["rate"] == pytest.approx(1, rel=0.02)
    assert found["p50_ms"] == pytest.approx(10, rel=0.125)
    assert found["p99_ms"] < 1000
    assert whole(health, health)["rate"] == 2 * found["rate"]
    assert whole(health, health)["p50_ms"] == found["p50_ms"]


def test_a_process_that_has_just_begun_has_its_own_time() -> None:
    health = TargetHealth(NOW - 2)
    for _ in range(10):
        health.ended(NOW, 0.01, 204, write=True)
    assert whole(health)["rate"] == 5


def test_without_requests_there_is_no_latency() -> None:
    health = TargetHealth(NOW)
    found = whole(health)
    assert (found["rate"], found["p50_ms"], found["p99_ms"]) == (0, None, None)
    health.ended(NOW, 0.01, 204, write=True)
    assert whole(health, TargetHealth(NOW))["p50_ms"] is not None
    assert whole(health, now=NOW + 600)["p50_ms"] is None


def test_a_clock_that_is_set_back_leaves_no_minutes_of_the_future() -> None:
    health = after(204)
    health.ended(NOW - 3600, 0.01, 204, write=True)
    assert whole(health, now=NOW - 3600)["requests"] == 1
    assert len(health.data(NOW)["latencies"]) in (0, len(BOUNDS) + 1)


@given(st.lists(st.floats(0.0003, 60), min_size=1, max_size=50), st.sampled_from([0.5, 0.99]))
def test_a_quantile_is_off_by_a_bucket_at_most(seconds: list[float], share: float) -> None:
    health = TargetHealth(NOW)
    for each in seconds:
        health.ended(NOW, each, 200, write=False)
    found = quantile(health.data(NOW)["latencies"], share)
    exact = sorted(seconds)[min(len(seconds) - 1, int(-(-len(seconds) * share // 1)) - 1)] * 1000
    assert found is not None
    assert exact / 1.26 <= found <= exact * 1.26
