"""A file that is replaced, broken or taken away while it is in use."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.files.regular_file import MAX_BYTES
from authproxy.files.watched_file import (
    LOOK_SECONDS,
    REFUSAL_SECONDS,
    RESTLESS_SECONDS,
    STILL_SECONDS,
    WatchedFile,
)
from tests.support.clock import FakeClock
from tests.support.examples import examples
from tests.support.process import wait_until

Numbers = frozenset[int]


def numbers(data: bytes) -> Numbers:
    lines = data.split()
    if not lines or not all(line.isdigit() for line in lines):
        raise ValueError("it is no list of numbers")
    return frozenset(map(int, lines))


class Watched:
    def __init__(self, path: Path) -> None:
        self.clock = FakeClock()
        self.path = path
        self.file: WatchedFile[Numbers] = WatchedFile(
            "SETTING", str(path), numbers, both=Numbers.union, what="numbers", clock=self.clock
        )

    def after(self, seconds: float) -> Numbers | None:
        """Let time pass and look once."""
        self.clock.advance(seconds)
        self.file.look()
        return self.file.current()

    def later(self) -> Numbers | None:
        """Return what counts once the file has been still."""
        self.after(LOOK_SECONDS)
        return self.after(STILL_SECONDS)


@pytest.fixture
def watched(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Watched]:
    caplog.set_level(logging.INFO, "authproxy")
    path = tmp_path / "numbers"
    path.write_text("1")
    made = Watched(path)
    yield made
    made.file.stop()


def test_a_change_counts_at_once_and_alone_when_the_file_is_still(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    assert watched.file.current() == {1}
    watched.path.write_text("2")
    assert watched.file.current() == {1}
    assert watched.after(LOOK_SECONDS) == {1, 2}
    assert caplog.messages == []
    assert watched.after(STILL_SECONDS) == {2}
    assert watched.later() == {2}
    assert caplog.messages == ["New numbers in use"]


def test_a_change_is_seen_whatever_the_times_of_the_file_say(watched: Watched) -> None:
    before = watched.path.stat()
    watched.path.write_text("2")
    os.utime(watched.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert watched.later() == {2}


@pytest.mark.parametrize("content", [b"", b"nonsense", b"1" * (MAX_BYTES + 1), None])
def test_what_cannot_be_used_is_told_once_and_changes_nothing(
    watched: Watched, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    watched.path.unlink()
    if content is not None:
        watched.path.write_bytes(content)
    assert [watched.later() for _ in range(3)] == [{1}, {1}, {1}]
    assert caplog.messages == ["New numbers cannot be used, the old stay in use"]
    fields = caplog.records[0].fields  # type: ignore[attr-defined]
    assert fields["Path"] == str(watched.path)
    assert fields["Setting"] == "SETTING"
    watched.path.write_text("1")
    assert watched.later() == {1}
    assert caplog.messages[1:] == ["New numbers in use"]


def test_each_new_fault_is_told(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    for content in ("a", "b", "b"):
        watched.path.write_text(content)
        watched.later()
    watched.path.unlink()
    watched.later()
    assert len(caplog.messages) == 3


def test_where_there_never_was_anything_of_use_there_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched(tmp_path / "absent")
    assert watched.file.current() is None
    assert caplog.messages == ["New numbers cannot be used, nothing is in use instead"]
    watched.path.write_text("3")
    assert watched.after(LOOK_SECONDS) == {3}


# -- while it is being written ----------------------------------------------------------------


def test_a_file_that_is_written_in_pieces_takes_nothing_away(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    for content in ("", "2", "2\n", "2\n3", "2\n3\n1"):
        watched.path.write_text(content)
        assert 1 in (watched.after(STILL_SECONDS / 2) or ())
    assert watched.file.current() == {1, 2, 3}
    assert watched.after(STILL_SECONDS) == {1, 2, 3}
    assert caplog.messages == ["New numbers in use"]


def test_the_time_that_a_look_takes_is_no_stillness(watched: Watched) -> None:
    read = watched.file._read

    def slowly(data: bytes) -> Numbers:
        watched.clock.advance(STILL_SECONDS)
        return read(data)

    watched.file._read = slowly
    watched.path.write_text("2")
    assert watched.after(LOOK_SECONDS) == {1, 2}
    assert watched.after(STILL_SECONDS / 2) == {1, 2}  # of which the next piece may come
    assert watched.after(STILL_SECONDS / 2) == {2}


def test_a_file_that_is_written_anew_with_the_same_is_not_told_of(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    for content in ("", "2", "1"):
        watched.path.write_text(content)
        watched.after(STILL_SECONDS / 2)
    assert watched.after(STILL_SECONDS) == {1}
    assert caplog.messages == []


def test_a_file_that_is_never_still_counts_as_it_is_after_a_while(watched: Watched) -> None:
    half = STILL_SECONDS / 2
    for number in range(round(RESTLESS_SECONDS / half)):
        watched.path.write_text(str(number + 2))
        assert 1 in (watched.after(half) or ())
    watched.path.write_text("99")
    assert watched.after(half) == {99}


@examples(0.5)
@given(st.lists(st.sampled_from(["", "x", "1", "2", "1 2", "2 3"]), max_size=8))
def test_whoever_was_known_stays_known_until_the_file_is_still(contents: list[str]) -> None:
    """And afterwards exactly those are known that are in the last usable file."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        path = Path(folder) / "numbers"
        path.write_text("7")
        watched = Watched(path)
        for content in contents:
            path.write_text(content)
            known = watched.after(0.1) or frozenset()
            assert 7 in known
            assert known.issuperset(map(int, content.replace("x", "").split()))
        last = contents[-1] if contents else "7"
        usable = last not in ("", "x")
        assert watched.later() == (numbers(last.encode()) if usable else {7})


