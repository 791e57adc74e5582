"""What a worker and its parent say to each other arrives whole, and holds neither of them up."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.server.processes import channel as channel_module
from authproxy.server.processes.channel import (
    Decoder,
    Kind,
    Message,
    ParentLink,
    ParentSilent,
    WorkerLink,
    channel,
)
from authproxy.server.processes.supervision import Health
from tests.support.process import wait_until
from tests.support.wire import DEADLINE

READY = Health(serves=True, ready=True, text="Ready.")

messages = st.builds(
    Message, st.sampled_from(Kind), st.integers(0, 2**32 - 1), st.text(max_size=9), st.binary()
)


@given(st.lists(messages), st.lists(st.integers(1, 20)))
def test_messages_are_the_same_however_they_are_cut(sent: list[Message], cuts: list[int]) -> None:
    stream = b"".join(message.encoded() for message in sent)
    decoder = Decoder()
    received: list[Message] = []
    for cut in cuts:
        received += decoder.feed(stream[:cut])
        stream = stream[cut:]
    received += decoder.feed(stream)
    assert received == sent


class Pair:
    """Both ends of a channel, in one process."""

    def __init__(self) -> None:
        self.parent, self._sock = channel()
        self.stopped = threading.Event()
        self.worker = ParentLink(self._sock, self.stopped.set, listens=True)
        self.received: list[Message] = []

    def next(self) -> Message:
        """Return the next message to the parent."""

        def came() -> bool:
            self.received += self.parent.receive()
            return bool(self.received)

        wait_until("a message", came)
        return self.received.pop(0)

    def tell(self, message: Message) -> None:
        self.parent.send(message)

        def gone() -> bool:
            self.parent.send_unsent()
            return not self.parent.has_unsent

        wait_until("it is sent", gone)

    def close(self) -> None:
        self.parent.close()
        self.worker.close()
        self._sock.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    made.worker.start()
    yield made
    made.close()


def test_a_worker_tells_how_it_fares(pair: Pair) -> None:
    pair.worker.report(READY)
    message = pair.next()
    assert message.kind is Kind.HEALTH
    assert Health(*json.loads(message.body)) == READY


def test_a_worker_reports_when_it_is_asked(pair: Pair) -> None:
    pair.worker.report_on("count", lambda: b"5")
    for number, subject, report in ((7, "count", b"5"), (8, "nothing", b"null")):
        pair.tell(Message(Kind.REQUEST, number, subject))
        assert pair.next() == Message(Kind.REPORT, number, subject, report)


def test_a_report_that_cannot_be_made_leaves_the_link_alive(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    pair.worker.report_on("count", lambda: str(1 / 0).encode())
    for _ in range(2):
        pair.tell(Message(Kind.REQUEST, 1, "count"))
        assert pair.next().body == b"null"
    assert pair.worker.alive
    assert "Unexpected error in a report" in caplog.messages


def test_a_worker_gathers_what_all_report(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "GATHER_SECONDS", DEADLINE)
    answered: list[dict[str, object]] = []
    threads = [
        threading.Thread(target=lambda n=n: answered.append(pair.worker.gather(str(n))))
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for ask in [pair.next() for _ in threads]:
        assert ask.kind is Kind.ASK
        body = json.dumps({"of": ask.subject, "long": "x" * 100_000}).encode()
        pair.tell(ask._replace(kind=Kind.REPORTS, body=body))
    for thread in threads:
        thread.join(DEADLINE)
    assert sorted(str(each["of"]) for each in answered) == ["0", "1", "2"]


def test_a_parent_that_does_not_answer_is_waited_for_two_seconds(pair: Pair) -> None:
    with pytest.raises(ParentSilent):
        pair.worker.gather("count")
    late = pair.next()
    pair.tell(late._replace(kind=Kind.REPORTS, body=b"{}"))  # nobody waits for it any more
    pair.worker.report(READY)
    assert pair.next().kind is Kind.HEALTH


def test_a_parent_that_does_not_read_holds_up_no_worker(pair: Pair) -> None:
    pair.worker.report_on("long", lambda: b'"%b"' % (b"x" * 10_000_000), lasting=True)
    pair.worker.report_last()
    for _ in range(10_000):
        pair.worker.report(READY)
    with pytest.raises(ParentSilent):  # at once: so many wait already
        pair.worker.gather("count")


def test_the_last_report_arrives_and_stays(pair: Pair) -> None:
    counts = iter(range(5, 9))
    pair.worker.report_on("count", lambda: b"%d" % next(counts), lasting=True)
    pair.worker.report_last()
    assert pair.next() == Message(Kind.REPORT, 0, "count", b"5")
    pair.tell(Message(Kind.REQUEST, 3, "count"))
    assert pair.next() == Message(Kind.REPORT, 3, "count", b"5")


def test_the_end_of_the_parent_stops_the_worker(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    pair.worker.report(READY)  # unread: the socket is reset
    pair.parent.close()
    assert pair.stopped.wait(DEADLINE)
    assert "The parent process is gone." in caplog.messages


def test_a_worker_that_ends_by_itself_loses_no_parent(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    pair.worker.close()
    pair.parent.close()
    assert not pair.stopped.wait(0.1)
    assert caplog.messages == []


def test_the_end_of_a_worker_is_noticed_after_all_that_it_said() -> None:
    parents, workers = socket.socketpair()
    link = WorkerLink(parents)
    workers.sendall(Message(Kind.REPORT, 0, "count", b"1" * 1_000).encoded() * 100)
    workers.close()
    assert len(list(link.receive())) == 100
    assert link.has_ended()
    link.close()


def test_what_a_worker_does_not_read_waits_without_holding_up_its_parent() -> None:
    parents, workers = socket.socketpair()
    link = WorkerLink(parents)
    message = Message(Kind.REPORTS, 1, "count", b"x" * 10_000_000)
    link.send(message)
    link.send_unsent()
    assert link.has_unsent
    decoder = Decoder()
    received: list[Message] = []
    while not received:
        received += decoder.feed(workers.recv(1 << 20))
        link.send_unsent()
    assert received == [message]
    assert not link.has_unsent
    workers.close()
    link.close()
