"""Requests while there is a token, while there is none, and in between."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.conftest import Launch
from tests.support.expect import assert_own_error
from tests.support.identity import application_settings, identity_settings
from tests.support.process import ProxyProcess, wait_until
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Upstream
from tests.support.wire import message


def assert_no_token(proxy: ProxyProcess, target: Upstream) -> None:
    """Check that requests are refused with a time to try again, and the probes tell."""
    response = proxy.ask(message("POST /x", "X-Request-ID: id-1", body=b"b"))
    assert_own_error(response, 503, "AuthenticationTokenNotFound")
    assert int(response.one("Retry-After") or 0) > 0
    assert response.one("X-Request-ID") == "id-1"
    assert proxy.get("/health").status == 200
    assert proxy.get("/ready").status == 503
    assert target.requests == []


@pytest.mark.parametrize("trouble", ["failing", "silent", "down", "talking-nonsense"])
def test_before_the_first_token_requests_are_refused_at_once_and_later_served(
    launch: Launch, target: Upstream, entra: StandInEntra, trouble: str
) -> None:
    settings = identity_settings(entra)
    if trouble == "failing":
        entra.fail_with(500)
    elif trouble == "silent":
        entra.hang()
    elif trouble == "talking-nonsense":
        entra.garbage()
    else:
        entra.stop()
    proxy = launch(ready=False, **settings)
    assert_no_token(proxy, target)
    if trouble == "down":
        entra.start()
    else:
        entra.recover()
    proxy.wait_ready()
    assert proxy.get("/x").status == 200
    assert target.only().one("Authorization") == f"Bearer {entra.issued[-1].value}"


def test_the_endpoints_retry_after_is_passed_on(
    launch: Launch, target: Upstream, entra: StandInEntra
) -> None:
    entra.fail_with(429, headers={"Retry-After": "120"})
    proxy = launch(ready=False, **identity_settings(entra))
    proxy.wait_for_line("Failed to refresh token")
    response = proxy.get("/x")
    assert_own_error(response, 503, "AuthenticationTokenNotFound")
    assert 60 < int(response.one("Retry-After") or 0) <= 120


def test_an_outage_of_the_identity_does_not_hurt_while_a_token_is_valid(
    launch: Launch, target: Upstream, entra: StandInEntra
) -> None:
    entra.lifetime = 60  # Refreshed after 30 s at most.
    proxy = launch(**identity_settings(entra), AAD_TOKEN_REFRESH_INTERVAL_IN_PERCENTAGE="99")
    entra.stop()
    for _ in range(3):
        assert proxy.get("/x").status == 200
    assert proxy.get("/ready").status == 200


def test_a_refresh_that_hangs_delays_no_request(
    launch: Launch, target: Upstream, entra: StandInEntra
) -> None:
    entra.lifetime = 20  # Usable for 10 s, refreshed after 5 s.
    proxy = launch(**identity_settings(entra))
    entra.hang()
    entra.wait_for_requests(2)  # The refresh is under way, and stays so.
    assert proxy.get("/x").status == 200
    assert target.only().one("Authorization") == f"Bearer {entra.issued[0].value}"


def test_a_token_is_exchanged_for_a_later_one_before_it_expires(
    launch: Launch, target: Upstream, entra: StandInEntra
) -> None:
    entra.lifetime = 14  # Refreshed after 2 s.
    proxy = launch(**identity_settings(entra))
    entra.lifetime = 3600
    wait_until("the long one", lambda: entra.issued[-1].claims["exp"] > time.time() + 60)
    proxy.wait_for_tokens(len(entra.issued))
    assert proxy.get("/x").status == 200
    assert target.only().one("Authorization") == f"Bearer {entra.issued[-1].value}"


def test_an_expired_token_is_not_sent_and_a_new_one_is(
    launch: Launch, target: Upstream, entra: StandInEntra
) -> None:
    entra.lifetime = 12  # Usable for 2 s.
    proxy = launch(**identity_settings(entra))
    entra.fail_with(500)
    wait_until("the end of the token", lambda: proxy.get("/ready").status == 503)
    assert_no_token(proxy, target)
    entra.lifetime = 3600
    entra.recover()
    proxy.wait_ready()
    assert proxy.get("/x").status == 200


def test_an_application_with_a_secret_gets_its_token_over_tls(
    launch: Launch, target: Upstream, entra: StandInEntra, tmp_path: Path
) -> None:
    proxy = launch(**application_settings(entra, tmp_path))
    assert proxy.get("/x").status == 200
    assert target.only().one("Authorization") == f"Bearer {entra.issued[0].value}"


def test_one_token_serves_many_requests(
    launch: Launch, target: Upstream, entra: StandInEntra
) -> None:
    proxy = launch(**identity_settings(entra))
    for _ in range(20):
        assert proxy.get("/x").status == 200
    assert len(entra.issued) == 1
    assert {request.one("Authorization") for request in target.requests} == {
        f"Bearer {entra.issued[0].value}"
    }
