"""The last fifteen minutes: counted by minute, with the latest failures, within bounds."""

from __future__ import annotations

from typing import Any

import pytest

from authproxy.telemetry.recent_requests import MAX_FAILURES, RecentRequests
from authproxy.telemetry.series import EndedRequest

NOW = 1_800_000_030.0

FINE = EndedRequest("GET", "/x", "", "http", "t", 200, 200, target_responded=True)
MISSING = FINE._replace(status=404, seen_status=404, text="nothing here")


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recent(clock: Clock) -> RecentRequests:
    return RecentRequests(clock)


def ended(recent: RecentRequests, request: EndedRequest) -> None:
    recent.ended(request, request.kind, 0.1)


def minutes(recent: RecentRequests) -> list[dict[str, Any]]:
    return list(recent.data()["minutes"])


def failures(recent: RecentRequests) -> list[dict[str, Any]]:
    return list(recent.data()["failures"])


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "target_2xx"),
        ({"status": 101}, "target_2xx"),
        ({"status": 304}, "target_3xx"),
        ({"status": 429}, "target_4xx"),
        ({"status": 599}, "target_5xx"),
        ({"error": "ClientDisconnected"}, "target_cut"),
        ({"status": 403, "error": "TargetRefusedIdentity", "seen_status": 503}, "target_4xx"),
        ({"target_responded": False, "status": 413}, "proxy_4xx"),
        ({"target_responded": False, "status": 503, "error": "TargetUnreachable"}, "proxy_5xx"),
    ],
)
def test_a_request_counts_by_who_answered_and_how(
    recent: RecentRequests, changes: dict[str, Any], kind: str
) -> None:
    ended(recent, FINE._replace(**changes))
    assert minutes(recent) == [{"minute": int(NOW) // 60, kind: 1}]


def test_each_minute_has_its_counts_and_the_old_ones_go(
    recent: RecentRequests, clock: Clock
) -> None:
    for _ in range(40):
        ended(recent, FINE)
        ended(recent, FINE)
        clock.now += 60
    first = int(NOW) // 60 + 25
    assert minutes(recent) == [{"minute": first + n, "target_2xx": 2} for n in range(15)]


def test_a_clock_that_is_set_back_leaves_no_minutes_of_the_future(
    recent: RecentRequests, clock: Clock
) -> None:
    ended(recent, FINE)
    clock.now -= 3600
    ended(recent, FINE)
    assert minutes(recent) == [{"minute": int(NOW) // 60 - 60, "target_2xx": 1}]


def test_what_fails_alike_is_told_once_with_the_latest_words(
    recent: RecentRequests, clock: Clock
) -> None:
    ended(recent, MISSING)
    ended(recent, MISSING._replace(path="/y"))
    clock.now += 5
    ended(recent, MISSING._replace(text="still nothing"))
    ended(recent, FINE)
    other, latest = failures(recent)
    assert (other["path"], other["times"]) == ("/y", 1)
    assert (latest["path"], latest["times"], latest["text"]) == ("/x", 2, "still nothing")
    assert latest["last_at"] == NOW + 5


def test_whatever_clients_make_up_is_bounded(recent: RecentRequests) -> None:
    for number in range(1000):
        path = f"/{number}/" + "p" * 10_000
        ended(recent, MISSING._replace(method="M" * 999, path=path, text="t" * 99_999))
    assert len(failures(recent)) == MAX_FAILURES
    assert failures(recent)[-1]["path"].startswith("/999/")
    assert sum(len(str(failure)) for failure in failures(recent)) < MAX_FAILURES * 2600


def test_what_looks_like_a_token_in_a_path_is_masked(recent: RecentRequests) -> None:
    ended(recent, MISSING._replace(path="/eyJhbGciOiJub25lIn0.eyJhIjoxfQ.c2ln/x"))
    assert failures(recent)[0]["path"] == "/***/x"
