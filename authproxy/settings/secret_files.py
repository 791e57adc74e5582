"""Files with secrets that more than their owner can read."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from authproxy.settings import Loaded
from authproxy.settings.file import CONFIG
from authproxy.settings.kinds import FilePath


@dataclass(frozen=True)
class OpenFile:
    """A file that every user of the machine can read or change."""

    setting: str
    path: str
    mode: str


def open_secret_files(loaded: Loaded) -> Iterator[OpenFile]:
    """Yield the files with secrets that are open to every user of the machine."""
    named = [
        (variable, one.value(settings))
        for settings in (loaded.settings, *(route.settings for route in loaded.settings.routes))
        for variable, one in settings.declared.items()
        if isinstance(one.kind, FilePath) and one.kind.private
    ]
    if loaded.file_holds_secrets:
        named.append((CONFIG, loaded.file))
    for setting, path in dict.fromkeys(named):
        if path is not None and (mode := _mode_if_open(path)) is not None:
            yield OpenFile(setting, path, f"{mode:04o}")


def _mode_if_open(path: str) -> int | None:
    """Return the permissions of a file if others can get at it; None if they cannot."""
    try:
        real = Path(path).resolve(strict=True)
        mode = stat.S_IMODE(real.stat().st_mode)
        if mode & (stat.S_IROTH | stat.S_IWOTH) and all(
            folder.stat().st_mode & stat.S_IXOTH for folder in real.parents
        ):
            return mode
    except OSError:
        pass  # a file that cannot be read is a fault of the settings already
    return None
