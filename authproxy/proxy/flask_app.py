"""The Flask application, which routes by the raw request target."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from flask import Flask, Request
from werkzeug.routing import MapAdapter, Rule

from authproxy.http1.inbound_request import InboundRequest

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class RawTargetAdapter(MapAdapter):
    """Matches rules against the raw request target, never against PATH_INFO.

    Servers decode and normalise PATH_INFO each in their own way, so that
    `/%68ealth` or `//health` could be taken for a probe. A path that is no
    rule's own, letter for letter, is forwarded.
    """

    def __init__(self, app: Flask, inbound: InboundRequest) -> None:
        super().__init__(app.url_map, "", "/", "", "http", "/", inbound.method, None)
        # The forwarding view responds to what cannot be read.
        self._path = "" if inbound.malformed else inbound.path

    def match(self, *_: Any, **__: Any) -> tuple[Rule, dict[str, Any]]:
        """Return the rule to serve; Flask asks for the rule itself."""
        for rule in self.map.iter_rules():
            if (
                rule.rule == self._path
                and rule.methods is not None
                and self.default_method in rule.methods
            ):
                return rule, {}
        return next(self.map.iter_rules("proxy.forward")), {}


class ProxyRequest(Request):
    """A Flask request with the inbound request that the proxy goes by."""

    def __init__(self, environ: WSGIEnvironment, *args: Any, **kwargs: Any) -> None:
        super().__init__(environ, *args, **kwargs)
        self.inbound = InboundRequest.of(environ)

    @cached_property
    def url(self) -> str:
        """The raw request target: Werkzeug would decode it, and `/%68ealth` look like a probe."""
        return self.inbound.raw_target


class ProxyApp(Flask):
    """A Flask application that routes by the raw request target."""

    request_class = ProxyRequest

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what matches the request to a view."""
        if isinstance(request, ProxyRequest):
            return RawTargetAdapter(self, request.inbound)
        return super().create_url_adapter(request)
