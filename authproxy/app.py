"""The application: wires the parts together, once."""

from __future__ import annotations

import logging
import os
import time

from flask import Flask

from authproxy.errors import AuthProxyError
from authproxy.proxy.access_log import AccessLog
from authproxy.proxy.blueprint import proxy_blueprint
from authproxy.proxy.flask_app import ProxyApp
from authproxy.proxy.forwarding import Forwarder
from authproxy.proxy.lifecycle import Lifecycle
from authproxy.proxy.probes import PATHS, probes_blueprint
from authproxy.proxy.route_set import Resources, RouteSet
from authproxy.proxy.vital_threads import VitalThreads
from authproxy.settings import Loaded, Settings
from authproxy.settings.secret_files import open_secret_files
from authproxy.settings.telemetry_rules import destinations
from authproxy.telemetry import logs
from authproxy.telemetry.events import Telemetry

log = logging.getLogger(__name__)

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
        self.access_log = AccessLog(self.telemetry, settings.access_log)
        self.forwarder = Forwarder(self, self.lifecycle, self.access_log)
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
            if lost := new.wait_until_ready(self.routes.ready_names, patience):
                whose = (f"{served.route.name} {served.last_error}".strip() for served in lost)
                raise ReloadRefused("; ".join(whose))
        except BaseException:
            new.stop()
            raise
        old, self.routes = self.routes, new
        self._report_in_force()
        logs.set_level(new.settings)
        self.access_log.shown = new.settings.access_log
        old.stop()

    def _report_in_force(self) -> None:
        self.routes.in_force()
        self.telemetry.sole_target_host = self.routes.sole_target_host

    def begin_drain(self) -> None:
        """Have /ready say that the process is about to end; requests still pass."""
        self.lifecycle.draining = True
        patience = self.settings.shutdown_delay_seconds + self.settings.shutdown_grace_seconds
        self._drained_by = time.monotonic() + patience

    def refuse(self) -> None:
        """Refuse further requests with ShuttingDown: the grace is over."""
        self.lifecycle.refusing = True

    def close(self) -> None:
        """Fetch no more tokens, end the idle connections, and send the last telemetry.

        Waits for the latter alone: within what the drain has left of its
        grace, and for five seconds at most.
        """
        self.access_log.flush()
        self.routes.stop()
        self._resources.refresher.stop()
        left = _FLUSH_SECONDS
        if self._drained_by is not None:
            left = max(_LEAST_FLUSH_SECONDS, min(left, self._drained_by - time.monotonic()))
        self.telemetry.close(left)


def telemetry_for(settings: Settings) -> Telemetry:
    """Return the telemetry of these settings; OpenTelemetry is imported only if they need it."""
    exports = destinations(settings.otel_grpc_endpoint, os.environ)
    if settings.metrics_port is None and not exports:
        return Telemetry()
    from authproxy.telemetry.sdk import SDKTelemetry

    return SDKTelemetry(settings, exports)


def create_app(settings: Settings) -> Flask:
    """Return the WSGI application for these settings.

    Nothing is started and no socket opened until `Services.start` is called.
    Raises SettingsError where a CA bundle of the environment cannot be read.
    """
    app = ProxyApp(__name__, static_folder=None)
    services = Services(settings)
    app.extensions["authproxy"] = services
    app.register_blueprint(probes_blueprint(services, services.lifecycle, services.vital_threads))
    app.register_blueprint(proxy_blueprint(services.forwarder))
    services.telemetry.instrument(app, untraced=PATHS)
    return app


def services_of(app: Flask) -> Services:
    """Return the services of an application of `create_app`.

    Its `start` begins to fetch tokens, and belongs into the process that
    serves; its `close` ends that. Raises AuthProxyError for another application.
    """
    services = app.extensions.get("authproxy")
    if not isinstance(services, Services):
        raise AuthProxyError(f"{app!r} was not made by authproxy.create_app")
    return services


def announce(loaded: Loaded) -> None:
    """Set up the log, write the settings in force to it, and warn of what is unsafe."""
    settings = loaded.settings
    logs.configure(settings)
    # Letter for letter what the retired proxy wrote.
    log.info("Configuration settings loaded:", extra={"fields": settings.effective()})
    tell_routes(settings)
    for name, near in loaded.misspelt.items():
        log.warning(
            "A variable of the environment is probably misspelt",
            extra={"fields": {"Variable": name, "Setting": near}},
        )
    for file in open_secret_files(loaded):
        log.warning(
            "Every user of this machine can get at a secret: take the file's permissions "
            "for others away (chmod o=)",
            extra={"fields": {"Setting": file.setting, "Path": file.path, "Mode": file.mode}},
        )


def tell_routes(settings: Settings) -> None:
    """Write the routes to the log, if there are several, and warn of what is unsafe."""
    for route in settings.routes:
        if settings.has_routes:
            log.info("Route:", extra={"fields": route.shown()})
        if route.settings.target.scheme == "http":
            log.warning(
                "Tokens travel in clear: TARGET_ALLOW_HTTP is set and the target is http",
                extra={"fields": {"Target": str(route.settings.target)}},
            )
        if unfit := route.settings.unfit_audience:
            log.warning(
                "Tokens are for another audience than the target's host takes",
                extra={"fields": {"Cause": unfit, "Route": route.name or None}},
            )
