"""Reads regular files whole, and nothing else.

To open a named pipe waits for its other end, and a device such as /dev/zero has
no end. All files that settings name are read here, or checked here before a library
opens them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

#: Far above any file that is read here, far below what hurts where a path is a mistake.
MAX_BYTES = 1024 * 1024

#: The same for files with the certificates of authorities: certifi's has 300 KiB.
MAX_BUNDLE_BYTES = 4 * 1024 * 1024

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class UnreadableFile(ValueError):
    """A file that cannot be read; the message is "the file " and `problem`, for the operator.

    Nothing is there (`missing`), or something else than a file (not `regular`),
    or too much; otherwise the system refused.
    """

    def __init__(
        self,
        problem: str,
        *,
        missing: bool = False,
        regular: bool = True,
        too_large: bool = False,
    ) -> None:
        super().__init__(f"the file {problem}")
        self.problem = problem
        self.missing = missing
        self.regular = regular
        self.too_large = too_large


def read_regular_file(path: str | os.PathLike[str], most: int = MAX_BYTES) -> bytes:
    """Return what a regular file of at most so many bytes holds.

    Never waits for anything but the file system. Raises UnreadableFile.
    """
    with _opened(path, most) as file:
        data = b""
        # It may be longer by now than its status had it.
        while len(data) <= most and (piece := os.read(file, most + 1 - len(data))):
            data += piece
    _require_size(len(data), most)
    return data


def require_regular_file(path: str | os.PathLike[str], most: int) -> None:
    """Raise UnreadableFile unless `read_regular_file` could read it.

    For libraries that open a file by themselves.
    """
    with _opened(path, most):
        pass


@contextmanager
def _opened(path: str | os.PathLike[str], most: int) -> Iterator[int]:
    try:
        # Only to look at a device, or to open and leave a pipe, can do harm.
        _require_regular(os.stat(path))
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            status = os.fstat(file)  # of what was opened, should that be another one
            _require_regular(status)
            _require_size(status.st_size, most)
            yield file
        finally:
            os.close(file)
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise UnreadableFile(problem, missing=isinstance(error, FileNotFoundError)) from None
    except ValueError as error:
        if isinstance(error, UnreadableFile):
            raise
        raise UnreadableFile("cannot be read (its path holds a NUL)") from None


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "not a regular file")
        raise UnreadableFile(f"is {kind}", regular=False)


def _require_size(size: int, most: int) -> None:
    if size > most:
        shown = f"{most // 1024 // 1024} MiB" if most >= 1024 * 1024 else f"{most // 1024} KiB"
        raise UnreadableFile(f"is larger than {shown}", too_large=True)
