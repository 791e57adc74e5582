"""A file that may be replaced while the program runs.

It may be written in place, piece by piece, or with content of no use, or be removed
for a moment. So new content is in force at once, and the content before it as well until
the file has been still for a while: what is in either of them holds meanwhile. Content
that cannot be used is logged once, and the content before it stays in force.

A thread reads the file. A caller that needs the content never waits for the file
system, which may be another machine's.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from authproxy.clock import Clock, SystemClock
from authproxy.files.regular_file import UnreadableFile, read_regular_file
from authproxy.files.state import FileState, state_of

log = logging.getLogger(__name__)

#: How often the thread looks.
LOOK_SECONDS = 1.0

#: A file is whole when it has been still for so long; one that never is still, after the second.
STILL_SECONDS = 1.0
RESTLESS_SECONDS = 10.0

#: The longest wait of a request before it is refused.
REFUSAL_SECONDS = 0.2

Content = TypeVar("Content")


class WatchedFile(Generic[Content]):
    """What a file holds, as `read` makes it of its bytes.

    `read` raises ValueError with a sentence for the operator. `both` makes of
    an older and a newer content what holds for either. `what` names the content
    in the log, in the plural.
    """

    def __init__(
        self,
        setting: str,
        path: str,
        read: Callable[[bytes], Content],
        *,
        both: Callable[[Content, Content], Content],
        what: str,
        clock: Clock | None = None,
    ) -> None:
        self._setting = setting
        self._path = path
        self._read = read
        self._both = both
        self._what = what
        self._clock: Clock = clock or SystemClock()
        #: In force; and the last content that was whole.
        self._content: Content | None = None
        self._whole: Content | None = None
        #: By a digest of the bytes or a fault: what was settled on, and what the last look found.
        self._settled: bytes | str | None = None
        self._found: bytes | str | None = None
        #: What the latter means, or why it means nothing; and since when it is there.
        self._newest: Content | None = None
        self._fault = ""
        self._found_at = 0.0
        #: Since when the file has not been still, if it has not.
        self._restless_since: float | None = None
        #: Which file the last look saw, and when the look began that has not ended.
        self._seen: FileState | None = None
        self._look_began: float | None = None
        #: Guards the rest: looks that were requested, and how many of them are done.
        self._changed = threading.Condition()
        self._wanted = self._done = 0
        self._stopped = False
        self._pid: int | None = None
        self._thread: threading.Thread | None = None
        self.look()
        self._settle()

    def current(self) -> Content | None:
        """Return the content in force, at once; None if there never was any of use."""
        return self._content

    def renewed(self) -> bool:
        """Look again where the file has changed; True if another content is in force then.

        Called before a request is refused whose token may be in the file by now.
        Waits only for a file that is another one than at the last look, and for
        a fraction of a second at most.
        """
        before, began = self._content, self._look_began
        if began is not None and self._clock.monotonic() - began > REFUSAL_SECONDS:
            return False  # the thread waits for the file system: requests must not
        # Read within the last second, this comes from the kernel's memory, also where the
        # file system is another machine's.
        if state_of((self._path,)) == self._seen:
            return False
        with self._changed:
            if self._pid != os.getpid():
                self.look()
            else:
                self._wanted += 1
                number = self._wanted
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._done >= number, REFUSAL_SECONDS)
        return self._content is not before

    @property
    def alive(self) -> bool:
        """Whether changes are noticed: False where a bug has ended the thread."""
        mine = self._pid == os.getpid() and not self._stopped
        return not mine or self._thread is None or self._thread.is_alive()

    def start(self) -> None:
        """Have a thread look; harmless when repeated, from any thread."""
        with self._changed:
            if self._stopped or self._pid == os.getpid():
                return
            self._pid = os.getpid()
            self._thread = threading.Thread(target=self._run, name="watched file", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Let the thread end, without waiting for it."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._wanted == self._done and not self._stopped:
                    self._clock.wait(self._changed, LOOK_SECONDS)
                if self._stopped:
                    return
                wanted = self._wanted
            self.look()
            with self._changed:
                self._done = wanted
                self._changed.notify_all()

    def look(self) -> None:
        """Read the file, and put in force what is new there; for one thread at a time."""
        now = self._look_began = self._clock.monotonic()
        seen = state_of((self._path,))  # before it is read: a change since then is another one
        data = b""
        try:
            data = read_regular_file(self._path)
            found: bytes | str = hashlib.sha256(data).digest()  # not the bytes: they may be secret
        except UnreadableFile as error:
            found = str(error)
        if found != self._found:
            self._found = found
            if self._restless_since is None:
                self._restless_since = now
            self._take(data)
            self._found_at = self._clock.monotonic()  # a look that is slow is no stillness
        if self._restless_since is not None and (
            now - self._found_at >= STILL_SECONDS or now - self._restless_since >= RESTLESS_SECONDS
        ):
            self._settle()
        self._seen, self._look_began = seen, None

    def _take(self, data: bytes) -> None:
        """Put what was found in force, besides what is in force already."""
        self._newest = None
        if isinstance(self._found, str):
            self._fault = self._found
            return
        try:
            self._newest = self._read(data)
        except ValueError as error:
            self._fault = str(error)
            return
        before = self._content
        self._content = self._newest if before is None else self._both(before, self._newest)

    def _settle(self) -> None:
        """Put in force what was found, alone; keep what was whole before if it is of no use."""
        before, self._settled = self._settled, self._found
        self._restless_since = None
        if self._newest is not None:
            self._whole = self._newest
        self._content = self._whole
        if before == self._settled:
            return
        fields = {"Setting": self._setting, "Path": self._path}
        if self._newest is None:
            still = "nothing is in use instead" if self._whole is None else "the old stay in use"
            fields = {"Error": self._fault, **fields}
            log.error(f"New {self._what} cannot be used, {still}", extra={"fields": fields})
        elif before is not None:
            log.info(f"New {self._what} in use", extra={"fields": fields})
