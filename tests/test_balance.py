"""Which worker takes a connection."""

from __future__ import annotations

from authproxy.balance import ConnectionCounts, Share


def never() -> bool:
    return False


def begun(counts: ConnectionCounts, worker: int, connections: int) -> Share:
    share = Share(counts, worker)
    assert not share.left_to_others
    share.put(connections)
    return share


def test_a_worker_that_begins_leaves_connections_to_those_that_have_begun() -> None:
    counts = ConnectionCounts(2)
    beginning = Share(counts, 0)
    beginning.begin_when(never)
    assert not beginning.left_to_others  # There is nobody else.
    other = begun(counts, 1, connections=7)
    assert beginning.left_to_others
    assert not other.is_exceeded()  # So that the other leaves none to it.
    counts.withdraw(1)
    assert not beginning.left_to_others


def test_patience_ends() -> None:
    counts = ConnectionCounts(2)
    begun(counts, 1, connections=7)
    beginning = Share(counts, 0, patience=0)
    beginning.begin_when(never)
    assert not beginning.left_to_others


def test_a_worker_that_has_begun_takes_its_share() -> None:
    counts = ConnectionCounts(2)
    other = begun(counts, 1, connections=7)
    tokens: list[str] = []
    beginning = Share(counts, 0)
    beginning.begin_when(lambda: bool(tokens))
    assert beginning.left_to_others
    tokens.append("the first one")
    assert not beginning.left_to_others
    assert other.is_exceeded()
    assert not beginning.is_exceeded()
