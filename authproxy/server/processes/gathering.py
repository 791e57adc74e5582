"""What all workers report on a subject, put together by their parent; no sockets here.

One that does not answer in time counts with what it reported last, where a
subject has such reports count on. So does one that has ended: what they reported
last is folded into one report for good.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from authproxy.server.processes.channel import Kind, Message

#: How long all workers together are waited for.
REPORT_SECONDS = 1.0

#: Makes one report of what ended workers left, None for none yet, and a further one.
Fold = Callable[[bytes | None, bytes], bytes]


@dataclass
class _Gathering:
    """What one worker asked, and what came so far, by pid."""

    asker: int
    number: int
    subject: str
    deadline: float
    missing: set[int]
    reports: dict[int, bytes] = field(default_factory=dict)


class Gatherings:
    """The gatherings that are under way, and what is kept for further ones."""

    def __init__(self, folds: Mapping[str, Fold], notes: Callable[[], object]) -> None:
        """`folds` says on which subjects reports count on, and how.

        `notes` returns what the parent itself adds, for JSON.
        """
        self._folds = folds
        self._notes = notes
        self._numbers = 0
        self._open: dict[int, _Gathering] = {}
        #: By pid and subject.
        self._last: dict[tuple[int, str], bytes] = {}
        self._ended: dict[str, bytes] = {}

    @property
    def deadline(self) -> float:
        """When the next gathering is over at the latest; infinite without one."""
        return min((each.deadline for each in self._open.values()), default=math.inf)

    def begin(self, asker: int, ask: Message, workers: Iterable[int], now: float) -> Message:
        """Begin to gather; returns the request to send to each of the workers, given by pid."""
        self._numbers += 1
        deadline = now + REPORT_SECONDS
        gathering = _Gathering(asker, ask.number, ask.subject, deadline, set(workers))
        self._open[self._numbers] = gathering
        return Message(Kind.REQUEST, self._numbers, ask.subject)

    def take(self, worker: int, report: Message) -> None:
        """Take a worker's report, asked for or not."""
        if report.subject in self._folds and report.body != b"null":
            self._last[worker, report.subject] = report.body
        gathering = self._open.get(report.number)
        if gathering is not None and worker in gathering.missing:
            gathering.missing.remove(worker)
            gathering.reports[worker] = report.body

    def end(self, worker: int) -> None:
        """A worker has ended."""
        for subject, fold in self._folds.items():
            if (last := self._last.pop((worker, subject), None)) is not None:
                self._ended[subject] = fold(self._ended.get(subject), last)
        for gathering in self._open.values():
            gathering.missing.discard(worker)
            gathering.reports.pop(worker, None)

    def finished(self, now: float) -> Iterator[tuple[int, Message]]:
        """Yield the answers of gatherings that are over, and which worker asked."""
        for number, gathering in list(self._open.items()):
            if not gathering.missing or now >= gathering.deadline:
                del self._open[number]
                body = self._body(gathering)
                yield (
                    gathering.asker,
                    Message(Kind.REPORTS, gathering.number, gathering.subject, body),
                )

    def _body(self, gathering: _Gathering) -> bytes:
        """Return JSON; the reports are in it as they came."""
        subject = gathering.subject
        reports = {**dict.fromkeys(gathering.missing, b"null"), **gathering.reports}
        # Also of those that began since: what was in an answer before is in each one after.
        reports |= {worker: last for (worker, on), last in self._last.items() if on == subject}
        workers = b",".join(b'{"pid":%d,"report":%b}' % pair for pair in sorted(reports.items()))
        ended = self._ended.get(subject, b"null")
        notes = json.dumps(self._notes()).encode()
        return b'{"workers":[%b],"ended":%b,"notes":%b}' % (workers, ended, notes)
