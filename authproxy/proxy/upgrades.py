"""Upgrades: which go on to a target, and the response behind which a tunnel begins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from flask import Response

from authproxy.errors import ShuttingDown, TooManyTunnels, UpgradeNotSupported
from authproxy.http1.headers import Field
from authproxy.http1.writes import is_write
from authproxy.proxy.access_log import AccessLogEntry
from authproxy.tunnel import Switched, TunnelEnd, TunnelOffer
from authproxy.upstream.target import Exchange

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from authproxy.http1.inbound_request import InboundRequest
    from authproxy.proxy.route_set import ServedRoute

#: Seconds after which a client may try again that found all tunnels taken, or a drain.
_RETRY_SECONDS = 5
_DRAIN_RETRY_SECONDS = 1


def protocols_to_offer(
    request: InboundRequest, target: str, route: ServedRoute, *, draining: bool
) -> tuple[str, ...]:
    """Return the protocols that the target is offered; a tunnel is taken if there are any.

    A server may ignore an Upgrade (RFC 9110 section 7.8): so it is with MAX_TUNNELS=0, and for
    writes, whose responses are the proxy's to judge. `target` is the request target that the
    target is sent. A tunnel that began while `draining` would hold the process up for the whole
    grace. Raises UpgradeNotSupported, ShuttingDown and TooManyTunnels.
    """
    settings = route.settings
    ignored = not settings.max_tunnels or settings.forwards_only_remote_write
    if ignored or not request.upgrade or is_write(request.method, target, request.fields):
        return ()
    if request.tunnel is None:
        raise UpgradeNotSupported(
            "the protocol of the connection cannot change here: the server in front (Apache, for "
            "one) gives no connection away. Under `authproxy serve` it can; with MAX_TUNNELS=0 "
            "requests are forwarded without their Upgrade"
        )
    if draining:
        raise ShuttingDown(
            "the proxy is shutting down, and upgrades no further connection",
            retry_after=_DRAIN_RETRY_SECONDS,
        )
    if not request.tunnel.take():
        raise TooManyTunnels(
            f"as many connections are upgraded as may be at a time ({settings.max_tunnels}): "
            "try again later, or raise MAX_TUNNELS",
            retry_after=_RETRY_SECONDS,
        )
    return request.upgrade


class SwitchedResponse(Response):
    """The target's 101; behind it the connections of client and target are joined.

    The server adds Connection and Upgrade. The tunnel's end ends the exchange, and the log's
    entry.
    """

    default_mimetype = None

    def __init__(
        self,
        exchange: Exchange,
        fields: Sequence[Field],
        offer: TunnelOffer,
        entry: AccessLogEntry,
    ) -> None:
        upstream = exchange.response
        super().__init__(status=upstream.status, headers=fields, direct_passthrough=True)
        self._line = f"{upstream.status} {upstream.reason}"
        self._fields = list(fields)

        def ended(end: TunnelEnd) -> None:
            upstream.close()
            entry.tunnel_ended(exchange, end)

        entry.watch.becomes_tunnel()
        sock, early = upstream.raw.switched()
        offer.join(Switched(upstream.field("upgrade") or "", sock, early, ended))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(self._line, self._fields)
        return ()
