"""One request that is with a thread: what the thread sees of the connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from waitress.adjustments import Adjustments

from authproxy.cancellation import AbortSignal
from authproxy.server.outbox import Outbox
from authproxy.server.refusals import Refusal

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

#: A client's host and port; no port behind a Unix socket.
Address = tuple[str, int | None]


@dataclass(frozen=True)
class Site:
    """What responses on one listening socket have in common; waitress calls it the server."""

    application: WSGIApplication
    adj: Adjustments
    server_name: str
    effective_port: str
    refusal_of: Callable[[Exception], Refusal | None]
    is_draining: Callable[[], bool]


class Finished(Protocol):
    """Called when a response is written; `close` and `cut`: how the connection ends, if it does."""

    def __call__(self, *, close: bool, cut: bool) -> None: ...


class Exchange:
    """The names are those by which waitress's tasks know a channel, but for the last two."""

    def __init__(
        self, site: Site, addr: Address, outbox: Outbox, finished: Finished, *, may_wait: bool
    ) -> None:
        """`may_wait`: a thread may be held for a client that is slow to take the response."""
        self.server = site
        self.addr = addr
        self.finished = finished
        self.abort_signal = AbortSignal()
        self._outbox = outbox
        self._may_wait = may_wait

    def check_client_disconnected(self) -> bool:
        return self._outbox.closed

    def write_soon(self, data: bytes) -> int:
        """Send a piece of the response. Raises Disconnected."""
        self._outbox.write(data, wait=self._may_wait)
        return len(data)
