"""What workers report is put together by their parent: each counts once, whatever becomes of it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from authproxy.server.processes.channel import Kind, Message
from authproxy.server.processes.gathering import REPORT_SECONDS, Gatherings

ASK = Message(Kind.ASK, 9, "count")


def add(ended: bytes | None, report: bytes) -> bytes:
    return b"%d" % (int(ended or b"0") + int(report))


def made() -> Gatherings:
    return Gatherings({"count": add}, lambda: {"note": 1})


def report(request: Message, body: bytes) -> Message:
    return request._replace(kind=Kind.REPORT, body=body)


def answers(gatherings: Gatherings, now: float) -> list[dict[str, Any]]:
    found = list(gatherings.finished(now))
    assert all((asker, message.kind) == (1, Kind.REPORTS) for asker, message in found)
    return [json.loads(message.body) for _, message in found]


def test_all_that_report_are_in_the_answer() -> None:
    gatherings = made()
    assert gatherings.deadline == math.inf
    request = gatherings.begin(1, ASK, [1, 2], now=10.0)
    assert request.kind is Kind.REQUEST
    assert gatherings.deadline == 10.0 + REPORT_SECONDS
    gatherings.take(2, report(request, b"5"))
    assert answers(gatherings, 10.0) == []
    gatherings.take(1, report(request, b"3"))
    workers = [{"pid": 1, "report": 3}, {"pid": 2, "report": 5}]
    assert answers(gatherings, 10.0) == [{"workers": workers, "ended": None, "notes": {"note": 1}}]
    assert answers(gatherings, 99.0) == []


def test_an_answer_goes_to_the_number_that_asked() -> None:
    gatherings = made()
    request = gatherings.begin(1, ASK, [1], now=0.0)
    gatherings.take(1, report(request, b"3"))
    ((_, answer),) = gatherings.finished(0.0)
    assert (answer.number, answer.subject) == (ASK.number, "count")


@pytest.mark.parametrize(("subject", "expected"), [("count", 5), ("status", None)])
def test_one_that_is_silent_counts_with_its_last_report_where_that_counts_on(
    subject: str, expected: int | None
) -> None:
    gatherings = made()
    ask = ASK._replace(subject=subject)
    request = gatherings.begin(1, ask, [2], now=0.0)
    gatherings.take(2, report(request, b"5"))
    assert len(answers(gatherings, 0.0)) == 1
    gatherings.begin(1, ask, [2], now=1.0)
    assert answers(gatherings, 1.0 + REPORT_SECONDS / 2) == []
    (answer,) = answers(gatherings, 1.0 + REPORT_SECONDS)
    assert answer["workers"] == [{"pid": 2, "report": expected}]


def test_a_report_that_could_not_be_made_leaves_the_one_before() -> None:
    gatherings = made()
    gatherings.take(2, report(ASK._replace(number=0), b"5"))
    request = gatherings.begin(1, ASK, [2], now=0.0)
    gatherings.take(2, report(request, b"null"))
    (answer,) = answers(gatherings, 0.0)
    assert answer["workers"] == [{"pid": 2, "report": 5}]


def test_one_that_ends_meanwhile_counts_among_the_ended() -> None:
    gatherings = made()
    request = gatherings.begin(1, ASK, [2, 3], now=0.0)
    gatherings.take(2, report(request, b"5"))
    gatherings.take(2, report(request._replace(number=0), b"7"))  # its last
    gatherings.end(2)
    gatherings.end(3)
    assert answers(gatherings, 0.0) == [{"workers": [], "ended": 7, "notes": {"note": 1}}]


class Counting(RuleBasedStateMachine):
    """Workers count up, report, end and are replaced; whoever asks sees a sum that never falls."""

    def __init__(self) -> None:
        super().__init__()
        self.gatherings = made()
        self.counts = {1: 0}
        self.requests: list[Message] = []
        self.next_pid = 2
        self.now = 0.0
        self.highest = 0

    @rule(worker=st.integers(0, 5))
    def work(self, worker: int) -> None:
        pid = sorted(self.counts)[worker % len(self.counts)]
        self.counts[pid] += 1

    @rule()
    def start(self) -> None:
        self.counts[self.next_pid] = 0
        self.next_pid += 1

    @rule()
    def ask(self) -> None:
        self.requests.append(self.gatherings.begin(1, ASK, self.counts, self.now))

    @precondition(lambda self: self.requests)
    @rule(worker=st.integers(0, 5), request=st.integers(0, 5))
    def answer(self, worker: int, request: int) -> None:
        pid = sorted(self.counts)[worker % len(self.counts)]
        chosen = self.requests[request % len(self.requests)]
        self.gatherings.take(pid, report(chosen, b"%d" % self.counts[pid]))

    @precondition(lambda self: len(self.counts) > 1)
    @rule(worker=st.integers(0, 5), killed=st.booleans())
    def end(self, worker: int, killed: bool) -> None:
        pid = sorted(self.counts)[1:][worker % (len(self.counts) - 1)]
        count = self.counts.pop(pid)
        if not killed:
            self.gatherings.take(pid, report(ASK._replace(number=0), b"%d" % count))
        self.gatherings.end(pid)

    @rule(seconds=st.floats(0, 2 * REPORT_SECONDS))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def sums_never_fall(self) -> None:
        for answer in answers(self.gatherings, self.now):
            total = (answer["ended"] or 0) + sum(
                worker["report"] or 0 for worker in answer["workers"]
            )
            assert total >= self.highest
            self.highest = total


TestCounting = Counting.TestCase
