"""Forwards the requests of one route."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Response

from authproxy.cancellation import abort_signal
from authproxy.errors import MethodNotAllowed, NoRoute, TargetRefusedIdentity
from authproxy.http1.headers import (
    OVERRULING,
    REFUSED_METHODS,
    canonical,
    client_address,
    forwardable,
    is_remote_write,
    received_fields,
)
from authproxy.http1.urls import REMOTE_WRITE_PATH, path_of, request_target
from authproxy.proxy.access_log import RequestStory, shown_url
from authproxy.proxy.request_body import receive_body
from authproxy.proxy.responses import AnswerStream, StreamedResponse
from authproxy.redaction import Redactor
from authproxy.settings import Route
from authproxy.upstream.request import OutboundRequest
from authproxy.upstream.target import Target

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: Seconds after which a sender may try again while a role is still spreading.
REFUSED_IDENTITY_RETRY_SECONDS = 5

_REFUSALS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class Forwarder:
    """Forwards one request at a time, from any number of threads."""

    def __init__(self, route: Route, target: Target) -> None:
        settings = route.settings
        self._name = route.name or None
        self._match = route.match
        self._target = target
        self._url = settings.target
        self._only_remote_write = settings.forwards_only_remote_write
        self._body_limit = settings.max_request_body_bytes
        self._log_query = settings.log_query
        self._retry_auth_failures = settings.remote_write_retry_auth_failures
        self._dropped = OVERRULING if route.restricts_requests else frozenset()
        overrides = settings.override_request_headers
        self._redact = Redactor(value.reveal() for value in overrides.values())
        self._overrides = {canonical(name): value.reveal() for name, value in overrides.items()}

    def forward(self, environ: WSGIEnvironment, story: RequestStory) -> Response:
        """Return the target's answer to the request, its body still streaming.

        Raises a RequestError for what the proxy answers itself.
        """
        story.goes_to(self._name, self._url.authority, self._redact)
        if story.method in REFUSED_METHODS:
            raise MethodNotAllowed(f"{story.method} is not forwarded")
        outbound_target = self._outbound(request_target(environ))
        story.url = shown_url(
            self._url.origin + (outbound_target if self._log_query else path_of(outbound_target))
        )
        received = received_fields(environ)
        passed = forwardable(
            received,
            overrides=self._overrides,
            client=client_address(environ),
            dropped=self._dropped,
        )
        fields = [("Host", self._url.authority), *passed]
        body = receive_body(environ, self._body_limit)
        if body is not None:
            story.watch.request_bytes = body.length
        try:
            exchange = self._target.send(
                OutboundRequest(story.method, outbound_target, fields, body, abort_signal(environ))
            )
        finally:
            if body is not None:
                body.close()
        answer_stream = AnswerStream(exchange, story)
        if (
            self._retry_auth_failures
            and exchange.answer.status in _REFUSALS
            and is_remote_write(received)
        ):
            answer_stream.read_for_the_log()
            raise refused_identity(exchange.answer.status)
        story.watch.streams()
        return StreamedResponse(exchange, answer_stream)

    def _outbound(self, target: str) -> str:
        """Return the request target to send."""
        target = self._match.outbound(target)
        if not self._only_remote_write:
            return self._url.join(target)
        if path_of(target) != REMOTE_WRITE_PATH:
            raise NoRoute(f"only {REMOTE_WRITE_PATH} is forwarded where INGESTION_URL is set")
        return self._url.join("/")


def refused_identity(status: int) -> TargetRefusedIdentity:
    """Return the error for a remote write that the target's access control refused.

    A new role assignment takes up to half an hour at Azure, and senders drop
    a batch for good on 401 and 403 but send it again on 503.
    """
    return TargetRefusedIdentity(
        f"the target answered {status} to the proxy's identity: assign it the role Monitoring "
        "Metrics Publisher on the data collection rule (a new assignment takes up to 30 minutes); "
        "send again later",
        retry_after=REFUSED_IDENTITY_RETRY_SECONDS,
    )
