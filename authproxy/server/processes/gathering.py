"""The reports of all workers on a subject, put together by their parent; no sockets here.

Of a worker that sends none in time the last report counts, on subjects whose reports
are lasting. So it does of one that has ended: the last reports of ended workers are
folded into one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from authproxy.server.processes.channel import Kind, Message

#: How long the parent waits for the reports of all workers.
REPORT_SECONDS = 1.0

#: Makes one report of the folded one, None where there is none yet, and a further one.
Fold = Callable[[bytes | None, bytes], bytes]


@dataclass
class _Gathering:
    """What one worker asked for, and the reports so far, by pid."""

    asker: int
    number: int
    subject: str
    deadline: float
    missing: set[int]
    reports: dict[int, bytes] = field(default_factory=dict)


class Gatherings:
    """The gatherings that are under way, and the reports kept for further ones."""

    def __init__(self, folds: Mapping[str, Fold], notes: Callable[[], object]) -> None:
        """`folds` has the subjects with lasting reports, and how these are folded.

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
        """Take a worker's report, whether requested or not."""
        if report.subject in self._folds and report.body != b"null":
            self._last[worker, report.subject] = report.body
        gathering = self._open.get(report.number)
        if gathering is not None and worker in gathering.missing:
            gathering.missing.remove(worker)
            gathering.reports[worker] = report.body

    def end(self, worker: int) -> None:
        """Fold in the last reports of a worker that has ended."""
        for subject, fold in self._folds.items():
            if (last := self._last.pop((worker, subject), None)) is not None:
                self._ended[subject] = fold(self._ended.get(subject), last)
        for gathering in self._open.values():
            gathering.missing.discard(worker)
            gathering.reports.pop(worker, None)

    def finished(self, now: float) -> Iterator[tuple[int, Message]]:
        """Yield the reports of gatherings that are over, and which worker asked."""
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
        # Also of those that started since: no counter may fall from one gathering to the next.
        reports |= {worker: last for (worker, on), last in self._last.items() if on == subject}
        workers = b",".join(b'{"pid":%d,"report":%b}' % pair for pair in sorted(reports.items()))
        ended = self._ended.get(subject, b"null")
        notes = json.dumps(self._notes()).encode()
        return b'{"workers":[%b],"ended":%b,"notes":%b}' % (workers, ended, notes)
