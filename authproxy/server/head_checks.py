"""What a server decides about a request by its head alone, and what a refusal sends and reports."""

from __future__ import annotations

import time
from collections.abc import Mapping

from authproxy.server.client_socket import ClientSocket
from authproxy.server.hooks import Hooks
from authproxy.server.refusals import (
    CERTIFICATE_MISSING,
    Refusal,
    RefusedRequest,
    refusal_response,
)
from authproxy.server.request_head import Request


class HeadChecks:
    """Those of the requests of one connection; `client` is its address."""

    def __init__(self, hooks: Hooks, sock: ClientSocket, client: str) -> None:
        self._hooks = hooks
        self._socket = sock
        self._client = client

    def problem(self, request: Request) -> Refusal | None:
        """Return why the request is refused whatever it is for, if so."""
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

    def admit(self, request: Request) -> Refusal | None:
        """Have the application decide before the body is received; the hook reports a refusal."""
        admit = self._hooks.admit_head
        if admit is not None:
            outcome = admit(request.as_environ(self._client))
            if isinstance(outcome, Refusal):
                return outcome
            request.admitted = outcome
        return None

    def refuse(self, refusal: Refusal, request: Request | None, *, reported: bool) -> bytes:
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
