"""What is done when a client leaves is done once, or not at all."""

from __future__ import annotations

from authproxy.cancellation import ABORT_KEY, AbortSignal, abort_signal


def test_what_was_to_be_done_is_done_when_the_client_leaves() -> None:
    signal, done = AbortSignal(), []
    signal.on_abort(lambda: done.append("it"))
    assert (signal.aborted, done) == (False, [])
    signal.abort()
    assert (signal.aborted, done) == (True, ["it"])


def test_it_is_done_at_once_where_the_client_has_left_already() -> None:
    signal, done = AbortSignal(), []
    signal.abort()
    signal.on_abort(lambda: done.append("it"))
    assert done == ["it"]


def test_what_is_over_is_not_undone() -> None:
    signal, done = AbortSignal(), []
    signal.on_abort(lambda: done.append("it"))
    signal.on_abort(None)
    signal.abort()
    assert (signal.aborted, done) == (True, [])


def test_other_servers_requests_are_never_aborted() -> None:
    signal = AbortSignal()
    assert abort_signal({ABORT_KEY: signal}) is signal
    assert not abort_signal({}).aborted
    assert abort_signal({}) is not abort_signal({})
