"""Plays a fault under steady traffic, and measures what came of it."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from lab.faults.ground import Ground
from lab.faults.outcomes import NO_TOKEN
from lab.faults.row import Row
from lab.faults.traffic import Prober, Sender, Sent
from tests.support.logfmt import parse_line
from tests.support.process import ProxyProcess, wait_until

#: How long healing may take, in seconds, and how many good responses in a row make it sure.
HEALING = 75.0
GOOD_IN_A_ROW = 3


@dataclass(frozen=True)
class Measured:
    """What one play of a row showed; times in seconds."""

    name: str
    #: Outcomes that senders saw, other than being served.
    seen: list[str]
    #: From the begin of the fault to its end, and from there to the first good responses
    #: that every sender got; nothing if no sender ever saw anything bad.
    fault: float
    after: float
    #: The slowest response that was good.
    slowest: float
    acknowledged: int
    lost: int
    ready: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    #: Messages of warnings and errors.
    log: list[str] = field(default_factory=list)


class Bench:
    """The traffic around one fault, and the clock that is stopped for it."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.senders: list[Sender] = []
        self._prober = Prober(ground.address)
        self.log_from = 0
        self._running = False
        self.began = self.ended = 0.0

    @property
    def proxy(self) -> ProxyProcess:
        assert self.ground.proxy is not None
        return self.ground.proxy

    # -- traffic -------------------------------------------------------------

    def flow(
        self,
        *,
        good: bool = True,
        size: int = 2000,
        keep: bool = True,
        fields: Sequence[str] = (),
    ) -> None:
        """Begin the traffic, two writers and one that asks; if `good`, wait until it is served.

        Each request has these header fields.
        """
        ground = self.ground
        kinds = (True, True, False)
        self.senders = [
            Sender(
                ground.address,
                ground.numbers,
                writes=writes,
                size=size,
                keep=keep,
                fields=fields,
            )
            for writes in kinds
        ]
        self._running = True
        for sender in self.senders:
            sender.start()
        self._prober.start()
        if good:
            self._wait_for_good(since=0.0)

    def stop(self) -> None:
        if self._running:
            self._running = False
            for sender in self.senders:
                sender.stop()
            self._prober.stop()

    # -- the fault -----------------------------------------------------------

    @contextlib.contextmanager
    def fault(self, *, from_start: bool = False) -> Iterator[None]:
        """The time that the fault is there; `from_start` if the proxy starts within it."""
        self.log_from = 0 if from_start else self.proxy.mark()
        self.began = time.monotonic()
        yield
        self.ended = time.monotonic()

    def felt(self, times: int = 2) -> None:
        """Wait until each sender has had so many responses, of any kind, since the fault began."""

        def all_have() -> bool:
            return all(
                sum(each.began > self.began for each in list(sender.sent)) >= times
                for sender in self.senders
            )

        wait_until("the fault is felt", all_have, deadline=HEALING)

    def see(self, outcome: str) -> None:
        """Wait until each sender has had this outcome since the fault began."""
        wait_until(
            f"senders see {outcome!r}",
            lambda: all(self._has_seen(sender, outcome) for sender in self.senders),
            deadline=HEALING,
        )
        if outcome == NO_TOKEN:
            wait_until("/ready tells", lambda: "503" in self._probed("/ready"))

    def writers_see(self, outcome: str) -> bool:
        """Whether each writer has had this outcome since the fault began."""
        return all(self._has_seen(each, outcome) for each in self.senders if each.writes)

    def _has_seen(self, sender: Sender, outcome: str) -> bool:
        return any(
            each.outcome == outcome and each.ended > self.began for each in list(sender.sent)
        )

    def wait_for_event(self, text: str, *, after: int, times: int = 1) -> None:
        """Wait until the log tells of it so often, as long as healing may take."""
        wait_until(
            f"{text!r} in the log",
            lambda: sum(text in line for line in self.proxy.lines[after:]) >= times,
            deadline=HEALING,
        )

    def rest(self, seconds: float) -> None:
        """Let so much time pass, where the passing of time is the fault."""
        end = time.monotonic() + seconds
        wait_until("time passed", lambda: time.monotonic() >= end, deadline=seconds + 1)

    def heal(self) -> None:
        """Wait until every sender is served again, without any help."""
        self._wait_for_good(since=self.ended)

    def _wait_for_good(self, since: float) -> None:
        def all_served() -> bool:
            return all(_tail_is_good(list(sender.sent), since) for sender in self.senders)

        try:
            wait_until("every sender is served", all_served, deadline=HEALING)
        except AssertionError as error:
            last = [sender.sent[-3:] for sender in self.senders]
            raise AssertionError(f"{error}: {last}\n{self.proxy.log[-6000:]}") from None

    # -- what it showed ------------------------------------------------------

    def conclude(self, name: str) -> Measured:
        """Stop the traffic, and return what was measured."""
        self.heal()
        for probe in ("/ready", "/health"):
            wait_until(f"{probe} was asked", partial(self._was_asked, probe))
        self.stop()
        before = [s for s in self._all() if s.ended < self.began and not s.good]
        assert not before, f"not served before the fault: {before[:3]}"
        during = [s for s in self._all() if s.ended >= self.began]
        bad = [s for s in during if not s.good]
        acknowledged = set().union(*(sender.acknowledged() for sender in self.senders))
        return Measured(
            name=name,
            seen=sorted({each.outcome for each in bad}),
            fault=self.ended - self.began,
            after=max(map(self._first_good_after, self.senders)) if bad else 0.0,
            slowest=max((s.ended - s.began for s in during if s.good), default=0.0),
            acknowledged=len(acknowledged),
            lost=len(acknowledged - self.ground.received),
            ready=self._probed("/ready"),
            health=self._probed("/health"),
            log=self._logged(),
        )

    def _was_asked(self, path: str) -> bool:
        return bool(self._probed(path))

    def _all(self) -> list[Sent]:
        return [sent for sender in self.senders for sent in sender.sent]

    def _first_good_after(self, sender: Sender) -> float:
        """Return the time from the fault's end to the response from which on all were good."""
        last_bad = max((s.ended for s in sender.sent if not s.good), default=0.0)
        since = max(last_bad, self.ended)
        first = next(s for s in sender.sent if s.good and s.ended >= since)
        return max(0.0, first.ended - self.ended) if last_bad else 0.0

    def _probed(self, path: str) -> list[str]:
        return sorted(
            {status for at, probe, status in self._prober.seen if probe == path and at > self.began}
        )

    def _logged(self) -> list[str]:
        lines = self.proxy.log.splitlines()[self.log_from :]
        troubles = [line for line in lines if re.search(r"level=(warning|error|critical)", line)]
        return sorted({parse_line(line)["msg"] for line in troubles})


