"""The way of a request, from top to bottom: route, admission, exchange, response."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from authproxy.errors import (
    MethodNotAllowed,
    RequestError,
    ShuttingDown,
    TargetRedirectedWrite,
    TargetRefusedIdentity,
)
from authproxy.http1.headers import REFUSED_METHODS, forwardable, returnable
from authproxy.http1.inbound_request import HEAD_CHECK_KEY, InboundRequest
from authproxy.http1.urls import path_of
from authproxy.http1.writes import is_write
from authproxy.proxy.access_log import AccessLog, AccessLogEntry
from authproxy.proxy.request_body import receive_body
from authproxy.proxy.responses import ResponseStream, StreamedResponse
from authproxy.proxy.upgrades import SwitchedResponse, protocols_to_offer
from authproxy.upstream.refused_identity import REFUSED_IDENTITY
from authproxy.upstream.request import OutboundRequest

if TYPE_CHECKING:
    from flask import Response

    from authproxy.proxy.lifecycle import Lifecycle
    from authproxy.proxy.route_set import Routing, ServedRoute

#: Seconds after which a sender may try again while a role is still spreading.
REFUSED_IDENTITY_RETRY_SECONDS = 5

#: Seconds after which a sender may try again whose write was redirected.
REDIRECTED_WRITE_RETRY_SECONDS = 5


class Forwarder:
    """Forwards requests by the routes in force. Any thread may call."""

    def __init__(self, routing: Routing, lifecycle: Lifecycle, access_log: AccessLog) -> None:
        self._routing = routing
        self._lifecycle = lifecycle
        self._access_log = access_log

    def admit_head(self, head: Mapping[str, Any]) -> Mapping[str, object] | RequestError:
        """Return what the application gets in its environment, or why the request is refused.

        The server's `AdmitHead` hook, for requests with a body to come: a client that is not
        admitted must not fill memory and disk with bodies either. Only the small
        `AdmissionResult` is kept while the body comes, not the fields.
        """
        routes = self._routing.routes
        if not routes.restricted:
            return {}
        request = InboundRequest.read(head)
        try:
            _, result = routes.admit(request)
        except RequestError as error:
            self._access_log.entry(request).failed(error)
            return error
        return {HEAD_CHECK_KEY: result}

    def forward(self, request: InboundRequest) -> Response:
        """Return the upstream response, its body still streaming; the log has what becomes of it.

        Raises a RequestError for what the proxy responds to itself.
        """
        entry = self._access_log.entry(request)
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
        # a body was to come.
        route, admitted = self._routing.routes.admit(request)
        entry.caller = admitted.caller
        entry.routed(route.label, route.url.authority, route.redact, route.why_refused)
        if request.method in REFUSED_METHODS:  # RFC 9110 sections 9.3.6 and 9.3.8
            raise MethodNotAllowed(f"the method {request.method} is not forwarded")

        # The request target, byte for byte, behind the path of the target's own URL.
        target = route.outbound_target(request)
        entry.set_url(route.url.origin, target, log_query=route.settings.log_query)
        writes = is_write(request.method, target, request.fields)
        entry.watch.is_write = writes

        # The fields: hop-by-hop ones and inbound credentials end here (RFC 9110 section
        # 7.6.1); Host, the overrides and the client's address are added.
        fields = forwardable(
            list(request.fields.items()),
            overrides=route.overrides,
            client=request.client,
            dropped=route.dropped,
        )
        fields.insert(0, ("Host", route.url.authority))

        # Other protocols that the client offers (RFC 9110 section 7.8), with a tunnel for them.
        protocols = protocols_to_offer(request, target, route, draining=self._lifecycle.draining)

        # The body, received whole: only so can the request be sent again.
        body = receive_body(request, route.settings.max_request_body_bytes)
        if body is not None:
            entry.watch.request_bytes = body.length

        # The exchange, with the proxy's token; repeated at most once (upstream/target.py). A
        # preflight that was let in without a token gets ours only where the target needs it.
        outbound = OutboundRequest(
            request.method, target, fields, body, request.cancellation, protocols
        )
        send = route.target.send_preflight if admitted.preflight else route.target.send
        try:
            exchange = send(outbound)
        finally:
            if body is not None:
                body.close()
        stream = ResponseStream(exchange, entry)

        # A new role assignment takes up to half an hour at Azure, and senders of writes drop a
        # batch for good on 4xx, but send it again on 503. A redirect leads them to a 401.
        if writes and (error := write_error(stream, route)):
            raise error

        # The response, as it arrives: hop-by-hop fields end here, and what is on the target's
        # origin leads back here. The stream ends the exchange and the log's entry.
        entry.watch.streams()
        returned = route.returned(request, target, returnable(exchange.response.fields))
        if request.tunnel and exchange.response.status == HTTPStatus.SWITCHING_PROTOCOLS:
            return SwitchedResponse(exchange, returned, request.tunnel, entry)
        return StreamedResponse(exchange.response, returned, stream)


def write_error(stream: ResponseStream, route: ServedRoute) -> RequestError | None:
    """Return what the sender of a write gets in place of the upstream response, if anything.

    What is replaced is read for the log.
    """
    exchange = stream.exchange
    status = exchange.response.status
    redirected = status // 100 == 3
    retried = status in REFUSED_IDENTITY and route.settings.remote_write_retry_auth_failures
    if not (redirected or retried):
        return None
    cause = stream.suppress()
    if retried:
        return refused_identity(status, cause)
    location = exchange.response.field("location") or ""
    if not route.settings.log_query:
        location = path_of(location)
    return redirected_write(status, route.redact(location, exchange.tokens))


def redirected_write(status: int, location: str) -> TargetRedirectedWrite:
    """Return the error for a write in response to which the target named another URL.

    Its sender would follow it past the proxy, get 401 there, and drop the batch.
    """
    where = f"to {location}" if location else "without a Location"
    return TargetRedirectedWrite(
        f"the target redirected a write ({status}) {where}: set TARGET_HOST, or the sender's URL, "
        "so that writes go there at once; send again later",
        retry_after=REDIRECTED_WRITE_RETRY_SECONDS,
    )


def refused_identity(status: int, cause: str) -> TargetRefusedIdentity:
    """Return the error for a write that the target's access control refused."""
    return TargetRefusedIdentity(
        f"the target responded with {status} to the proxy's identity; send again later. {cause}",
        retry_after=REFUSED_IDENTITY_RETRY_SECONDS,
    )
