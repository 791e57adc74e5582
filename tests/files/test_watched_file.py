"""A file that is replaced, broken or taken away while it is in use."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from authproxy.files.watched_file import LOOK_SECONDS, MAX_BYTES, WatchedFile
from tests.support.clock import FakeClock


def number(data: bytes) -> int:
    if not data.strip().isdigit():
        raise ValueError("it is no number")
    return int(data)


class Watched:
    def __init__(self, path: Path) -> None:
        self.clock = FakeClock()
        self.path = path
        self.file = WatchedFile("SETTING", str(path), number, what="numbers", clock=self.clock)

    def later(self) -> int | None:
        self.clock.advance(LOOK_SECONDS)
        return self.file.current()


@pytest.fixture
def watched(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Watched:
    caplog.set_level(logging.INFO, "authproxy")
    path = tmp_path / "number"
    path.write_text("1")
    return Watched(path)


def test_a_change_is_seen_after_a_moment_and_told(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    assert watched.file.current() == 1
    watched.path.write_text("2")
    assert watched.file.current() == 1
    assert watched.later() == 2
    assert watched.later() == 2
    assert caplog.messages == ["New numbers in use"]


def test_a_change_is_seen_whatever_the_times_of_the_file_say(watched: Watched) -> None:
    import os

    before = watched.path.stat()
    watched.path.write_text("2")
    os.utime(watched.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert watched.later() == 2


@pytest.mark.parametrize("content", [b"", b"nonsense", b"1" * (MAX_BYTES + 1), None])
def test_what_cannot_be_used_is_told_once_and_changes_nothing(
    watched: Watched, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    watched.path.unlink()
    if content is not None:
        watched.path.write_bytes(content)
    assert [watched.later() for _ in range(3)] == [1, 1, 1]
    assert caplog.messages == ["New numbers cannot be used, the old stay in use"]
    fields = caplog.records[0].fields  # type: ignore[attr-defined]
    assert fields["Path"] == str(watched.path)
    assert fields["Setting"] == "SETTING"
    watched.path.write_text("1")
    assert watched.later() == 1
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
    assert watched.later() == 3
