"""The kernel's list of connections follows what they wait for."""

import select
import socket
from collections.abc import Iterator

import pytest
from waitress import wasyncore

from authproxy.serving.watched import Watched


class Peer(wasyncore.dispatcher):
    """A connection that waits for what a test tells it to, and notes what happens."""

    tells_of_changes = True

    def __init__(self, sock: socket.socket, watched: Watched) -> None:
        self.wants_to_read, self.wants_to_write = True, False
        self.events: list[str] = []
        super().__init__(sock, map=watched)

    def readable(self) -> bool:
        return self.wants_to_read

    def writable(self) -> bool:
        return self.wants_to_write

    def handle_read(self) -> None:
        self.events.append("read")

    def handle_write(self) -> None:
        self.events.append("write")
        self.wants_to_write = False


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.close()


@pytest.fixture
def pair(watched: Watched) -> Iterator[tuple[Peer, socket.socket]]:
    ours, theirs = socket.socketpair()
    with theirs:
        yield Peer(ours, watched), theirs


def test_a_new_connection_is_watched(watched: Watched, pair: tuple[Peer, socket.socket]) -> None:
    peer, theirs = pair
    watched.turn(0)
    assert peer.events == []
    theirs.send(b"x")
    watched.turn(1)
    assert peer.events == ["read"]


def test_a_change_counts_once_it_is_told(
    watched: Watched, pair: tuple[Peer, socket.socket]
) -> None:
    peer, _ = pair
    watched.turn(0)
    peer.wants_to_write = True
    watched.turn(0)
    assert peer.events == []
    watched.touch(peer)
    watched.turn(1)
    watched.turn(0)  # it changed its mind in the event, which needs no telling
    assert peer.events == ["write"]


def test_one_that_waits_for_nothing_wakes_nobody(
    watched: Watched, pair: tuple[Peer, socket.socket]
) -> None:
    peer, theirs = pair
    peer.wants_to_read = False
    theirs.send(b"x")
    watched.turn(0)
    assert (peer.events, peer.interest) == ([], 0)
    peer.wants_to_read = True
    watched.touch(peer)
    watched.turn(1)
    assert (peer.events, peer.interest) == (["read"], select.POLLIN)


def test_a_change_of_mind_while_the_kernel_is_told_is_not_lost(
    watched: Watched, pair: tuple[Peer, socket.socket]
) -> None:
    """As when a thread finishes a response just while the main loop asks."""
    peer, theirs = pair
    asked = iter([False, True])
    peer.readable = lambda: next(asked, True)  # type: ignore[method-assign]
    theirs.send(b"x")
    watched.turn(0)
    watched.touch(peer)
    watched.turn(1)
    assert "read" in peer.events


def test_a_closed_one_is_forgotten_also_if_its_descriptor_is_anothers(
    watched: Watched, pair: tuple[Peer, socket.socket]
) -> None:
    peer, _ = pair
    watched.turn(0)
    watched.touch(peer)
    descriptor = peer._fileno
    peer.close()
    ours, theirs = socket.socketpair()
    with theirs:
        other = Peer(ours, watched)
        assert other._fileno == descriptor
        theirs.send(b"x")
        watched.turn(1)
        assert (peer.events, other.events) == ([], ["read"])
