"""From what a client has sent to a request that can be served, or is refused."""

from __future__ import annotations

from collections.abc import Callable

from authproxy.server.exchange import CONTINUE
from authproxy.server.head_checks import HeadChecks
from authproxy.server.outbox import Outbox
from authproxy.server.refusals import Refusal
from authproxy.server.request_head import Request
from authproxy.server.request_reader import RequestReader
from authproxy.server.serving import Serving


class Reception:
    """Receives one connection's requests. Used by the main loop's thread."""

    def __init__(
        self,
        reader: RequestReader,
        checks: HeadChecks,
        outbox: Outbox,
        serving: Serving,
        *,
        whole: Callable[[Request], None],
        refused: Callable[[Refusal, bool], None],
        queue: Callable[[], None],
    ) -> None:
        """`whole` is called with a request that can be served, body included.

        `refused` is called with the reason, and whether it is reported already. `queue` is to
        have `receive` called when it is the connection's turn.
        """
        self._reader = reader
        self._checks = checks
        self._outbox = outbox
        self._serving = serving
        self._whole = whole
        self._refused = refused
        self._queue = queue
        #: Whether it is queued to receive.
        self.due = False

    def advance(self, *, behind: bool = False, at_length: bool = False) -> None:
        """Begin with the next request, if the one before is done and its head is whole.

        `behind`: it may have come with the one before it. `at_length`: heads that take long
        to parse may be parsed now.
        """
        serving = self._serving
        while serving.takes_request and not self._outbox.pending:
            if serving.request is not None:
                return
            request = self._reader.next_request(at_length=at_length)
            if request is None:
                if self._reader.is_costly:
                    self.receive_later()
                return
            if isinstance(request, Refusal):
                self._refused(request, False)
                return
            serving.request = request
            if problem := self._checks.problem(request):
                self._refused(problem, False)
            elif not request.has_body:
                self._whole(request)
            elif behind and self._reader.has_whole_body(request):
                # A refusal would close the connection: it is the application's to refuse.
                self._begin_body(request)
            elif problem := self._checks.admit(request):
                self._refused(problem, True)
            else:
                self._begin_body(request)

    def _begin_body(self, request: Request) -> None:
        self._reader.begin_body(request)
        if request.awaits_100:
            self._outbox.write(CONTINUE, wait=False)
        self.receive_later()  # some of it may be there already

    def receive_later(self) -> None:
        """Have `receive` called, once."""
        if not self.due:
            self.due = True
            self._queue()

    def receive(self) -> None:
        """Read what has come of a body, or a head that takes long to parse."""
        self.due = False
        if not self._reader.in_body:
            self.advance(at_length=True)
            return
        request, outcome = self._serving.request, self._reader.receive_body()
        if request is None:
            return
        if isinstance(outcome, Refusal):
            self._refused(outcome, False)
        elif outcome:
            request.body_received()
            self._whole(request)
