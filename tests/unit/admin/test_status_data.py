"""What /status makes of what several workers say."""

from __future__ import annotations

from typing import Any

import pytest

from authproxy.admin.status_data import together, with_dates
from authproxy.admin.status_page import count, latency, per_second
from authproxy.admin.status_state import headline
from authproxy.telemetry.recent_requests import MAX_FAILURES, MINUTES
from authproxy.telemetry.target_health import TargetHealth

NOW = 1_800_000_030.0
MINUTE = int(NOW) // 60


def token(**changes: Any) -> dict[str, Any]:
    return {
        "valid": True,
        "acquired_at": NOW - 900,
        "refresh_at": NOW + 2340,
        "expires_at": NOW + 2700,
        "last_attempt_at": NOW - 900,
        "next_attempt_at": NOW + 2340,
        "oid": "object",
        "mismatch": None,
        "certificate": None,
        "error": None,
        **changes,
    }


def route(name: str = "", *, ready: bool = True, **of_token: Any) -> dict[str, Any]:
    return {
        "name": name,
        "target": "https://t",
        "audience": "https://monitor.azure.com/.default",
        "identity": {"tenant_id": None},
        "ready": ready,
        "token": token(**of_token),
    }


def certificate(state: str, expires_at: float = NOW) -> dict[str, Any]:
    return {"expires_at": expires_at, "state": state}


def failure(path: str, at: float, times: int = 1) -> dict[str, Any]:
    return {
        "last_at": at, "times": times, "kind": "target_4xx", "route": None, "method": "GET",
        "path": path, "status": 404, "code": None, "text": f"at {at}",
    }  # fmt: skip


def worker(pid: int, **changes: Any) -> dict[str, Any]:
    return {
        "pid": pid,
        "started_at": NOW - 1000,
        "ready": True,
        "draining": False,
        "threads": 32,
        "in_flight": 1,
        "reload": None,
        "certificate": None,
        "routes": [route()],
        "minutes": [],
        "failures": [],
        "targets": {},
        **changes,
    }


def told(*workers: dict[str, Any], silent: tuple[int, ...] = (), reload: Any = None) -> Any:
    return together(workers, silent, NOW - 1000, reload, NOW)


ERROR = {"summary": "x", "code": None, "cause": None, "hint": None, "detail": "x"}
MISMATCH = {"code": "AnotherIdentity", "cause": "x", "hint": "x"}


EXPIRED = "the certificate that clients are shown has expired"


def refusing(*statuses: int, write: bool = True) -> dict[str, Any]:
    """Return what a worker reports of a target that gave these responses."""
    health = TargetHealth(NOW - 60)
    for status in statuses:
        health.ended(NOW - 1, 0.01, status, write=write)
    return {"t": health.data(NOW)}


@pytest.mark.parametrize(
    ("workers", "silent", "reasons"),
    [
        ([worker(1), worker(2)], (), []),
        ([worker(1, certificate=certificate("expires soon"))], (), []),
        ([worker(1, targets=refusing(204, 403, 403, 403, 204))], (), []),
        ([worker(1)], (2,), ["a worker does not respond"]),
        ([worker(1), worker(2, ready=False)], (), ["a worker is not ready"]),
        (
            [worker(1, routes=[route("a"), route("b", ready=False)])],
            (),
            ["a route is not ready (route b)"],
        ),
        (
            [worker(1, routes=[route("a"), route("b", ready=False, valid=False, error=ERROR)])],
            (),
            ["there is no valid token (route b)"],
        ),
        ([worker(1, routes=[route(error=ERROR)])], (), ["the token is not refreshed"]),
        ([worker(1, routes=[route(mismatch=MISMATCH)])], (), ["the token is of another identity"]),
        ([worker(1), worker(2, certificate=certificate("expired"))], (), [EXPIRED]),
        (
            [worker(1, targets=refusing(403, 403)), worker(2, targets=refusing(403))],
            (3,),
            ["the target responds with 403 to every write", "a worker does not respond"],
        ),
        (
            [worker(1, targets=refusing(401, 401, 401, write=False))],
            (),
            ["the target responds with 401 to every request"],
        ),
    ],
)
def test_what_is_amiss_is_told_and_makes_trouble_of_ready(
    workers: list[dict[str, Any]], silent: tuple[int, ...], reasons: list[str]
) -> None:
    data = told(*workers, silent=silent)
    assert data["reasons"] == reasons
    assert data["state"] == ("ready, with trouble" if reasons else "ready")
    assert headline(data["state"], data["reasons"]) == (
        f"ready, but {'; '.join(reasons)}" if reasons else "ready"
    )


@pytest.mark.parametrize(
    ("workers", "state"),
    [
        ([worker(1, ready=False)], "not ready"),
        ([worker(1), worker(2, draining=True)], "draining"),
    ],
)
def test_a_state_of_all_needs_no_reason(workers: list[dict[str, Any]], state: str) -> None:
    data = told(*workers)
    assert data["state"] == headline(data["state"], data["reasons"]) == state


@pytest.mark.parametrize(
    ("text", "cause", "command"),
    [
        ("no role", "lacks the role", "--assignee-object-id object "),
        ("public network access is disabled", "private endpoints only", ""),
    ],
)
def test_a_refusal_is_explained_by_what_the_target_said(
    text: str, cause: str, command: str
) -> None:
    code = "TargetRefusedIdentity"
    refused = failure("/w", NOW) | {"status": 403, "code": code, "text": f"ours\n{text}"}
    first = worker(1, targets=refusing(403, 403, 403), failures=[refused])
    (told_refusal,) = told(first)["routes"][0]["refusing"]
    likeliest = told_refusal["causes"][0]
    assert cause in likeliest["cause"]
    assert command in " ".join(likeliest["commands"])


