"""One thread that begins fetches of tokens and key sets when they are due, and one for each fetch.

So an attempt that hangs delays no other. It is given up after a while: its outcome is
then ignored.
"""

from __future__ import annotations

import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from authproxy.clock import Clock, SystemClock
from authproxy.errors import AuthProxyError
from authproxy.identity.bounded_fetch import FETCH_SECONDS

log = logging.getLogger(__name__)

#: The thread looks at both clocks this often, to notice a jump or the end of a suspend.
LONGEST_SLICE = 5.0

#: Most attempts at a time: of those expected to end soon, and of those that hang.
MAX_PROMPT = 8
MAX_HANGING = 7
#: An attempt counts as hanging after so many seconds; at once, if the last one of its source hung.
HANGING_SECONDS = 5.0

#: Attempts of one source: a second one beside one that hangs, in a file system for example.
_MOST_OF_ONE = 2

#: Longer than a fetch takes that keeps to its budget.
GIVE_UP_SECONDS = FETCH_SECONDS + 5.0

Got = TypeVar("Got")


class FetchFailed(AuthProxyError):
    """An attempt ended without the fetch having said how."""


class Attempt(Generic[Got]):
    """One fetch, whose outcome is applied once: as it comes, or as a failure before that."""

    def __init__(
        self, fetch: Callable[[], Got], conclude: Callable[[Got | AuthProxyError], None]
    ) -> None:
        self._fetch = fetch
        self._conclude = conclude
        self._lock = threading.Lock()
        self._known = False
        self._pid = os.getpid()

    @property
    def of_this_process(self) -> bool:
        """Whether it was begun here, and not before a fork."""
        return self._pid == os.getpid()

    def run(self) -> None:
        """Fetch, and apply the outcome."""
        outcome: Got | AuthProxyError
        try:
            outcome = self._fetch()
        except AuthProxyError as error:
            outcome = error
        self._end(outcome)

    def fail(self, why: str) -> None:
        """Apply a failure, unless the outcome is known already."""
        self._end(FetchFailed(why))

    def _end(self, outcome: Got | AuthProxyError) -> None:
        with self._lock:
            if self._known:
                return
            self._known = True
        self._conclude(outcome)


class Refreshed(ABC):
    """A source that a refresher keeps fresh; any thread may call."""

    def __init__(self, refresher: Refresher) -> None:
        self.refresher = refresher
        self.stopped = False
        self._attempt: Attempt[Any] | None = None

    def start(self) -> None:
        """Have it kept fresh from now on; harmless when repeated."""
        if not self.stopped:
            self.refresher.add(self)

    def stop(self) -> None:
        """Have it kept fresh no longer, without waiting for an attempt that is under way."""
        self.stopped = True
        self.refresher.remove(self)

    @property
    def under_way(self) -> bool:
        """Whether an attempt is, in this process."""
        return self._attempt is not None and self._attempt.of_this_process

    @abstractmethod
    def seconds_until_due(self) -> float:
        """Return the time until the next attempt; zero when it is due."""

    @abstractmethod
    def begin(self) -> Attempt[Any] | None:
        """Begin the attempt that is due; None where there is none, or one is under way."""


@dataclass(eq=False)
class _Run:
    """An attempt in its thread, and when it began (monotonic)."""

    whose: Refreshed
    attempt: Attempt[Any]
    began: float
    #: Whether it counts as hanging from its beginning.
    suspect: bool


