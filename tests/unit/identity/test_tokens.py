"""The token source: first driven step by step on a clock that stands still, then with threads."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from authproxy.clock import Clock, SystemClock
from authproxy.errors import AuthenticationTokenNotFound, CredentialError
from authproxy.identity.credentials import FetchError
from authproxy.identity.entra_errors import explain
from authproxy.identity.lifetimes import FetchedToken, Token
from authproxy.identity.refresher import LONGEST_SLICE, Refresher
from authproxy.identity.tokens import TokenSource
from tests.support.clock import FakeClock

HOUR = 3600.0

#: How long a test waits for what must come; only a failing one waits so long.
PATIENCE = 30.0


class Issuer:
    """Stands for Entra: numbered tokens of one hour, or what a test sets."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.claims: list[str | None] = []
        self.answer: Callable[[], FetchedToken] = self.new

    def __call__(self, claims: str | None) -> FetchedToken:
        self.claims.append(claims)
        return self.answer()

    @property
    def calls(self) -> int:
        return len(self.claims)

    def new(self) -> FetchedToken:
        return FetchedToken(f"token-{self.calls}", self.clock.wall() + HOUR)

    def fail(self, message: str = "Entra is away", retry_after: float | None = None) -> None:
        def answer() -> FetchedToken:
            raise CredentialError(message, retry_after)

        self.answer = answer

    def recover(self) -> None:
        self.answer = self.new


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def issuer(clock: FakeClock) -> Issuer:
    return Issuer(clock)


@pytest.fixture
def refresher(clock: FakeClock) -> Iterator[Refresher]:
    made = Refresher(clock)
    yield made
    made.stop()


@pytest.fixture
def source(issuer: Issuer, refresher: Refresher, clock: FakeClock) -> Iterator[TokenSource]:
    made = TokenSource(
        issuer, refresher, percentage=10, audience="scope", clock=clock, random=Random(7)
    )
    yield made
    made.stop()


def step(source: TokenSource) -> float:
    """Do what the refresher does for it; return when it would look again, in seconds."""
    if source.seconds_until_due() <= 0 and (attempt := source.begin()):
        attempt.run()
    return min(LONGEST_SLICE, source.seconds_until_due())


def pass_time(source: TokenSource, clock: FakeClock, seconds: float) -> None:
    """Let time pass as the refresher would: slice by slice."""
    end = clock.monotonic() + seconds
    while clock.monotonic() < end:
        clock.advance(min(max(step(source), 0.01), end - clock.monotonic()))


# Step by step.


def test_the_first_token_is_fetched_at_once(source: TokenSource, issuer: Issuer) -> None:
    assert not source.ready
    step(source)
    assert source.ready
    assert source.current().value == "token-1"


def test_a_token_is_left_alone_until_its_refresh_is_due(
    source: TokenSource, issuer: Issuer, clock: FakeClock
) -> None:
    pass_time(source, clock, 0.9 * HOUR - 5)
    assert issuer.calls == 1
    pass_time(source, clock, 10)
    assert issuer.calls == 2
    assert source.current().value == "token-2"
    assert source.current().expires_at > clock.wall() + 0.99 * HOUR


def test_the_thread_looks_at_the_clocks_every_few_seconds(
    source: TokenSource, issuer: Issuer
) -> None:
    step(source)
    assert 0 < step(source) <= LONGEST_SLICE


def test_a_refused_refresh_keeps_the_valid_token(
    source: TokenSource, issuer: Issuer, clock: FakeClock
) -> None:
    step(source)
    issuer.fail()
    pass_time(source, clock, HOUR - 11)
    assert issuer.calls > 2
    assert source.current().value == "token-1"
    assert source.ready


def test_an_outage_beyond_expiry_is_told_and_tried_on_and_survived(
    source: TokenSource, issuer: Issuer, clock: FakeClock
) -> None:
    step(source)
    issuer.fail("Entra is away")
    pass_time(source, clock, HOUR)
    assert not source.ready
    with pytest.raises(AuthenticationTokenNotFound, match="Entra is away") as caught:
        source.current()
    assert 1 <= (caught.value.retry_after or 0) <= 60
    before = issuer.calls
    pass_time(source, clock, 6 * HOUR)
    assert 6 * 60 <= issuer.calls - before <= 6 * HOUR / 10
    issuer.recover()
    pass_time(source, clock, 61)
    assert source.ready