# -- before somebody is refused ---------------------------------------------------------------


def test_a_file_is_read_again_before_somebody_is_refused(watched: Watched) -> None:
    assert not watched.file.renewed()
    watched.path.write_text("1 2")
    assert watched.file.renewed()
    assert watched.file.current() == {1, 2}
    assert not watched.file.renewed()


def test_a_file_that_is_the_same_is_not_read_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[None] = []
    monkeypatch.setattr(watched.file, "look", lambda: looks.append(None))
    for _ in range(10):
        assert not watched.file.renewed()
    assert looks == []


def test_a_thread_reads_it(watched: Watched) -> None:
    readers: list[str] = []
    read = watched.file._read

    def noted(data: bytes) -> Numbers:
        readers.append(threading.current_thread().name)
        return read(data)

    watched.file._read = noted
    watched.file.start()
    watched.file.start()
    watched.path.write_text("2")
    wait_until("it is there", watched.file.renewed)
    assert readers == ["watched file"]


def test_nobody_waits_for_a_file_system_that_hangs(watched: Watched) -> None:
    goes_on = threading.Event()
    began = threading.Event()
    read = watched.file._read

    def hang(data: bytes) -> Numbers:
        began.set()
        goes_on.wait()
        return read(data)

    watched.file._read = hang
    watched.file.start()
    watched.path.write_text("2")
    assert not watched.file.renewed()  # waits, for a moment
    assert began.is_set()
    watched.clock.advance(2 * REFUSAL_SECONDS)
    watched.path.write_text("3")
    assert not watched.file.renewed()  # does not
    assert watched.file.current() == {1}
    goes_on.set()
    wait_until("it is there", lambda: watched.file.current() == {1, 2, 3} or watched.file.renewed())


def test_a_thread_that_has_ended_is_noticed(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)

    def fail(data: bytes) -> Numbers:
        raise ZeroDivisionError

    watched.file._read = fail
    watched.file.start()
    assert watched.file.alive
    watched.path.write_text("2")
    watched.file.renewed()
    wait_until("it has ended", lambda: not watched.file.alive)


def test_a_file_that_is_watched_no_more_is_no_fault(watched: Watched) -> None:
    watched.file.start()
    watched.file.stop()
    assert watched.file.alive
