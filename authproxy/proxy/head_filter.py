"""Refusing requests by their heads, before their bodies are read.

A client that is not admitted must not fill memory and disk with bodies either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from authproxy.errors import RequestError
from authproxy.http1.inbound_request import HEAD_CHECK_KEY, InboundRequest
from authproxy.proxy.access_log import AccessLog
from authproxy.proxy.route_set import Routing


class HeadFilter:
    """The server's `AdmitHead` hook, for requests with a body to come; probes have none."""

    def __init__(self, routing: Routing, access_log: AccessLog) -> None:
        self._routing = routing
        self._access_log = access_log

    def __call__(self, head: Mapping[str, Any]) -> Mapping[str, object] | RequestError:
        """Return what the application gets in its environment, or why the request is refused.

        Only the small `AdmissionResult` is kept while the body comes, not the fields.
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
