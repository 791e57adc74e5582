"""The application: wires the parts together, once."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from flask import Flask, Request
from werkzeug.routing import MapAdapter, Rule

from authproxy import logs
from authproxy.doorkeeper import Doorkeeper
from authproxy.errors import AuthProxyError, BadRequest
from authproxy.lifecycle import Lifecycle
from authproxy.probes import probes_blueprint
from authproxy.proxy import proxy_blueprint
from authproxy.route_set import Resources, RouteSet
from authproxy.settings import Settings
from authproxy.settings.telemetry_rules import destinations
from authproxy.telemetry.events import Telemetry
from authproxy.urls import path_of, request_target
from authproxy.vital_threads import VitalThreads

#: The last telemetry is sent for so long at most, and at least, whatever the drain took.
_FLUSH_SECONDS = 5.0
_LEAST_FLUSH_SECONDS = 0.5


class ReloadRefused(AuthProxyError):
    """With the new settings, something that works would stop working."""


class Services:
    """What lives as long as the application; `app.extensions["authproxy"]`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lifecycle = Lifecycle()
        self.telemetry = telemetry_for(settings)
        #: Each part that starts a thread which must not end registers it here.
        self.vital_threads = VitalThreads()
        self._resources = Resources(self.telemetry)
        self.vital_threads.watch("log", logs.alive)
        self.vital_threads.watch("refresher", lambda: self._resources.refresher.alive)
        #: Those in force: read anew for each request, replaced as a whole.
        self.routes = RouteSet(settings, self._resources)
        self.vital_threads.watch("watched file", lambda: self.routes.admissions_alive)
        self._report_in_force()
        self.doorkeeper = Doorkeeper(self, self.telemetry)
        self._drained_by: float | None = None

    def start(self) -> None:
        """Start getting tokens; harmless when repeated, from any thread."""
        self._resources.refresher.start()
        self.routes.start()

    def reload(self, settings: Settings, patience: float) -> None:
        """Put other settings in force as soon as their routes have tokens.

        What is fixed for the process stays as it is. Identities, keys of
        callers and connections that both settings have in common are kept as
        they are. Requests in flight end as they began. Raises ReloadRefused
        where a route that is ready now would not be ready after `patience`
        seconds, and SettingsError as `create_app` does; the routes in force
        stay then, and of the others nothing is left.
        """
        new = RouteSet(settings.within(self.settings), self._resources)
        try:
            new.start()
            if lost := new.lacking(self.routes.ready_names, patience):
                whose = (f"{served.route.name} {served.trouble}".strip() for served in lost)
                raise ReloadRefused("; ".join(whose))
        except BaseException:
            new.stop()
            raise
        old, self.routes = self.routes, new
        self._report_in_force()
        logs.set_level(new.settings)
        old.stop()

    def _report_in_force(self) -> None:
        self.routes.in_force()
        self.telemetry.sole_target_host = self.routes.sole_target_host

    @property
    def draining(self) -> bool:
        return self.lifecycle.draining

    def begin_drain(self) -> None:
        """Say on /ready that the process is about to end; requests still pass."""
        self.lifecycle.draining = True
        patience = self.settings.shutdown_delay_seconds + self.settings.shutdown_grace_seconds
        self._drained_by = time.monotonic() + patience

    def refuse(self) -> None:
        """Answer further requests with ShuttingDown: the grace is over."""
        self.lifecycle.refusing = True

    def close(self) -> None:
        """Fetch no more tokens, end the idle connections, and send the last telemetry.

        Waits for the latter alone: within what the drain has left of its
        grace, and for five seconds at most.
        """
        self.routes.stop()
        self._resources.refresher.stop()
        left = _FLUSH_SECONDS
        if self._drained_by is not None:
            left = max(_LEAST_FLUSH_SECONDS, min(left, self._drained_by - time.monotonic()))
        self.telemetry.close(left)


def telemetry_for(settings: Settings) -> Telemetry:
    """Return who listens; OpenTelemetry is imported only if anything is asked for."""
    exports = destinations(settings.otel_grpc_endpoint, os.environ)
    if settings.metrics_port is None and not exports:
        return Telemetry()
    from authproxy.telemetry.sdk import SDKTelemetry

    return SDKTelemetry(settings, exports)


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


def create_app(settings: Settings) -> Flask:
    """Return the WSGI application for these settings.

    Nothing is started and no socket opened until `Services.start` is called.
    Raises SettingsError where a CA bundle of the environment cannot be read.
    """
    app = ProxyApp(__name__, static_folder=None)
    services = Services(settings)
    app.extensions["authproxy"] = services
    app.register_blueprint(probes_blueprint(services, services.lifecycle, services.vital_threads))
    app.register_blueprint(proxy_blueprint(services, services.lifecycle, services.telemetry))
    services.telemetry.instrument(app)
    return app
