"""The way of a request, from top to bottom: route, admission, exchange, response."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from authproxy.errors import MethodNotAllowed, RequestError, ShuttingDown, TargetRefusedIdentity
from authproxy.http1.headers import REFUSED_METHODS, forwardable, is_remote_write
from authproxy.proxy.access_log import AccessLogEntry
from authproxy.proxy.request_body import receive_body
from authproxy.proxy.responses import ResponseStream, StreamedResponse
from authproxy.upstream.request import OutboundRequest

if TYPE_CHECKING:
    from flask import Response

    from authproxy.http1.inbound_request import InboundRequest
    from authproxy.proxy.lifecycle import Lifecycle
    from authproxy.proxy.route_set import Routing
    from authproxy.telemetry.events import Telemetry

#: Seconds after which a sender may try again while a role is still spreading.
REFUSED_IDENTITY_RETRY_SECONDS = 5

_REFUSED_IDENTITY = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class Forwarder:
    """Forwards requests by the routes in force. Any thread may call."""

    def __init__(self, routing: Routing, lifecycle: Lifecycle, telemetry: Telemetry) -> None:
        self._routing = routing
        self._lifecycle = lifecycle
        self._telemetry = telemetry

    def forward(self, request: InboundRequest) -> Response:
        """Return the upstream response, its body still streaming; the log has what becomes of it.

        Raises a RequestError for what the proxy responds to itself.
        """
        entry = AccessLogEntry(request, self._telemetry)
        try:
            return self._forward(request, entry)
        except RequestError as error:
            entry.failed(error)
            raise
        except Exception:
            entry.crashed()
            raise

    def _forward(self, request: InboundRequest, entry: AccessLogEntry) -> Response:
        if self._lifecycle.refusing:
            raise ShuttingDown("the proxy is shutting down", retry_after=1)

        # The route, and who may take it. Our own server has asked for admission already if
        # a body was to come (head_filter.py).
        route, admitted = self._routing.routes.admit(request)
        entry.caller = admitted.caller
        entry.routed(route.label, route.url.authority, route.redact)
        if request.method in REFUSED_METHODS:  # RFC 9110 sections 9.3.6 and 9.3.8
            raise MethodNotAllowed(f"{request.method} is not forwarded")

        # The request target, byte for byte, behind the path of the target's own URL.
        target = route.outbound_target(request)
        entry.set_url(route.url.origin, target, log_query=route.settings.log_query)

        # The fields: hop-by-hop ones and inbound credentials end here (RFC 9110 section
        # 7.6.1); Host, the overrides and the client's address are added.
        fields = forwardable(
            list(request.fields.items()),
            overrides=route.overrides,
            client=request.client,
            dropped=route.dropped,
        )
        fields.insert(0, ("Host", route.url.authority))

        # The body, received whole: only so can the request be sent again.
        body = receive_body(request, route.settings.max_request_body_bytes)
        if body is not None:
            entry.watch.request_bytes = body.length

        # The exchange, with the proxy's token; repeated at most once (upstream/target.py).
        outbound = OutboundRequest(request.method, target, fields, body, request.cancellation)
        try:
            exchange = route.target.send(outbound)
        finally:
            if body is not None:
                body.close()
        stream = ResponseStream(exchange, entry)

        # A new role assignment takes up to half an hour at Azure, and senders of remote write
        # drop a batch for good on 401 and 403, but send it again on 503.
        status = exchange.answer.status
        if (
            status in _REFUSED_IDENTITY
            and route.settings.remote_write_retry_auth_failures
            and is_remote_write(request.fields)
        ):
            stream.suppress()
            raise refused_identity(status)

        # The response, as it arrives; the stream ends the exchange and the log's entry.
        entry.watch.streams()
        return StreamedResponse(exchange, stream)


def refused_identity(status: int) -> TargetRefusedIdentity:
    """Return the error for a remote write that the target's access control refused."""
    return TargetRefusedIdentity(
        f"the target answered {status} to the proxy's identity: assign it the role Monitoring "
        "Metrics Publisher on the data collection rule (a new assignment takes up to 30 minutes); "
        "send again later",
        retry_after=REFUSED_IDENTITY_RETRY_SECONDS,
    )
