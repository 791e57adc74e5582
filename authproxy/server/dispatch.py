"""Which thread serves a request, and what becomes of one too many."""

from __future__ import annotations

import logging
import time

from authproxy.server.connection import Connection
from authproxy.server.hooks import Hooks
from authproxy.server.limits import Limits
from authproxy.server.refusals import Refusal
from authproxy.server.request_head import Request
from authproxy.server.threads import Threads

log = logging.getLogger(__name__)

#: After how long a sender that found the queue full may try again.
_RETRY_SECONDS = 1

#: How often the log says that there is too much to do.
_SILENT_SECONDS = 10.0


class OverloadLog:
    """Tells of too much to do, now and then."""

    def __init__(self) -> None:
        self._silent_until = 0.0

    def warn(self, problem: str, **more: object) -> None:
        now = time.monotonic()
        if now >= self._silent_until:
            self._silent_until = now + _SILENT_SECONDS
            log.warning("Overloaded", extra={"fields": {"Problem": problem, **more}})


class Dispatcher:
    """The threads, and one to spare that never waits: a probe is served however many hang."""

    def __init__(self, limits: Limits, hooks: Hooks, overload: OverloadLog) -> None:
        self._limits = limits
        self._overload = overload
        self._threads = Threads(limits.threads)
        self._is_probe = hooks.is_probe
        self._spare = None if hooks.is_probe is None else Threads(1)

    @property
    def queued(self) -> int:
        """Requests that wait for a thread."""
        return self._threads.queued

    def all_taken(self) -> bool:
        """Tell whether a further request would wait."""
        return self._threads.all_taken

    def serve(self, connection: Connection, request: Request) -> Refusal | None:
        """Have a request served; or say why it is not, where too many wait."""
        if self._spare is not None and self._is_for_spare(request):
            connection.serve_in(self._spare, request, may_wait=False)
        elif not self._threads.all_taken or self._threads.queued < self._limits.queue:
            connection.serve_in(self._threads, request, may_wait=True)
        else:
            queue, threads = self._limits.queue, self._limits.threads
            problem = f"{queue} requests wait for one of {threads} threads"
            self._overload.warn(problem)
            return Refusal(503, "Overloaded", problem, _RETRY_SECONDS)
        return None

    def _is_for_spare(self, request: Request) -> bool:
        is_probe = self._is_probe
        return is_probe is not None and is_probe(request.command, request.request_uri)

    def add_threads(self, count: int) -> None:
        self._threads.add(count)

    def end(self, seconds: float) -> None:
        """Let the threads end, after what is queued; wait so long at most for each kind."""
        self._threads.end(seconds)
        if self._spare is not None:
            self._spare.end(seconds)
