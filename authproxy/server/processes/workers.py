"""Several processes on the same sockets: a parent that forks and replaces them."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType

from authproxy.server.main_loop import StopRequest
from authproxy.server.processes.channel import ParentLink, channel
from authproxy.server.processes.gathering import Fold, Gatherings
from authproxy.server.processes.links import WorkerLinks
from authproxy.server.processes.supervision import Health, WorkersHealth

log = logging.getLogger(__name__)

#: Serves in a worker until stopped; gets the worker's number, the request to
#: stop, which the parent's death makes as well, and the link to the parent.
ServeWorker = Callable[[int, StopRequest, ParentLink], None]

_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP})

#: A worker that lived shorter than this is replaced after a pause, doubled
#: each time up to the longest.
_SHORT_LIFE_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0

#: Seconds that workers have beyond delay and grace before they are killed.
_SPARE_SECONDS = 5.0

_TICK_SECONDS = 1.0

#: The shortest time between two reloads.
_RELOAD_PAUSE_SECONDS = 1.0


@dataclass
class _Slot:
    """One place for a worker, and when it may be filled again (monotonic)."""

    pid: int | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    pause: float = 0.0


class Parent:
    """Keeps `count` workers alive; itself it has neither threads nor an application."""

    def __init__(
        self,
        count: int,
        sockets: Sequence[socket.socket],
        serve_worker: ServeWorker,
        *,
        delay: float,
        grace: float,
        health: WorkersHealth | None = None,
        reload: Callable[[], bool] = lambda: True,
        ended: Callable[[int], None] = lambda number: None,
        folds: Mapping[str, Fold] | None = None,
        notes: Callable[[], object] = lambda: None,
    ) -> None:
        """`reload` is called on SIGHUP, and returns whether the workers are to reload too.

        `ended` is called with the number of a worker that has died. For `folds` and
        `notes` see `Gatherings`.
        """
        self._health = health
        self._reload = reload
        self._on_ended = ended
        self._slots = [_Slot(pause=_FIRST_PAUSE_SECONDS) for _ in range(count)]
        self._sockets = sockets
        self._serve_worker = serve_worker
        self._delay = delay
        self._patience = delay + grace + _SPARE_SECONDS
        self._failed = False
        self._reload_wanted = False
        self._reload_at = 0.0
        self._gatherings = Gatherings(folds or {}, notes)

    def run(self) -> int:
        """Run until SIGTERM or SIGINT; 0 if all workers drained, else 1.

        A second signal kills the workers and ends at once.
        """
        with _signals_as_bytes() as self._signals:
            self._links = WorkerLinks(self._gatherings, self._take_health, wake=self._signals)
            while not self._stop_signal(signals := self._wait(self._next_start())):
                self._reload_if_wanted(signals)
                self._reap(draining=False)
                self._fill()
                if self._health:
                    self._health.report(self._living())
            return self._drain()

    def _reload_if_wanted(self, signals: bytes) -> None:
        """Reload on SIGHUP; signals that come too soon after a reload cause one later."""
        self._reload_wanted |= signal.SIGHUP in signals
        if self._reload_wanted and time.monotonic() >= self._reload_at:
            self._reload_wanted = False
            if self._reload():
                self._kill(signal.SIGHUP)
            self._reload_at = time.monotonic() + _RELOAD_PAUSE_SECONDS

    def _take_health(self, worker: int, health: Health) -> None:
        if self._health:
            self._health.take(worker, health)

    def _next_start(self) -> float:
        """Return when the next worker is to be started (monotonic)."""
        return min((slot.start_at for slot in self._slots if slot.pid is None), default=math.inf)

    def _wait(self, until: float) -> bytes:
        """Wait for signals, a second and up to that time (monotonic) at most; return their numbers.

        Messages of workers are handled meanwhile.
        """
        if self._links.wait(min(_TICK_SECONDS, until - time.monotonic())):
            return os.read(self._signals, 1024)
        return b""

    @staticmethod
    def _stop_signal(numbers: bytes) -> int | None:
        return next((n for n in numbers if n in (signal.SIGTERM, signal.SIGINT)), None)

    def _fill(self) -> None:
        now = time.monotonic()
        for number, slot in enumerate(self._slots):
            if slot.pid is None and now >= slot.start_at:
                slot.started_at = now
                slot.pid = self._fork(number)
                log.info("Worker started", extra={"fields": {"WorkerPID": slot.pid}})

    def _fork(self, number: int) -> int:
        ours, theirs = channel()
        # The one other thread here writes the log, and has nothing that the child needs.
        # No signal may come between the fork and the worker's own handlers.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._be_worker(number, before, theirs)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self._links.add(pid, ours)
        return pid

    def _be_worker(
        self, worker: int, mask: set[int | signal.Signals], to_parent: socket.socket
    ) -> None:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            os.close(self._signals)
            self._links.close()
            stop = StopRequest()
            # A second signal is the parent's to act on: service managers and
            # terminals send one to each process besides the parent's own.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda number, frame: stop())
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # What serves has a handler for SIGHUP, and lets it in then.
            signal.pthread_sigmask(signal.SIG_SETMASK, {*mask, signal.SIGHUP})
            listens = self._health is not None and self._health.listens
            link = ParentLink(to_parent, stop, listens=listens)
            link.start()
            self._serve_worker(worker, stop, link)
            link.close()
            status = 0
        except BaseException:  # the end of this process, whatever it was
            log.exception("Worker failed")
        finally:
            logging.shutdown()
            os._exit(status)  # nothing of the parent's may be cleaned up here

    def _reap(self, *, draining: bool) -> None:
        """Reap workers that ended, and orphans whose new parent is process 1."""
        while (ended := _next_ended_child()) is not None:
            pid, status = ended
            for number, slot in enumerate(self._slots):
                if slot.pid == pid:
                    self._links.end(pid)
                    self._on_ended(number)
                    self._ended(slot, os.waitstatus_to_exitcode(status), draining)

    def _ended(self, slot: _Slot, code: int, draining: bool) -> None:
        fields: dict[str, object] = {"WorkerPID": slot.pid}
        fields |= {"Signal": signal.Signals(-code).name} if code < 0 else {"ExitStatus": code}
        slot.pid = None
        if draining:
            if code != 0:
                self._failed = True
                log.error("Worker did not drain", extra={"fields": fields})
            return
        now = time.monotonic()
        if now - slot.started_at < _SHORT_LIFE_SECONDS:
            slot.start_at = now + slot.pause
            slot.pause = min(2 * slot.pause, _LONGEST_PAUSE_SECONDS)
        else:
            slot.start_at = now
            slot.pause = _FIRST_PAUSE_SECONDS
        fields["RestartInSeconds"] = round(slot.start_at - now, 1)
        log.error("Worker died", extra={"fields": fields})

    def _drain(self) -> int:
        if self._health:
            self._health.begin_drain()
        log.info("Draining", extra={"fields": {"Workers": sum(1 for _ in self._living())}})
        self._kill(signal.SIGTERM)
        now = time.monotonic()
        close_at, kill_at = now + self._delay, now + self._patience
        while True:
            self._reap(draining=True)
            now = time.monotonic()
            if now >= close_at:
                # As the workers do: open here, they would go on taking connections.
                for sock in self._sockets:
                    sock.close()
                close_at = math.inf
            if not any(True for _ in self._living()):
                break
            if now >= kill_at:
                log.warning("Killing the workers that did not drain.")
                self._kill(signal.SIGKILL)
                kill_at = math.inf
            if number := self._stop_signal(self._wait(min(close_at, kill_at))):
                log.warning("Second signal: ending at once.", extra={"fields": {"Signal": number}})
                self._kill(signal.SIGKILL)
                logging.shutdown()
                os._exit(128 + number)
        log.info("Stopped")
        return 1 if self._failed else 0

    def _living(self) -> Iterator[int]:
        return (slot.pid for slot in self._slots if slot.pid is not None)

    def _kill(self, number: signal.Signals) -> None:
        for pid in self._living():  # not reaped yet, so that the number is still its own
            os.kill(pid, number)


def _next_ended_child() -> tuple[int, int] | None:
    """Reap one ended child; returns its pid and wait status."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def _note(number: int, frame: FrameType | None) -> None:
    """A handler must exist for Python to write the number to the wake-up pipe."""


@contextlib.contextmanager
def _signals_as_bytes() -> Iterator[int]:
    """Give a descriptor on which each signal arrives as a byte, its number."""
    read_end, write_end = os.pipe()
    for end in (read_end, write_end):
        os.set_blocking(end, False)
    before = {number: signal.signal(number, _note) for number in _SIGNALS}
    wakeup_before = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    # Held back since the start, so that none was lost or ended the process.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    try:
        yield read_end
    finally:
        signal.set_wakeup_fd(wakeup_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(read_end)
        os.close(write_end)
