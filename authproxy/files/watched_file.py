"""A file that may be replaced while the program runs.

Whoever writes it may do so in place, or write nonsense, or take it away for a
moment. What cannot be used is logged once, and what was there before stays in
force.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from authproxy.clock import Clock, SystemClock

log = logging.getLogger(__name__)

#: The file is looked at this often at most, and only when somebody asks for it.
LOOK_SECONDS = 1.0

#: Nobody needs more; a path that leads elsewhere by mistake ends here.
MAX_BYTES = 1024 * 1024

Content = TypeVar("Content")


def read_bounded(path: str, limit: int = MAX_BYTES) -> bytes:
    """Return what a file holds. Raises ValueError, with a sentence for the operator."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ValueError(f"the file cannot be read ({error.strerror})") from None
    if len(data) > limit:
        raise ValueError(f"the file is larger than {limit // 1024} KiB")
    return data


class WatchedFile(Generic[Content]):
    """What a file holds, as `read` makes it of its bytes.

    `read` raises ValueError with a sentence for the operator. `what` names the
    content in the log, in the plural.
    """

    def __init__(
        self,
        setting: str,
        path: str,
        read: Callable[[bytes], Content],
        *,
        what: str,
        clock: Clock | None = None,
    ) -> None:
        self._setting = setting
        self._path = path
        self._read = read
        self._what = what
        self._clock: Clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._content: Content | None = None
        #: What was found last: a digest of the bytes, or the fault.
        self._found: bytes | str | None = None
        self._look_at = 0.0
        with self._lock:
            self._look()

    def current(self) -> Content | None:
        """Return the content in force; None if there never was any of use."""
        # One thread looks; the others go on with what there is.
        if self._clock.monotonic() >= self._look_at and self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._lock.release()
        return self._content

    def _look(self) -> None:
        self._look_at = self._clock.monotonic() + LOOK_SECONDS
        try:
            data = read_bounded(self._path)
        except ValueError as error:
            if str(error) != self._found:
                self._found = str(error)
                self._complain(error)
            return
        before = self._found
        self._found = hashlib.sha256(data).digest()  # not the bytes: there may be secrets in them
        if self._found == before:
            return
        try:
            self._content = self._read(data)
        except ValueError as error:
            self._complain(error)
            return
        if before is not None:
            log.info(f"New {self._what} in use", extra={"fields": self._fields()})

    def _complain(self, error: ValueError) -> None:
        still = "nothing is in use instead" if self._content is None else "the old stay in use"
        fields = {"Error": str(error), **self._fields()}
        log.error(f"New {self._what} cannot be used, {still}", extra={"fields": fields})

    def _fields(self) -> dict[str, str]:
        return {"Setting": self._setting, "Path": self._path}
