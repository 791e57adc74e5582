"""The kernel's list of connections follows what they wait for."""

import logging
import socket
from collections.abc import Iterator

import pytest

from authproxy.server.poller import READ, WRITE, Poller, Watched


class Peer(Watched):
    """A connection that waits for what a test tells it to, and notes what happens."""

    def __init__(self, sock: socket.socket, poller: Poller) -> None:
        self.wanted = READ
        self.events: list[str] = []
        self.closed = False
        #: Bytes to read that are no longer in the kernel.
        self.kept = 0
        self._socket = sock
        self._poller = poller
        poller.add(self)

    def fileno(self) -> int:
        return self._socket.fileno()

    def wants(self) -> int:
        return 0 if self.closed else self.wanted

    def can_read(self) -> bool:
        return self.kept > 0 and bool(self.wants() & READ)

    def on_events(self, events: int) -> None:
        self.kept -= bool(self.kept)
        if events & READ:
            self.events.append("read")
        if events & WRITE:
            self.events.append("write")
            self.wanted = READ

    def on_notify(self) -> None:
        self.events.append("notify")

    def fail(self) -> None:
        self.events.append("fail")
        self.close()

    def close(self) -> None:
        self.closed = True
        self._poller.remove(self)
        self._socket.close()


@pytest.fixture
def poller() -> Iterator[Poller]:
    made = Poller()
    yield made
    made.close()


@pytest.fixture
def pair(poller: Poller) -> Iterator[tuple[Peer, socket.socket]]:
    ours, theirs = socket.socketpair()
    with theirs:
        peer = Peer(ours, poller)
        yield peer, theirs
        peer.close()


def test_a_new_connection_is_watched(poller: Poller, pair: tuple[Peer, socket.socket]) -> None:
    peer, theirs = pair
    poller.poll(0)
    assert peer.events == []
    theirs.send(b"x")
    poller.poll(1)
    assert peer.events == ["read"]


def test_a_change_counts_once_it_is_told(poller: Poller, pair: tuple[Peer, socket.socket]) -> None:
    peer, _ = pair
    peer.wanted = WRITE
    poller.poll(0)
    assert peer.events == []
    poller.notify(peer)
    poller.poll(1)
    poller.poll(1)
    poller.poll(0)  # it changed its mind in the event, which needs no telling
    assert peer.events == ["notify", "write"]


def test_one_that_waits_for_nothing_wakes_nobody(
    poller: Poller, pair: tuple[Peer, socket.socket]
) -> None:
    peer, theirs = pair
    peer.wanted = 0
    poller.notify(peer)
    poller.poll(1)
    theirs.send(b"x")
    poller.poll(0)
    assert (peer.events, peer.interest) == (["notify"], 0)
    peer.wanted = READ
    poller.notify(peer)
    poller.poll(1)
    poller.poll(1)
    assert (peer.events, peer.interest) == (["notify", "notify", "read"], READ)


def test_each_notification_ends_a_wait(poller: Poller, pair: tuple[Peer, socket.socket]) -> None:
    peer, _ = pair
    for _ in range(3):
        poller.notify(peer)
        poller.notify(peer)
        poller.poll(60)
    assert peer.events == ["notify"] * 6


def test_a_closed_one_is_forgotten_also_if_its_descriptor_is_anothers(
    poller: Poller, pair: tuple[Peer, socket.socket]
) -> None:
    peer, _ = pair
    poller.notify(peer)
    descriptor = peer.fileno()
    peer.close()
    ours, theirs = socket.socketpair()
    with theirs:
        other = Peer(ours, poller)
        assert other.fileno() == descriptor
        theirs.send(b"x")
        poller.poll(1)
        assert (peer.events, other.events) == ([], ["read"])
        other.close()


def test_one_closed_by_another_in_the_same_turn_is_left_alone(poller: Poller) -> None:
    peers = []
    for _ in range(2):
        ours, theirs = socket.socketpair()
        theirs.send(b"x")
        peers.append((Peer(ours, poller), theirs))
    (first, _), (second, _) = peers

    def close_other(one: Peer, other: Peer) -> None:
        def on_events(events: int) -> None:
            one.events.append("read")
            other.close()

        one.on_events = on_events  # type: ignore[method-assign]

    close_other(first, second)
    close_other(second, first)
    poller.poll(1)
    assert sorted((first.events, second.events)) == [[], ["read"]]
    for peer, theirs in peers:
        peer.close()
        theirs.close()


def test_a_bug_with_one_ends_that_one_alone(
    poller: Poller, pair: tuple[Peer, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    peer, theirs = pair

    def stumble(events: int) -> None:
        raise RuntimeError("a bug")

    peer.on_events = stumble  # type: ignore[method-assign]
    theirs.send(b"x")
    poller.poll(1)
    assert (peer.events, peer.closed) == (["fail"], True)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (
        logging.ERROR,
        "Unexpected error with a connection.",
    )


def test_what_is_no_longer_in_the_kernel_is_read_without_an_event(
    poller: Poller, pair: tuple[Peer, socket.socket]
) -> None:
    peer, _ = pair
    peer.kept = 2
    poller.update(peer)
    for _ in range(3):
        poller.poll(0)
    assert peer.events == ["read", "read"]


def test_what_is_kept_waits_while_nothing_is_wanted(
    poller: Poller, pair: tuple[Peer, socket.socket]
) -> None:
    peer, _ = pair
    peer.kept, peer.wanted = 1, 0
    poller.update(peer)
    poller.poll(0)
    assert peer.events == []
    peer.wanted = READ
    poller.update(peer)
    poller.poll(0)
    assert peer.events == ["read"]
