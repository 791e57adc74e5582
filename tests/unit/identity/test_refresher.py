"""The refresher: who may fetch at the same time, what is given up, and what a bug ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from authproxy.errors import AuthProxyError
from authproxy.identity.refresher import (
    GIVE_UP_SECONDS,
    HANGING_SECONDS,
    MAX_HANGING,
    MAX_PROMPT,
    Attempt,
    Refreshed,
    Refresher,
)
from tests.support.clock import FakeClock
from tests.support.process import wait_until

#: How long a test waits for what must come; only a failing one waits so long.
PATIENCE = 30.0


class Job(Refreshed):
    """Something that is due once, and again when told so; its fetch is a function."""

    def __init__(self, fetch: Callable[[], object]) -> None:
        self._fetch = fetch
        self.due = True
        self.outcomes: list[Any] = []
        self.changed = threading.Condition()
        self.began = 0

    def seconds_until_due(self) -> float:
        return 0.0 if self.due else 1000.0

    def begin(self) -> Attempt[object] | None:
        with self.changed:
            if not self.due:
                return None
            self.due = False
            self.began += 1
            self.changed.notify_all()
            return Attempt(self._fetch, self._conclude)

    def _conclude(self, outcome: object) -> None:
        with self.changed:
            self.outcomes.append(outcome)
            self.changed.notify_all()

    def wait(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, PATIENCE)

    def wait_until_begun(self) -> None:
        self.wait(lambda: self.began == 1)

    def wait_until_concluded(self) -> None:
        self.wait(lambda: len(self.outcomes) == 1)


class Hanging(Job):
    """A fetch that hangs until it is let go."""

    def __init__(self) -> None:
        self.released = threading.Event()
        super().__init__(lambda: self.released.wait(PATIENCE) and "late")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def refresher(clock: FakeClock) -> Iterator[Refresher]:
    made = Refresher(clock)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def hanging(refresher: Refresher) -> Iterator[Callable[[int], list[Hanging]]]:
    """Add so many that hang; let all go in the end."""
    every: list[Hanging] = []

    def add(count: int) -> list[Hanging]:
        added = [Hanging() for _ in range(count)]
        every.extend(added)
        for job in added:
            refresher.add(job)
        return added

    yield add
    for job in every:
        job.released.set()


def fetched(refresher: Refresher) -> Job:
    """Add something whose fetch ends at once, and return it once it has."""
    job = Job(lambda: "token")
    refresher.add(job)
    job.wait(lambda: job.outcomes == ["token"])
    return job


def threads(refresher: Refresher) -> int:
    return len(refresher._runs)


def test_a_state_is_waited_for_over_several_attempts(refresher: Refresher) -> None:
    job = Job(lambda: "token")
    waiting = threading.Thread(
        target=lambda: refresher.wait_for(lambda: len(job.outcomes) == 2, PATIENCE)
    )
    waiting.start()
    refresher.add(job)
    job.wait_until_concluded()
    assert waiting.is_alive()
    job.due = True
    refresher.wake()
    waiting.join(PATIENCE)
    assert not waiting.is_alive()


def test_a_state_that_does_not_come_is_waited_for_no_longer_than_it_was_said(
    refresher: Refresher, hanging: Callable[[int], list[Hanging]]
) -> None:
    [job] = hanging(1)
    job.wait_until_begun()
    refresher.wait_for(lambda: bool(job.outcomes), 0.01)
    assert not job.outcomes


def test_what_is_due_is_fetched_and_what_comes_of_it_taken_in(refresher: Refresher) -> None:
    job = fetched(refresher)
    job.due = True
    refresher.wake()
    job.wait(lambda: job.outcomes == ["token", "token"])


def test_an_error_on_purpose_is_an_outcome(refresher: Refresher) -> None:
    def fail() -> object:
        raise AuthProxyError("away")

    job = Job(fail)
    refresher.add(job)
    job.wait(lambda: [str(outcome) for outcome in job.outcomes] == ["away"])


def test_those_that_hang_hold_up_nobody_else(
    refresher: Refresher, clock: FakeClock, hanging: Callable[[int], list[Hanging]]
) -> None:
    jobs = hanging(MAX_HANGING)
    for job in jobs:
        job.wait_until_begun()
    clock.advance(HANGING_SECONDS)
    for _ in range(3 * MAX_PROMPT):
        fetched(refresher)
    assert not any(job.outcomes for job in jobs)


def test_no_more_threads_than_are_allowed_whatever_hangs(
    refresher: Refresher, clock: FakeClock, hanging: Callable[[int], list[Hanging]]
) -> None:
    jobs = hanging(50)
    wait_until("all that may have begun", lambda: threads(refresher) == MAX_PROMPT)
    for _ in range(3):  # With time, they count as hanging.
        clock.advance(HANGING_SECONDS)
        refresher.wake()
        wait_until("more have begun", lambda: threads(refresher) == MAX_PROMPT + MAX_HANGING)
    assert sum(job.began for job in jobs) == MAX_PROMPT + MAX_HANGING
    for job in jobs:
        job.released.set()
    for job in jobs:
        job.wait_until_concluded()


def test_whoever_hung_before_leaves_room_for_others_from_the_start(
    refresher: Refresher, clock: FakeClock, hanging: Callable[[int], list[Hanging]]
) -> None:
    jobs = hanging(2 * MAX_HANGING)
    wait_until("all that may have begun", lambda: threads(refresher) == MAX_PROMPT)
    clock.advance(HANGING_SECONDS)
    refresher.wake()
    for job in jobs:
        job.wait_until_begun()
    clock.advance(HANGING_SECONDS)
    for job in jobs:
        job.released.set()
    wait_until("no thread is left", lambda: threads(refresher) == 0)
    for job in jobs:
        job.released.clear()
        job.due = True
    refresher.wake()
    wait_until("they have begun again", lambda: sum(job.began == 2 for job in jobs) == MAX_HANGING)
    for _ in range(3 * MAX_PROMPT):
        fetched(refresher)
    assert sum(job.began == 2 for job in jobs) == MAX_HANGING


def test_what_takes_too_long_is_given_up_and_tried_again(
    refresher: Refresher, clock: FakeClock, hanging: Callable[[int], list[Hanging]]
) -> None:
    (job,) = hanging(1)
    job.wait_until_begun()
    clock.advance(GIVE_UP_SECONDS)
    refresher.wake()
    job.wait_until_concluded()
    assert isinstance(job.outcomes[0], AuthProxyError)
    assert "timed out" in str(job.outcomes[0])
    # Another attempt, although the thread of the first still hangs; its outcome comes too late.
    job.due = True
    refresher.wake()
    job.wait(lambda: job.began == 2)
    job.released.set()
    job.wait(lambda: len(job.outcomes) == 2)
    wait_until("no thread is left", lambda: threads(refresher) == 0)
    assert job.outcomes[1:] == ["late"]


def test_of_one_that_cannot_be_ended_there_are_two_threads_at_most(
    refresher: Refresher, clock: FakeClock, hanging: Callable[[int], list[Hanging]]
) -> None:
    (job,) = hanging(1)
    for _ in range(5):
        fetched(refresher)
        clock.advance(GIVE_UP_SECONDS)
        job.due = True
        refresher.wake()
    fetched(refresher)
    assert job.began == 2


def test_a_bug_in_a_fetch_is_that_attempts_alone(
    refresher: Refresher, caplog: pytest.LogCaptureFixture
) -> None:
    def bug() -> object:
        raise ZeroDivisionError("a bug")

    job = Job(bug)
    refresher.add(job)
    job.wait_until_concluded()
    assert isinstance(job.outcomes[0], AuthProxyError)
    fetched(refresher)
    assert refresher.alive
    (record,) = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert record.exc_info


def test_a_machine_without_room_for_threads_ends_no_thread(
    refresher: Refresher, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoThread(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading, "Thread", NoThread)
    job = Job(lambda: "token")
    refresher.add(job)
    job.wait_until_concluded()
    assert "can't start" in str(job.outcomes[0])
    monkeypatch.undo()
    fetched(refresher)


def test_a_bug_in_the_refresher_ends_it_visibly(
    refresher: Refresher, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Job):
        def seconds_until_due(self) -> float:
            raise ZeroDivisionError("a bug")

    thread = refresher._thread
    assert thread is not None
    refresher.add(Broken(lambda: None))
    thread.join(PATIENCE)
    assert not refresher.alive
    (record,) = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert record.exc_info
    refresher.start()
    assert not refresher.alive, "a dead thread must stay visible"


def test_what_is_removed_is_fetched_no_more(refresher: Refresher) -> None:
    job = fetched(refresher)
    refresher.remove(job)
    job.due = True
    refresher.wake()
    fetched(refresher)
    assert job.began == 1
