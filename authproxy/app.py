"""The application: wires the parts together, once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask, Request
from werkzeug.routing import MapAdapter, Rule

from authproxy.credentials import TokenFetcher
from authproxy.errors import BadRequest
from authproxy.lifecycle import Lifecycle
from authproxy.probes import probes_blueprint
from authproxy.proxy import proxy_blueprint
from authproxy.settings import Settings
from authproxy.target import Target
from authproxy.tls import client_context
from authproxy.tokens import TokenSource
from authproxy.transport import TargetAdapter, environment_proxy, open_session
from authproxy.urls import path_of, request_target


class Services:
    """What lives as long as the application; `app.extensions["authproxy"]`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lifecycle = Lifecycle()
        self.tokens = TokenSource(
            TokenFetcher(settings),
            percentage=settings.aad_token_refresh_interval_in_percentage,
            audience=settings.scope,
        )
        url = settings.target
        adapter = TargetAdapter(
            url,
            pool_size=settings.pool_size,
            connect_timeout=settings.target_connect_timeout_seconds,
            read_timeout=settings.target_read_timeout_seconds,
            ssl_context=client_context(settings.target_ca_file) if url.scheme == "https" else None,
            proxy=environment_proxy(url),
        )
        self._session = open_session(url, adapter)
        self.target = Target(adapter, self.tokens)

    def start(self) -> None:
        """Start getting tokens; harmless when repeated, from any thread."""
        self.tokens.start()

    @property
    def draining(self) -> bool:
        return self.lifecycle.draining

    def begin_drain(self) -> None:
        """Say on /ready that the process is about to end; requests still pass."""
        self.lifecycle.draining = True

    def refuse(self) -> None:
        """Answer further requests with ShuttingDown: the grace is over."""
        self.lifecycle.refusing = True

    def close(self) -> None:
        """End the token thread and the idle connections; waits for nothing."""
        self.tokens.stop()
        self._session.close()


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


class ProxyApp(Flask):
    """A Flask application that routes by the raw request target."""

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what matches the request to a view."""
        if request is None:
            return super().create_url_adapter(request)
        return RawTargetAdapter(self, request.environ)


def create_app(settings: Settings) -> Flask:
    """Return the WSGI application for these settings.

    Nothing is started and no socket opened until `Services.start` is called.
    Raises SettingsError where a CA bundle of the environment cannot be read.
    """
    app = ProxyApp(__name__, static_folder=None)
    services = Services(settings)
    app.extensions["authproxy"] = services
    app.register_blueprint(probes_blueprint(services.tokens, services.lifecycle))
    app.register_blueprint(proxy_blueprint(settings, services.target, services.lifecycle))
    return app