def test_the_traffic_of_a_target_is_that_of_all_workers() -> None:
    workers = [worker(number, targets=refusing(204, 204, 204)) for number in (1, 2)]
    traffic = told(*workers)["routes"][0]["traffic"]
    assert (traffic["requests"], traffic["rate"]) == (6, pytest.approx(0.1))
    assert 9 < traffic["p50_ms"] <= traffic["p99_ms"] < 12
    assert told(worker(1))["routes"][0]["traffic"] is None


def test_workers_that_have_the_same_route_have_their_tokens_there() -> None:
    first = worker(1, routes=[route("a"), route("b")])
    second = worker(2, routes=[route("a", ready=False), route("c")])
    routes = told(first, second)["routes"]
    assert [each["name"] for each in routes] == ["a", "b", "c"]
    assert [each["worker"] for each in routes[0]["tokens"]] == [1, 2]
    assert [each["ready"] for each in routes] == [False, True, True]


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({}, (0.75, 0.1)),
        ({"expires_at": NOW - 5}, (0.0, 0.0)),
        ({"acquired_at": NOW + 60}, (1.0, 0.1364)),  # the clock was set back
        ({"acquired_at": None, "expires_at": None, "refresh_at": None}, (None, None)),
        ({"acquired_at": NOW, "expires_at": NOW}, (None, None)),
    ],
)
def test_what_is_left_of_a_token_is_a_share_of_its_lifetime(
    changes: dict[str, Any], left: tuple[float | None, float | None]
) -> None:
    (shown,) = told(worker(1, routes=[route(**changes)]))["routes"][0]["tokens"]
    assert (shown["left"], shown["left_at_refresh"]) == left


def test_minutes_add_up_and_old_ones_are_left_out() -> None:
    first = [{"minute": MINUTE, "target_2xx": 2}, {"minute": MINUTE - 15, "target_2xx": 100}]
    second = [{"minute": MINUTE, "target_2xx": 3, "proxy_5xx": 1}, {"minute": MINUTE - 14}]
    requests = told(worker(1, minutes=first), worker(2, minutes=second))["requests"]
    assert len(requests["minutes"]) == MINUTES
    assert requests["minutes"][-1]["target_2xx"] == 5
    assert requests["totals"]["target_2xx"] == 5
    assert requests["totals"]["proxy_5xx"] == 1


def test_failures_alike_are_one_and_the_latest_come_first() -> None:
    first = [failure("/a", NOW - 9, 2), failure("/b", NOW - 5)]
    second = [failure("/a", NOW - 1, 3), *(failure(f"/{n}", NOW - 100 - n) for n in range(40))]
    failures = told(worker(1, failures=first), worker(2, failures=second))["failures"]
    assert len(failures) == MAX_FAILURES
    assert [each["path"] for each in failures[:3]] == ["/a", "/b", "/0"]
    assert (failures[0]["times"], failures[0]["text"]) == (5, f"at {NOW - 1}")


def test_of_workers_certificates_the_first_to_expire_is_told() -> None:
    first, later = certificate("expired", NOW - 1), certificate("valid", NOW + 1e7)
    for shown in ((first, later), (later, first), (None, first)):
        workers = [worker(number, certificate=each) for number, each in enumerate(shown)]
        assert told(*workers)["certificate"] == first
    assert told(worker(1))["certificate"] is None


@pytest.mark.parametrize(
    ("of_parent", "of_workers", "error"),
    [
        (None, [(NOW - 5, None), (NOW - 5.5, None)], None),
        (None, [(NOW - 5, None), (NOW - 5.5, "no token")], "no token"),
        (NOW - 3, [(NOW - 50, None), (NOW - 50, None)], "faults"),
        (NOW - 50, [(NOW - 5, None)], None),
        (NOW - 50, [], "faults"),
    ],
)
def test_the_last_reload_counts_and_of_one_the_worst_outcome(
    of_parent: float | None, of_workers: list[tuple[float, str | None]], error: str | None
) -> None:
    workers = [
        worker(n, reload={"done_at": at, "error": why}) for n, (at, why) in enumerate(of_workers)
    ]
    parents = of_parent and {"done_at": of_parent, "error": "faults"}
    assert told(*(workers or [worker(1)]), reload=parents)["reload"]["error"] == error


def test_scripts_get_times_as_text() -> None:
    data = {"a_at": NOW, "n_at": None, "list": [{"b_at": NOW}], "left": 0.5}
    moment = "2027-01-15T08:00:30Z"
    assert with_dates(data) == {
        "a_at": moment,
        "n_at": None,
        "list": [{"b_at": moment}],
        "left": 0.5,
    }


def test_numbers_are_written_for_people() -> None:
    assert [count(each) for each in (0, 999, 1000, 1234567)] == ["0", "999", "1,000", "1,234,567"]
    assert [per_second(each) for each in (0, 9.96, 1234.5)] == ["0.0/s", "10.0/s", "1,234/s"]
    assert [latency(each) for each in (0.4, 9.5, 140.4, 1500)] == [
        "0.4 ms", "9.5 ms", "140 ms", "1.5 s",
    ]  # fmt: skip
