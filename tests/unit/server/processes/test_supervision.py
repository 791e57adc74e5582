"""What is told of a process, and of several workers together."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from authproxy.cli.health import health_of
from authproxy.errors import CredentialError
from authproxy.identity.lifetimes import FetchedToken
from authproxy.identity.refresher import Refresher
from authproxy.identity.tokens import TokenSource
from authproxy.server.processes.supervision import Health, ServiceManager, WorkersHealth
from tests.support.clock import FakeClock
from tests.support.process import wait_until


class Issuer:
    """Tokens of one hour, until it is told to fail."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.failure: Exception | None = None

    def __call__(self, claims: str | None) -> FetchedToken:
        if self.failure:
            raise self.failure
        return FetchedToken("eyJ.secret.token", self._clock.wall() + 3600)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def issuer(clock: FakeClock) -> Issuer:
    return Issuer(clock)


@pytest.fixture
def refresher(clock: FakeClock) -> Iterator[Refresher]:
    made = Refresher(clock)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def tokens(issuer: Issuer, refresher: Refresher, clock: FakeClock) -> Iterator[TokenSource]:
    made = TokenSource(issuer, refresher, percentage=10, clock=clock)
    yield made
    made.stop()


def test_a_process_with_a_token_is_ready(tokens: TokenSource) -> None:
    tokens.start()
    wait_until("there is a token", lambda: tokens.ready)
    text = "Ready. The token is valid until 2027-01-15T09:00:00Z."
    assert health_of({"": tokens}, []) == Health(serves=True, ready=True, text=text)


def test_a_refresh_that_fails_is_told_while_the_token_is_still_good(
    tokens: TokenSource, refresher: Refresher, issuer: Issuer, clock: FakeClock
) -> None:
    tokens.start()
    wait_until("there is a token", lambda: tokens.ready)
    issuer.failure = CredentialError("Entra is away")
    clock.advance(3500)
    refresher.wake()
    wait_until("it has failed", lambda: tokens.status()["last_error"] is not None)
    health = health_of({"": tokens}, [])
    assert health.ready
    assert health.text.endswith("09:00:00Z. The last refresh failed: Entra is away")


def test_a_process_without_a_token_serves_and_is_not_ready(
    tokens: TokenSource, issuer: Issuer, clock: FakeClock
) -> None:
    issuer.failure = CredentialError("Entra is away")
    tokens.start()
    wait_until("it has failed", lambda: tokens.status()["last_error"] is not None)
    text = "Not ready, requests get 503. There is no valid token: Entra is away"
    assert health_of({"": tokens}, []) == Health(serves=True, ready=False, text=text)


def test_a_token_that_expired_before_anything_failed_is_told_of(
    tokens: TokenSource, clock: FakeClock
) -> None:
    tokens.start()
    wait_until("there is a token", lambda: tokens.ready)
    clock.jump(4000)
    assert health_of({"": tokens}, []).text.endswith(
        "no valid token: it expired at 2027-01-15T09:00:00Z"
    )


def test_a_process_of_which_a_thread_has_ended_cannot_serve(tokens: TokenSource) -> None:
    health = health_of({"": tokens}, ["refresher", "log"])
    assert not health.serves
    assert "a thread has ended (refresher, log)" in health.text


# Several workers.


class Manager(ServiceManager):
    """Keeps the last report."""

    def __init__(self) -> None:
        super().__init__("/nobody", drain=1, watchdog=30)

    def report(self, health: Health) -> None:
        self.last = health


@pytest.fixture
def manager() -> Manager:
    return Manager()


@pytest.fixture
def reports(manager: Manager) -> WorkersHealth:
    return WorkersHealth(manager)


READY = Health(serves=True, ready=True, text="Ready.")
WAITING = Health(serves=True, ready=False, text="Not ready.")
BROKEN = Health(serves=False, ready=False, text="Cannot serve.")


@pytest.mark.parametrize(
    ("said", "together"),
    [
        ([READY, READY], Health(True, True, "2 of 2 workers are ready. Ready.")),
        ([READY, WAITING], Health(True, False, "1 of 2 workers are ready. Not ready.")),
        ([BROKEN, READY], Health(False, False, "1 of 2 workers are ready. Cannot serve.")),
        ([], Health(False, False, "No worker serves.")),
    ],
)
def test_workers_are_as_well_as_the_one_that_is_worst(
    reports: WorkersHealth, manager: Manager, said: list[Health], together: Health
) -> None:
    for pid, health in enumerate(said):
        reports.take(pid, health)
    reports.report(range(len(said)))
    assert manager.last == together


def test_a_worker_that_has_gone_counts_no_more(reports: WorkersHealth, manager: Manager) -> None:
    reports.take(1, READY)
    reports.take(2, BROKEN)
    reports.report([1, 2])
    assert not manager.last.serves
    reports.report([1])
    assert manager.last == Health(True, True, "1 of 1 workers are ready. Ready.")
