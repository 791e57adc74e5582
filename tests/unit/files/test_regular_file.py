"""What a setting names is read if it is a file, and never waited for or read without end."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from authproxy.files.regular_file import (
    MAX_BYTES,
    UnreadableFile,
    read_regular_file,
    require_regular_file,
)


def place_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def place_terabyte(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


#: What can stand in a file's place, and what is said of it.
ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "is a named pipe"),
    "directory": (Path.mkdir, "is a directory"),
    "socket": (place_socket, "is a socket"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device"),
    "terabyte": (place_terabyte, "is larger than 1 MiB"),
    "nothing": (lambda path: None, "cannot be read (No such file or directory)"),
    "loop": (lambda path: path.symlink_to(path), "cannot be read (Too many levels"),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize(
    "read", [read_regular_file, lambda path: require_regular_file(path, MAX_BYTES)]
)
def test_what_is_no_file_is_refused_at_once(
    tmp_path: Path, kind: str, read: Callable[[Path], object]
) -> None:
    place, problem = ODD[kind]
    path = tmp_path / "odd"
    place(path)
    open_before = os.listdir("/proc/self/fd")
    with pytest.raises(UnreadableFile) as caught:
        read(path)
    assert str(caught.value).startswith(f"the file {problem}")
    assert caught.value.missing == (kind == "nothing")
    assert caught.value.regular == (kind in ("terabyte", "nothing", "loop"))
    assert len(os.listdir("/proc/self/fd")) == len(open_before)


def test_a_pipe_is_not_even_opened(tmp_path: Path) -> None:
    """Whoever waits to write into it is not told that somebody came and left."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY)
    os.close(reader)
    with pytest.raises(UnreadableFile):
        read_regular_file(path)
    with pytest.raises(BrokenPipeError):
        os.write(writer, b"x")
    os.close(writer)


def test_a_nul_in_the_path_is_a_fault() -> None:
    with pytest.raises(UnreadableFile, match="its path holds a NUL"):
        read_regular_file("a\0b")


@pytest.mark.parametrize(("size", "most"), [(0, 0), (0, 5), (5, 5), (MAX_BYTES, MAX_BYTES)])
def test_a_file_is_read_whole_up_to_the_bound(tmp_path: Path, size: int, most: int) -> None:
    path = tmp_path / "file"
    content = os.urandom(size)
    path.write_bytes(content)
    assert read_regular_file(path, most) == content
    path.write_bytes(bytes(most + 1))
    with pytest.raises(UnreadableFile, match="is larger than"):
        read_regular_file(path, most)


def test_a_file_that_is_longer_than_it_says_is_read_up_to_the_bound() -> None:
    """As those of /proc, which say that they are empty."""
    assert Path("/proc/self/status").stat().st_size == 0
    assert read_regular_file("/proc/self/status").startswith(b"Name:")
    with pytest.raises(UnreadableFile, match="is larger than 0 KiB"):
        read_regular_file("/proc/self/status", 100)


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    """As Kubernetes mounts them."""
    (tmp_path / "file").write_text("content")
    (tmp_path / "link").symlink_to("file")
    assert read_regular_file(tmp_path / "link") == b"content"
