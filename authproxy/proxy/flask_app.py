"""The Flask application, which routes by the raw request target."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from flask import Flask, Request
from werkzeug.routing import MapAdapter, Rule

from authproxy.errors import BadRequest
from authproxy.http1.urls import path_of, request_target


class RawTargetAdapter(MapAdapter):
    """Matches rules against the raw request target, never against PATH_INFO.

    Servers decode and normalise PATH_INFO each in their own way, so that
    `/%68ealth` or `//health` could be taken for a probe. A path that is no
    rule's own, letter for letter, is forwarded.
    """

    def __init__(self, app: Flask, environ: Mapping[str, Any]) -> None:
        method = environ["REQUEST_METHOD"]
        super().__init__(app.url_map, "", "/", "", "http", "/", method, None)
        self._environ = environ

    def match(self, *_: Any, **__: Any) -> tuple[Rule, dict[str, Any]]:
        """Return the rule to serve; Flask asks for the rule itself."""
        for rule in self.map.iter_rules():
            if rule.methods is not None and self.default_method in rule.methods:
                try:
                    if rule.rule == path_of(request_target(self._environ)):
                        return rule, {}
                except BadRequest:
                    break  # the forwarding view meets it again and answers it
        return next(self.map.iter_rules("proxy.forward")), {}


class RawRequest(Request):
    """A request whose URL is the raw request target, for whoever decides on it.

    Werkzeug would decode it, and `/%68ealth` would look like a probe.
    """

    @cached_property
    def url(self) -> str:
        return str(self.environ.get("REQUEST_URI") or self.environ.get("RAW_URI") or "")


class ProxyApp(Flask):
    """A Flask application that routes by the raw request target."""

    request_class = RawRequest

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what matches the request to a view."""
        if request is None:
            return super().create_url_adapter(request)
        return RawTargetAdapter(self, request.environ)
