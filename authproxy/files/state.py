"""Whether files have been replaced."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeAlias

FileState: TypeAlias = tuple[tuple[str | None, tuple[int, int, int] | None], ...]


def state_of(paths: Iterable[str | None]) -> FileState:
    """Return what differs when any of these files or folders has been replaced or changed."""
    return tuple((path, _state(path)) for path in paths)


def _state(path: str | None) -> tuple[int, int, int] | None:
    """None for one that is not there."""
    if not path:
        return None
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
