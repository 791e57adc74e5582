"""What is done when a client leaves is done once, or not at all."""

from __future__ import annotations

from authproxy.cancellation import CANCELLATION_KEY, Cancellation, cancellation_of


def test_what_was_to_be_done_is_done_when_the_client_leaves() -> None:
    cancellation, done = Cancellation(), []
    cancellation.on_cancel(lambda: done.append("it"))
    assert (cancellation.cancelled, done) == (False, [])
    cancellation.cancel()
    assert (cancellation.cancelled, done) == (True, ["it"])


def test_it_is_done_at_once_where_the_client_has_left_already() -> None:
    cancellation, done = Cancellation(), []
    cancellation.cancel()
    cancellation.on_cancel(lambda: done.append("it"))
    assert done == ["it"]


def test_what_is_over_is_not_undone() -> None:
    cancellation, done = Cancellation(), []
    cancellation.on_cancel(lambda: done.append("it"))
    cancellation.on_cancel(None)
    cancellation.cancel()
    assert (cancellation.cancelled, done) == (True, [])


def test_other_servers_requests_are_never_cancelled() -> None:
    cancellation = Cancellation()
    assert cancellation_of({CANCELLATION_KEY: cancellation}) is cancellation
    assert not cancellation_of({}).cancelled
    assert cancellation_of({}) is not cancellation_of({})
