"""Which worker takes a connection."""

from __future__ import annotations

import errno
import os

import pytest

from authproxy.server.balance import ConnectionCounts, Share, keep_to_one_core


def never() -> bool:
    return False


def begun(counts: ConnectionCounts, worker: int, connections: int) -> Share:
    share = Share(counts, worker)
    assert not share.defers_accept()
    share.put(connections)
    return share


def test_a_worker_that_begins_leaves_connections_to_those_that_have_begun() -> None:
    counts = ConnectionCounts(2)
    beginning = Share(counts, 0)
    beginning.defer_until(never)
    assert not beginning.defers_accept()  # There is nobody else.
    other = begun(counts, 1, connections=7)
    assert beginning.defers_accept()
    assert not other.is_exceeded()  # So that the other leaves none to it.
    counts.withdraw(1)
    assert not beginning.defers_accept()


def test_patience_ends() -> None:
    counts = ConnectionCounts(2)
    begun(counts, 1, connections=7)
    beginning = Share(counts, 0, patience=0)
    beginning.defer_until(never)
    assert not beginning.defers_accept()


def test_a_worker_that_has_begun_takes_its_share() -> None:
    counts = ConnectionCounts(2)
    other = begun(counts, 1, connections=7)
    tokens: list[str] = []
    beginning = Share(counts, 0)
    beginning.defer_until(lambda: bool(tokens))
    assert beginning.defers_accept()
    tokens.append("the first one")
    assert not beginning.defers_accept()
    assert other.is_exceeded()
    assert not beginning.is_exceeded()


def test_a_sandbox_that_forbids_to_choose_a_core_keeps_no_worker_from_serving(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forbidden(_: int, __: set[int]) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    keep_to_one_core(0, len(os.sched_getaffinity(0)))