def test_attempts_back_off_and_begin_anew_after_a_success(
    source: TokenSource, issuer: Issuer, clock: FakeClock
) -> None:
    issuer.fail()
    pass_time(source, clock, HOUR)
    assert 60 <= issuer.calls <= 250
    issuer.recover()
    pass_time(source, clock, 61)
    assert source.ready
    issuer.fail()
    clock.advance(0.95 * HOUR)
    calls = issuer.calls
    assert 1 <= step(source) <= 2
    assert issuer.calls == calls + 1


def test_before_the_first_token_a_request_is_told_to_come_back_soon(source: TokenSource) -> None:
    with pytest.raises(AuthenticationTokenNotFound, match="first one") as caught:
        source.current()
    assert caught.value.retry_after == 1


def test_retry_after_is_waited_out(source: TokenSource, issuer: Issuer, clock: FakeClock) -> None:
    issuer.fail(retry_after=120)
    step(source)
    pass_time(source, clock, 119)
    assert issuer.calls == 1
    with pytest.raises(AuthenticationTokenNotFound) as caught:
        source.current()
    assert caught.value.retry_after == 1
    pass_time(source, clock, 2)
    assert issuer.calls == 2


def test_a_token_that_comes_expired_is_a_failure_that_points_at_the_clock(
    source: TokenSource, issuer: Issuer, clock: FakeClock
) -> None:
    issuer.answer = lambda: FetchedToken("old", clock.wall() + 9)
    step(source)
    with pytest.raises(AuthenticationTokenNotFound, match="clock"):
        source.current()
    pass_time(source, clock, 60)
    assert issuer.calls < 30


