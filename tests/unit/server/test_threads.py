"""The threads that serve requests."""

import threading

import pytest

from authproxy.server.threads import Threads
from tests.support.wire import DEADLINE


class Job:
    """Waits where it is told to, and says when it ran."""

    def __init__(self, held: threading.Event | None = None, *, fails: bool = False) -> None:
        self.began, self.done = threading.Event(), threading.Event()
        self._held, self._fails = held, fails

    def service(self) -> None:
        self.began.set()
        if self._held:
            self._held.wait(DEADLINE)
        if self._fails:
            raise RuntimeError("a bug")
        self.done.set()


def test_as_many_run_at_a_time_as_there_are_threads_and_the_rest_waits() -> None:
    threads, release = Threads(2), threading.Event()
    jobs = [Job(release) for _ in range(3)]
    for job in jobs:
        threads.add_task(job)
    assert jobs[0].began.wait(DEADLINE)
    assert jobs[1].began.wait(DEADLINE)
    assert (threads.queued, jobs[2].began.is_set()) == (1, False)
    threads.add(1)
    assert jobs[2].began.wait(DEADLINE)
    release.set()
    assert all(job.done.wait(DEADLINE) for job in jobs)
    threads.end(DEADLINE)


def test_a_bug_ends_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    threads, after = Threads(1), Job()
    threads.add_task(Job(fails=True))
    threads.add_task(after)
    assert after.done.wait(DEADLINE)
    threads.end(DEADLINE)
    assert "a bug" in caplog.text


def test_what_is_queued_is_served_before_they_end_and_a_held_one_holds_nobody_up() -> None:
    threads, last = Threads(1), Job()
    threads.add_task(last)
    threads.end(DEADLINE)
    assert last.done.is_set()
    release = threading.Event()
    held, stuck = Threads(1), Job(release)
    held.add_task(stuck)
    assert stuck.began.wait(DEADLINE)
    held.end(0.01)
    release.set()
    assert stuck.done.wait(DEADLINE)
