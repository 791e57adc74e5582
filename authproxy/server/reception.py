"""From what a client has sent to a request that can be served, or is refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from authproxy.server.client_socket import ClientSocket
from authproxy.server.exchange import CONTINUE
from authproxy.server.hooks import Hooks
from authproxy.server.outbox import Outbox
from authproxy.server.refusals import (
    CERTIFICATE_MISSING,
    Refusal,
    RefusedRequest,
    refusal_response,
)
from authproxy.server.request_head import Request
from authproxy.server.request_reader import RequestReader
from authproxy.server.serving import Serving


class Reception:
    """Receives one connection's requests. Used by the main loop's thread."""

    def __init__(
        self,
        sock: ClientSocket,
        client: str,
        hooks: Hooks,
        reader: RequestReader,
        outbox: Outbox,
        serving: Serving,
        *,
        whole: Callable[[Request], None],
        refused: Callable[[Refusal, bool], None],
        queue: Callable[[], None],
    ) -> None:
        """`client` is its address; `whole` is called with a request that can be served.

        `refused` is called with the reason, and whether it is reported already. `queue` is to
        have `receive` called when it is the connection's turn.
        """
        self._socket = sock
        self._client = client
        self._hooks = hooks
        self._reader = reader
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
            if problem := self._problem(request):
                self._refused(problem, False)
            elif not request.has_body:
                self._whole(request)
            elif behind and self._reader.has_whole_body(request):
                # A refusal would close the connection: it is the application's to refuse.
                self._begin_body(request)
            elif problem := self._admit(request):
                self._refused(problem, True)
            else:
                self._begin_body(request)

    def _problem(self, request: Request) -> Refusal | None:
        """Return why the request is refused by its head, whatever it is for, if so."""
        if request.refusal is not None:
            return request.refusal
        if not (self._socket.is_identified or self._is_probe(request)):
            return CERTIFICATE_MISSING
        if request.dropped:
            self._hooks.on_dropped(request.dropped, self._client)
        return None

    def _is_probe(self, request: Request) -> bool:
        is_probe = self._hooks.is_probe
        return is_probe is not None and is_probe(request.command, request.request_uri)

    def _admit(self, request: Request) -> Refusal | None:
        """Have the application decide before the body is received; the hook reports a refusal."""
        admit = self._hooks.admit_head
        if admit is not None:
            outcome = admit(request.as_environ(self._client))
            if isinstance(outcome, Refusal):
                return outcome
            request.admitted = outcome
        return None

    def refusal(self, refusal: Refusal, request: Request | None, *, reported: bool) -> bytes:
        """Return the response, after which the connection ends; and report it, unless it is."""
        headers: Mapping[str, str] = {} if request is None else request.headers
        method = "" if request is None else request.command
        if not reported:
            target = "" if request is None else request.request_uri
            self._hooks.on_refused(RefusedRequest(refusal, method, target, headers, self._client))
        version = "1.1" if request is None or request.version != "1.0" else "1.0"
        return refusal_response(
            refusal, headers, time.time(), version=version, has_body=method != "HEAD"
        )

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
