"""`serve`: sockets, processes, signals and the application put together."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from flask import Flask

from authproxy.admin import sums
from authproxy.admin.port import NO_METRICS_PORT, MetricsPort, listen_for_metrics, serving
from authproxy.app import Services, create_app
from authproxy.cli.health import health_of
from authproxy.cli.reloading import ReloadRequests, Reread, reload_on_request, settings_again
from authproxy.errors import Unusable
from authproxy.proxy.dropped_fields import DroppedFields
from authproxy.proxy.lifecycle import Lifecycle
from authproxy.proxy.probes import is_probe
from authproxy.proxy.refusal_log import RefusalLog
from authproxy.server.balance import ConnectionCounts, Share, keep_to_one_core
from authproxy.server.hooks import Hooks
from authproxy.server.limits import Limits, Timeouts, forbid_core_dumps, share_heaps
from authproxy.server.listening import (
    ListenError,
    address_of,
    listen_tcp,
    listen_unix,
    take_passed_sockets,
)
from authproxy.server.main_loop import Server, StopRequest
from authproxy.server.processes.channel import ParentLink
from authproxy.server.processes.orphans import OrphanReaper
from authproxy.server.processes.supervision import ServiceManager, Supervisor, WorkersHealth
from authproxy.server.processes.workers import Parent
from authproxy.server.refusals import RefusedRequest
from authproxy.settings import Settings

if TYPE_CHECKING:
    from authproxy.files.expiry import Expiry
    from authproxy.files.server_certificate import RotatingServerCertificate

log = logging.getLogger(__name__)

#: Seconds that a drain may take beyond delay and grace: refusals, the last telemetry.
_SPARE_SECONDS = 10.0


def serve(settings: Settings, reread: Reread) -> int:
    """Serve until SIGTERM or SIGINT, and return the exit status.

    0: drained; 1: an address cannot be listened on (the log says which). A
    second signal ends the process at once, with 128 and the signal's number.
    On SIGHUP `reread` returns the settings as they are then. Raises what `create_app` raises.
    """
    forbid_core_dumps()
    share_heaps()
    manager = ServiceManager.of(
        os.environ,
        drain=settings.shutdown_delay_seconds + settings.shutdown_grace_seconds + _SPARE_SECONDS,
    )
    if manager.ping_every is not None:
        # The watchdog ends a process with SIGABRT: the traceback shows where it hung.
        faulthandler.enable()
    with contextlib.ExitStack() as resources:
        try:
            sockets = _listen(settings, resources)
            metrics = listen_for_metrics(settings, resources)
            certificate = _certificate(settings)
        except ListenError as error:
            log.error("Cannot listen", extra={"fields": {"Error": str(error)}})
            return 1
        for sock in (*sockets, *metrics.sockets):
            log.info("Listening", extra={"fields": {"Address": address_of(sock)}})
        requests = ReloadRequests()
        if settings.workers == 1:
            requests.listen()
            stop = StopRequest()
            with _stopped_by_signals(stop):
                app = create_app(settings)
                reload_on_request(requests, reread, app.extensions["authproxy"])
                serve_process(app, sockets, stop, manager, metrics=metrics, certificate=certificate)
            return 0
        in_force = [settings]
        #: The parent alone knows of a reload that it refused.
        refused = Lifecycle()
        counts = ConnectionCounts(settings.workers)

        def serve_worker(number: int, stop: StopRequest, parent: ParentLink) -> None:
            requests.listen()
            keep_to_one_core(number, settings.workers)
            share = Share(counts, number)
            app = create_app(in_force[-1])
            services: Services = app.extensions["authproxy"]
            services.vital_threads.watch("parent channel", lambda: parent.alive)
            reload_on_request(requests, reread, services)
            serve_process(app, sockets, stop, parent, metrics, share, parent, certificate)

        def reload() -> bool:
            """Have workers that are forked from now on start with the present settings."""
            loaded = settings_again(reread, refused.reloaded)
            if loaded is not None:
                in_force[:] = [loaded.settings.within(settings)]
            return loaded is not None

        parent = Parent(
            settings.workers,
            sockets,
            serve_worker,
            delay=settings.shutdown_delay_seconds,
            grace=settings.shutdown_grace_seconds,
            health=WorkersHealth(manager),
            reload=reload,
            ended=counts.withdraw,
            folds={sums.SUBJECT: sums.fold},
            notes=lambda: {"refused_reload": refused.last_reload},
        )
        return parent.run()


def serve_process(
    app: Flask,
    sockets: Sequence[socket.socket],
    stop: StopRequest,
    supervisor: Supervisor,
    metrics: MetricsPort = NO_METRICS_PORT,
    share: Share | None = None,
    siblings: ParentLink | None = None,
    certificate: RotatingServerCertificate | None = None,
) -> None:
    """Serve the application in this process until stopped.

    `share` is this worker's part of the connections where others accept from the same
    sockets, `siblings` gathers their reports. With a `certificate` the sockets speak TLS.
    """
    services: Services = app.extensions["authproxy"]
    if share is not None:
        share.defer_until(lambda: services.routes.tried)
    access_log = services.access_log
    refusals = RefusalLog(lambda: access_log.has_failures)
    periodic: list[Callable[[], None]] = [refusals.tick, access_log.tick]

    def on_refused(request: RefusedRequest) -> None:
        refusals.refused(request)
        services.telemetry.refused(request)

    def report() -> None:
        sources = {served.route.name: served.tokens for served in services.routes.routes}
        supervisor.report(health_of(sources, services.vital_threads.ended))

    def begin_drain() -> None:
        supervisor.stopping()
        services.begin_drain()

    def certificate_expiry() -> Expiry | None:
        return None if certificate is None else certificate.current.expiry

    if os.getpid() == 1:
        periodic.append(OrphanReaper().look)
    if supervisor.listens:
        periodic.append(report)
    server = Server(
        app,
        sockets,
        stop,
        _limits(services.settings),
        timeouts=Timeouts(body=services.settings.request_body_timeout_seconds),
        hooks=Hooks(
            admit_head=services.forwarder.admit_head,
            on_refused=on_refused,
            on_dropped=DroppedFields().dropped,
            is_probe=is_probe,
            begin_drain=begin_drain,
            refuse=services.refuse,
            periodic=tuple(periodic),
        ),
        share=share,
        tls=None if certificate is None else certificate.context,
    )
    services.vital_threads.watch("tunnels", lambda: server.tunnels_alive)
    if certificate is not None:
        services.vital_threads.start("TLS certificate", certificate.run)
    services.start()
    if supervisor.listens:
        report()
    try:
        with serving(services, metrics, siblings, certificate_expiry):
            server.run()
    finally:
        refusals.flush()
        services.close()


def _limits(settings: Settings) -> Limits:
    return Limits(
        threads=settings.threads,
        queue=settings.max_queued_requests,
        body_bytes=settings.max_request_body_bytes,
        header_bytes=settings.max_request_header_bytes,
        buffered_bytes=settings.max_buffered_bytes,
        tunnels=settings.max_tunnels,
        shutdown_delay=settings.shutdown_delay_seconds,
        shutdown_grace=settings.shutdown_grace_seconds,
    )


def _certificate(settings: Settings) -> RotatingServerCertificate | None:
    """Return the certificate to show, if one is set. Raises ListenError.

    It is loaded before the fork, so that a worker that is forked while its files are half
    replaced has one, and all accept each other's session tickets.
    """
    files = settings.tls_files
    if files is None:
        return None
    from authproxy.files.server_certificate import RotatingServerCertificate

    try:
        return RotatingServerCertificate(files)
    except Unusable as error:  # replaced since the settings were read
        raise ListenError(f"{error.setting}: {error}") from None


def _listen(settings: Settings, resources: contextlib.ExitStack) -> list[socket.socket]:
    sockets = take_passed_sockets(os.environ)
    if not sockets and settings.listening_socket:
        listening = listen_unix(
            settings.listening_socket, settings.listening_socket_mode, settings.socket_group
        )
        return [resources.enter_context(listening)]
    if not sockets:
        assert settings.listening_port is not None  # settings for serving have one of the three
        sockets = listen_tcp(settings.listening_host, settings.listening_port)
    for sock in sockets:
        resources.callback(sock.close)
    return sockets


@contextlib.contextmanager
def _stopped_by_signals(stop: StopRequest) -> Iterator[None]:
    """Have SIGTERM and SIGINT request the stop.

    Explicit handlers, as the kernel gives process 1 of a container no signal
    that it has no handler for.
    """
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, stop.on_signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
