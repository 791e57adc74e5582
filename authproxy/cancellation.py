"""The cancellation of a request, when its client has left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

#: Where the signal of a request is in its WSGI environment, under a server that notices.
ABORT_KEY = "authproxy.cancellation"


class AbortSignal:
    """Whether the client of one request has left, and what is done when it does.

    Who notices and who works are in different threads.
    """

    def __init__(self) -> None:
        self.aborted = False
        self._lock = threading.Lock()
        self._act: Callable[[], None] | None = None

    def abort(self) -> None:
        """Say that the client has left."""
        with self._lock:
            self.aborted = True
            if self._act is not None:
                self._act()

    def on_abort(self, act: Callable[[], None] | None) -> None:
        """Have this done when the client leaves, or at once if it has; None: nothing any more.

        It runs in the thread that notices, and must not wait. What was to be
        done before does not run any more once this returns.
        """
        with self._lock:
            self._act = act
            if act is not None and self.aborted:
                act()


def abort_signal(environ: Mapping[str, Any]) -> AbortSignal:
    """Return the signal of a request; under other servers, one that is never set."""
    given = environ.get(ABORT_KEY)
    return given if isinstance(given, AbortSignal) else AbortSignal()