def test_the_same_token_again_is_kept_without_error_and_asked_for_again_at_leisure(
    source: TokenSource, issuer: Issuer, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    step(source)
    cached = FetchedToken("token-1", clock.wall() + HOUR)
    issuer.answer = lambda: cached
    with caplog.at_level(logging.INFO, "authproxy"):
        pass_time(source, clock, 0.95 * HOUR)
    assert source.current().value == "token-1"
    assert 3 <= issuer.calls <= 30
    assert source.status()["last_error"] is None
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    issuer.recover()
    pass_time(source, clock, 120)
    assert source.ready
    assert source.current().value != "token-1"


def test_the_same_token_with_a_second_more_to_live_is_still_the_same(
    source: TokenSource, issuer: Issuer, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    step(source)
    expiry = source.current().expires_at
    issuer.answer = lambda: FetchedToken("token-1", expiry + 1)  # rounded another way
    clock.advance(0.95 * HOUR)
    with caplog.at_level(logging.INFO, "authproxy"):
        step(source)
    assert [record.getMessage() for record in caplog.records] == [
        "Token not refreshed: no newer one was given"
    ]
    assert source.current().expires_at == expiry


def test_another_token_that_expires_no_later_does_not_replace_a_valid_one(
    source: TokenSource, issuer: Issuer, clock: FakeClock
) -> None:
    step(source)
    expiry = source.current().expires_at
    issuer.answer = lambda: FetchedToken("other", expiry)
    pass_time(source, clock, 0.95 * HOUR)
    assert issuer.calls > 1
    assert source.current().value == "token-1"


def test_a_jump_forward_leads_to_a_refresh_within_one_slice(
    source: TokenSource, issuer: Issuer, clock: FakeClock
) -> None:
    step(source)
    clock.jump(2 * HOUR)
    assert not source.ready
    pass_time(source, clock, LONGEST_SLICE)
    assert source.current().value == "token-2"


def test_a_jump_while_a_cached_token_is_waited_for_leads_to_a_refresh_too(
    source: TokenSource, issuer: Issuer, clock: FakeClock
) -> None:
    step(source)
    cached = FetchedToken("token-1", clock.wall() + HOUR)
    issuer.answer = lambda: cached
    pass_time(source, clock, 0.9 * HOUR + 5)
    issuer.recover()
    clock.jump(2 * HOUR)
    pass_time(source, clock, LONGEST_SLICE)
    assert source.ready


def test_a_jump_back_does_not_postpone_the_refresh(
    source: TokenSource, issuer: Issuer, clock: FakeClock
) -> None:
    step(source)
    clock.jump(-100 * HOUR)
    pass_time(source, clock, 0.9 * HOUR + 5)
    assert issuer.calls == 2


def test_ever_new_tokens_that_want_to_be_refreshed_at_once_are_no_busy_loop(
    source: TokenSource, issuer: Issuer, clock: FakeClock
) -> None:
    issuer.answer = lambda: FetchedToken(f"t{issuer.calls}", clock.wall() + HOUR, clock.wall())
    pass_time(source, clock, 300)
    assert issuer.calls <= 11


def test_a_refresh_is_logged_with_audience_and_times(
    source: TokenSource, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "authproxy"):
        step(source)
    (record,) = caplog.records
    assert record.getMessage() == "Token refreshed"
    assert record.__dict__["fields"] == {
        "Audience": "scope",
        "ExpiresOn": "2027-01-15T09:00:00Z",
        "NextRefresh": "2027-01-15T08:54:00Z",
    }


@pytest.mark.parametrize(("with_token", "level"), [(False, logging.ERROR), (True, logging.WARNING)])
def test_a_failure_is_an_error_only_while_there_is_no_valid_token(
    source: TokenSource,
    issuer: Issuer,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
    with_token: bool,
    level: int,
) -> None:
    if with_token:
        step(source)
        clock.advance(0.91 * HOUR)
    issuer.fail("Entra is away")
    caplog.clear()
    step(source)
    (record,) = caplog.records
    assert (record.getMessage(), record.levelno) == ("Failed to refresh token", level)
    fields = record.__dict__["fields"]
    assert fields["Error"] == "Entra is away"
    assert 1 <= fields["NextAttempt"] <= 2


def test_clients_get_the_explanation_and_the_log_gets_entras_own_words_as_well(
    source: TokenSource, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    raw = "AADSTS7000222: expired. Trace ID: 1234"

    def refuse() -> FetchedToken:
        raise FetchError(raw, explain(raw))

    issuer.answer = refuse
    step(source)
    with pytest.raises(AuthenticationTokenNotFound, match="secret has expired") as caught:
        source.current()
    assert "1234" not in str(caught.value)
    assert "1234" not in str(source.status())
    assert raw in caplog.records[-1].__dict__["fields"]["Error"]


def test_neither_status_nor_repr_nor_log_shows_the_token(
    source: TokenSource, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        step(source)
    shown = [
        repr(source.current()),
        str(source.status()),
        *(str(r.__dict__) for r in caplog.records),
    ]
    assert not [text for text in shown if "token-1" in text]


def test_status_says_when_it_expires_and_when_it_is_tried_next(
    source: TokenSource, issuer: Issuer, clock: FakeClock
) -> None:
    issuer.fail()
    step(source)
    assert source.status()["expires_at"] is None
    assert source.status()["last_error"] == "Entra is away"
    issuer.recover()
    pass_time(source, clock, 2.1)
    assert source.status() == {
        "expires_at": "2027-01-15T09:00:01Z",
        "last_error": None,
        "next_attempt_seconds": pytest.approx(3240, abs=2),
    }


# With the refresher's threads.


@pytest.fixture
def running(source: TokenSource, refresher: Refresher) -> TokenSource:
    refresher.start()
    source.start()
    wait_until(source, lambda: source.ready)
    return source


def wait_until(source: TokenSource, condition: Callable[[], bool]) -> None:
    """Wait for what the thread will do, woken by the source's own notifications."""
    changed = source._changed
    with changed:
        assert changed.wait_for(condition, PATIENCE)


def test_a_rejected_token_is_renewed_with_the_claims_of_the_challenge(
    running: TokenSource, issuer: Issuer
) -> None:
    renewed = running.renew(running.current(), '{"nbf": 1}', PATIENCE)
    assert renewed is not None
    assert renewed.value == "token-2"
    assert running.current() is renewed
    assert issuer.claims == [None, '{"nbf": 1}']


def test_any_other_token_will_do_in_place_of_a_rejected_one(
    running: TokenSource, issuer: Issuer, clock: FakeClock
) -> None:
    issuer.answer = lambda: FetchedToken("shorter", clock.wall() + 600)
    renewed = running.renew(running.current(), None, PATIENCE)
    assert renewed is not None
    assert renewed.value == "shorter"


def test_a_newer_token_is_returned_without_asking(
    running: TokenSource, issuer: Issuer, clock: FakeClock
) -> None:
    rejected = running.current()
    running.renew(rejected, None, PATIENCE)
    clock.advance(31)
    again = running.renew(rejected, None, PATIENCE)
    assert again is running.current()
    assert issuer.calls == 2


def test_a_renewed_token_that_is_rejected_as_well_is_not_renewed_again(
    running: TokenSource, issuer: Issuer, clock: FakeClock
) -> None:
    renewed = running.renew(running.current(), None, PATIENCE)
    assert renewed is not None
    assert running.renew(renewed, None, PATIENCE) is None
    assert issuer.calls == 2
    clock.advance(31)
    assert running.renew(renewed, None, PATIENCE) is not None
    assert issuer.calls == 3


def test_new_claims_are_reason_enough_to_renew_again(running: TokenSource, issuer: Issuer) -> None:
    renewed = running.renew(running.current(), None, PATIENCE)
    assert renewed is not None
    with_claims = running.renew(renewed, "claims", PATIENCE)
    assert with_claims is not None
    assert with_claims.value == "token-3"
    assert running.renew(with_claims, "claims", PATIENCE) is None
    assert running.renew(with_claims, None, PATIENCE) is None
    assert issuer.calls == 3


def test_ever_new_claims_do_not_hammer_entra(running: TokenSource, issuer: Issuer) -> None:
    for number in range(50):
        running.renew(running.current(), f"claims {number}", PATIENCE)
    assert issuer.calls == 1 + 3


def test_a_failed_renewal_is_told_at_once_and_keeps_the_rejected_token(
    running: TokenSource, issuer: Issuer
) -> None:
    rejected = running.current()
    issuer.fail()
    assert running.renew(rejected, None, PATIENCE) is None
    assert running.current() is rejected
    assert running.renew(rejected, None, PATIENCE) is None
    assert issuer.calls == 2


def test_a_renewal_that_brings_the_same_token_is_told_at_once(
    running: TokenSource, issuer: Issuer, clock: FakeClock
) -> None:
    issuer.answer = lambda: FetchedToken("token-1", clock.wall() + HOUR)
    assert running.renew(running.current(), None, PATIENCE) is None
    assert running.renew(running.current(), None, PATIENCE) is None
    assert issuer.calls == 2


def test_a_renewal_does_not_cut_a_wait_that_entra_asked_for(
    running: TokenSource, issuer: Issuer, clock: FakeClock
) -> None:
    issuer.fail(retry_after=100)
    assert running.renew(running.current(), None, PATIENCE) is None
    clock.advance(50)
    assert running.renew(running.current(), None, PATIENCE) is None
    assert issuer.calls == 2
    clock.advance(51)
    issuer.recover()
    assert running.renew(running.current(), None, PATIENCE) is not None


def test_a_renewal_without_a_thread_is_told_at_once(source: TokenSource, issuer: Issuer) -> None:
    step(source)
    assert source.renew(source.current(), None, PATIENCE) is None
    assert issuer.calls == 1


def begun_since(before: list[threading.Thread], name: str) -> list[threading.Thread]:
    """Return the threads of a name that were not there: those of another test may still end."""
    return [each for each in threading.enumerate() if each.name == name and each not in before]


class Gate:
    """Holds an issuer's answers back until it is opened."""

    def __init__(self, issuer: Issuer) -> None:
        self.entered, self._open = threading.Event(), threading.Event()
        self._answer = issuer.answer
        issuer.answer = self

    def __call__(self) -> FetchedToken:
        self.entered.set()
        assert self._open.wait(PATIENCE)
        return self._answer()

    def open(self) -> None:
        self._open.set()


def test_twenty_rejected_requests_share_one_fetch(running: TokenSource, issuer: Issuer) -> None:
    gate, rejected = Gate(issuer), running.current()
    start = threading.Barrier(20)

    def rejected_request() -> Token | None:
        start.wait(PATIENCE)
        return running.renew(rejected, None, PATIENCE)

    with ThreadPoolExecutor(20) as pool:
        results = [pool.submit(rejected_request) for _ in range(20)]
        assert gate.entered.wait(PATIENCE)
        gate.open()
        values = {token.value if token else None for token in (r.result() for r in results)}
    assert values == {"token-2"}
    assert issuer.calls == 2


def test_a_rejected_request_joins_a_refresh_that_is_under_way(
    source: TokenSource, refresher: Refresher, issuer: Issuer, clock: FakeClock
) -> None:
    step(source)
    rejected = source.current()
    clock.advance(0.95 * HOUR)
    gate = Gate(issuer)
    refresher.start()
    source.start()
    assert gate.entered.wait(PATIENCE)
    with ThreadPoolExecutor(1) as pool:
        renewal = pool.submit(source.renew, rejected, None, PATIENCE)
        gate.open()
        renewed = renewal.result(PATIENCE)
    assert renewed is not None
    assert renewed.value == "token-2"
    assert issuer.calls == 2


@pytest.fixture
def real_time(issuer: Issuer) -> Iterator[TokenSource]:
    """A source on the machine's clock, to have timeouts at all."""
    issuer.clock = SystemClock()
    refresher = Refresher()
    source = TokenSource(issuer, refresher, percentage=10)
    refresher.start()
    yield source
    source.stop()
    refresher.stop()


def test_a_request_does_not_wait_longer_than_it_said(
    real_time: TokenSource, issuer: Issuer
) -> None:
    real_time.start()
    wait_until(real_time, lambda: real_time.ready)
    gate = Gate(issuer)
    assert real_time.renew(real_time.current(), None, 0.05) is None
    gate.open()


def test_requests_read_the_current_token_while_a_refresh_hangs(
    running: TokenSource, issuer: Issuer
) -> None:
    gate, rejected = Gate(issuer), running.current()
    with ThreadPoolExecutor(9) as pool:
        renewal = pool.submit(running.renew, rejected, None, PATIENCE)
        assert gate.entered.wait(PATIENCE)
        reads = [pool.submit(running.current) for _ in range(8)]
        assert {read.result(PATIENCE).value for read in reads} == {"token-1"}
        gate.open()
        assert renewal.result(PATIENCE) is running.current()


def test_readers_always_see_a_whole_and_never_an_older_token(
    running: TokenSource, issuer: Issuer, clock: FakeClock
) -> None:
    done = threading.Event()

    def read() -> list[int]:
        seen = []
        while not done.is_set():
            seen.append(int(running.current().value.removeprefix("token-")))
        return seen

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for _ in range(10):
            clock.advance(31)
            assert running.renew(running.current(), None, PATIENCE) is not None
        done.set()
        for reader in readers:
            seen = reader.result(PATIENCE)
            assert seen == sorted(seen)


def test_a_request_after_a_suspend_has_the_thread_fetch_at_once(
    running: TokenSource, issuer: Issuer, clock: FakeClock
) -> None:
    clock.advance(5)
    clock.jump(2 * HOUR)  # The thread waits, and is not told by the clock.
    fetched = threading.Event()

    def answer() -> FetchedToken:
        fetched.set()
        return issuer.new()

    issuer.answer = answer
    for _ in range(int(PATIENCE / 0.02)):  # Requests come all the time.
        with contextlib.suppress(AuthenticationTokenNotFound):
            running.current()
        if fetched.wait(0.02):
            return
    pytest.fail("the thread was not told")


def test_stop_does_not_wait_for_entra(
    source: TokenSource, refresher: Refresher, issuer: Issuer
) -> None:
    gate, before = Gate(issuer), threading.enumerate()
    refresher.start()
    source.start()
    assert gate.entered.wait(PATIENCE)
    fetching = begun_since(before, "fetch")
    source.stop()  # returns although the fetch hangs
    assert all(thread.daemon and thread.is_alive() for thread in fetching)
    gate.open()
    for thread in fetching:
        thread.join(PATIENCE)
    assert issuer.calls == 1
    assert not source.ready  # what came after the end is not taken in
    source.stop()


def test_stop_releases_the_requests_that_wait_for_a_renewal(
    running: TokenSource, issuer: Issuer
) -> None:
    gate = Gate(issuer)
    with ThreadPoolExecutor(1) as pool:
        renewal = pool.submit(running.renew, running.current(), None, PATIENCE)
        assert gate.entered.wait(PATIENCE)
        running.stop()
        assert renewal.result(PATIENCE) is None
        gate.open()


def test_starting_twice_from_many_threads_makes_one_thread(
    source: TokenSource, refresher: Refresher, issuer: Issuer
) -> None:
    before = threading.enumerate()

    def start(_: int) -> None:
        refresher.start()
        source.start()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(start, range(32)))
    wait_until(source, lambda: source.ready)
    assert issuer.calls == 1
    assert len(begun_since(before, "refresher")) == 1


@pytest.mark.parametrize("fails", [False, True], ids=["well", "ill"])
def test_the_first_attempt_can_be_waited_for_however_it_ends(
    source: TokenSource, refresher: Refresher, issuer: Issuer, fails: bool
) -> None:
    if fails:
        issuer.fail()
    refresher.start()
    source.start()
    refresher.wait_for(lambda: source.tried, PATIENCE)
    assert issuer.calls == 1
    assert source.ready is not fails


@pytest.mark.process
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_threads_start_anew_in_a_forked_process(
    running: TokenSource, refresher: Refresher, issuer: Issuer
) -> None:
    gate = Gate(issuer)  # In the parent, an attempt is under way.
    with ThreadPoolExecutor(1) as pool:
        renewal = pool.submit(running.renew, running.current(), None, PATIENCE)
        assert gate.entered.wait(PATIENCE)
        _renews_in_a_fork(running, refresher, issuer)
        gate.open()
        assert renewal.result(PATIENCE) is not None


def _renews_in_a_fork(running: TokenSource, refresher: Refresher, issuer: Issuer) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            issuer.recover()
            dead = not refresher.alive
            refresher.start()
            running.start()
            renewed = running.renew(running.current(), "other claims", PATIENCE)
            status = 0 if dead and refresher.alive and renewed is not None else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