class Refresher:
    """Begins attempts when they are due, and bounds how many run at a time."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or SystemClock()
        #: Guards what follows; not held during calls to sources.
        self._changed = threading.Condition()
        self._kept: dict[Refreshed, None] = {}
        self._runs: list[_Run] = []
        #: Sources whose last attempt hung.
        self._suspects: set[Refreshed] = set()
        self._woken = False
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._pid: int | None = None

    @property
    def alive(self) -> bool:
        """Whether the thread runs in this process."""
        thread = self._thread
        return thread is not None and self._pid == os.getpid() and thread.is_alive()

    def add(self, refreshed: Refreshed) -> None:
        """Keep this fresh from now on."""
        with self._changed:
            self._kept[refreshed] = None
        self.wake()

    def remove(self, refreshed: Refreshed) -> None:
        """Keep it fresh no longer; an attempt that runs may end."""
        with self._changed:
            self._kept.pop(refreshed, None)
            self._suspects.discard(refreshed)

    def wake(self) -> bool:
        """Have the thread begin what is due at once. Return whether there is a thread."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()
        return self.alive

    def wait_for(self, condition: Callable[[], bool], seconds: float) -> None:
        """Return once this holds, or after `seconds`; looked at whenever an attempt has ended.

        It must take no lock that is held while `wake` is called.
        """
        with self._changed:
            self._changed.wait_for(condition, seconds)

    def start(self) -> None:
        """Start the thread, once in each process: after a fork it starts anew.

        A thread that a bug has ended is not started again: it stays visible.
        """
        with self._changed:
            if self._stopped or self._pid == os.getpid():
                return
            self._pid = os.getpid()
            self._runs = []
            self._thread = threading.Thread(target=self._run, name="refresher", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Let the thread end, without waiting for it or for attempts that run."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    # The thread.

    def _run(self) -> None:
        try:
            while not self._stopped:
                with self._changed:
                    self._woken = False
                seconds = self._begin_due()
                with self._changed:
                    self._changed.notify_all()  # attempts may have been given up
                    if not self._woken and not self._stopped:
                        self._clock.wait(self._changed, seconds)
        except Exception:  # The last stop of a bug: log it; `alive` turns False, /health 503.
            log.critical("The refresher ended by an unexpected error", exc_info=True)

    def _begin_due(self) -> float:
        """Give up what takes too long, begin what is due; return when to look again, in seconds."""
        now, wait = self._clock.monotonic(), LONGEST_SLICE
        with self._changed:
            kept, runs = list(self._kept), list(self._runs)
        for run in runs:
            left = run.began + GIVE_UP_SECONDS - now
            if left > 0:
                wait = min(wait, left)
            else:
                run.attempt.fail(f"timed out: no outcome within {GIVE_UP_SECONDS:g} s")
        hanging = sum(run.suspect or now - run.began >= HANGING_SECONDS for run in runs)
        prompt = len(runs) - min(hanging, MAX_HANGING)
        # How many may begin, by whether they are suspects.
        room = {True: MAX_HANGING - hanging, False: MAX_PROMPT - prompt}
        for each in kept:
            suspect = each in self._suspects
            if room[suspect] <= 0:
                continue  # the end of an attempt wakes this thread
            due = each.seconds_until_due()
            if due > 0:
                wait = min(wait, due)
                continue
            of_it = sum(run.whose is each for run in runs)
            if of_it < _MOST_OF_ONE and (attempt := each.begin()):
                room[suspect] -= 1
                self._start(_Run(each, attempt, now, suspect))
        return wait

    def _start(self, run: _Run) -> None:
        with self._changed:
            self._runs.append(run)
            if run.whose in self._kept:  # to the end: the others first, where room is scarce
                del self._kept[run.whose]
                self._kept[run.whose] = None
        thread = threading.Thread(target=self._attempt, args=(run,), name="fetch", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the machine or the container has no more of them
            run.attempt.fail(str(error))
            self._ended(run)

    # The threads of attempts.

    def _attempt(self, run: _Run) -> None:
        try:
            run.attempt.run()
        except Exception:  # A bug: it is this attempt's alone, and another one will be made.
            log.critical("Unexpected error while fetching", exc_info=True)
        finally:
            run.attempt.fail("an unexpected error, which the log has")
            self._ended(run)

    def _ended(self, run: _Run) -> None:
        with self._changed:
            if run in self._runs:  # not those of before a fork
                self._runs.remove(run)
            hung = self._clock.monotonic() - run.began >= HANGING_SECONDS
            if hung and run.whose in self._kept:
                self._suspects.add(run.whose)
            elif not hung:
                self._suspects.discard(run.whose)
            self._woken = True
            self._changed.notify_all()