def _tail_is_good(sent: list[Sent], since: float) -> bool:
    tail = sent[-GOOD_IN_A_ROW:]
    return len(tail) == GOOD_IN_A_ROW and all(s.good and s.began >= since for s in tail)


def judge(row: Row, measured: Measured) -> None:
    """Hold what was measured to what the row promises."""
    seen = set(measured.seen)
    assert row.sees <= seen <= row.sees | row.may_see, f"clients saw {sorted(seen)}"
    assert measured.acknowledged > 0, "nothing was acknowledged, so that nothing was shown"
    assert measured.lost == 0, f"{measured.lost} acknowledged writes are not at the target"
    assert set(measured.health) <= {"200", *row.health}, f"/health said {measured.health}"
    assert set(measured.ready) <= {"200", *row.ready}, f"/ready said {measured.ready}"
    if NO_TOKEN in row.sees:
        assert "503" in measured.ready, f"/ready said {measured.ready}"
    missing = set(row.log) - set(measured.log)
    assert not missing, f"the log does not say {missing}, but {measured.log}"


def play(row: Row, ground: Ground, keep_in: Path | None) -> None:
    """Play a row, judge it, and keep what was measured as a file for the page."""
    bench = Bench(ground)
    try:
        row.scenario(bench)
        measured = bench.conclude(row.name)
    finally:
        bench.stop()
    judge(row, measured)
    if keep_in is not None:
        keep_in.mkdir(parents=True, exist_ok=True)
        (keep_in / f"{row.file_name}.json").write_text(json.dumps(asdict(measured)))
