"""METRICS_PORT: the sockets that the parent opens for it, and the server of each process."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from authproxy.admin.siblings import Siblings
from authproxy.app import Services
from authproxy.server.listening import listen_tcp
from authproxy.settings import Settings


@dataclass(frozen=True)
class MetricsPort:
    """Opened before the fork."""

    sockets: Sequence[socket.socket] = ()
    #: When that was (monotonic).
    opened: float = field(default_factory=time.monotonic)


NO_METRICS_PORT = MetricsPort()


def listen_for_metrics(settings: Settings, resources: contextlib.ExitStack) -> MetricsPort:
    """Open what METRICS_PORT needs, if it is set. Raises ListenError."""
    if settings.metrics_port is None:
        return NO_METRICS_PORT
    sockets = listen_tcp(
        settings.listening_host, settings.metrics_port, port_setting="METRICS_PORT"
    )
    for sock in sockets:
        resources.callback(sock.close)
    return MetricsPort(sockets)


@contextlib.contextmanager
def serving(
    services: Services, port: MetricsPort, siblings: Siblings | None = None
) -> Iterator[None]:
    """Serve the port in this process while the context lasts; with `siblings`, for all."""
    collector = services.telemetry.collector
    if collector is None or not port.sockets:
        yield
        return
    # Here and not above: loaded only where METRICS_PORT is set.
    from authproxy.admin.metrics_page import Pages, metrics_page
    from authproxy.admin.server import MetricsServer
    from authproxy.admin.shared_metrics import SharedMetrics
    from authproxy.admin.shared_status import SharedStatus
    from authproxy.admin.status_page import StatusPages

    if siblings is not None:
        collector = SharedMetrics(collector, siblings)
    status_pages = StatusPages(SharedStatus(services, port.opened, siblings).gather)
    pages = {
        "/metrics": metrics_page(collector),
        "/status": status_pages.html,
        "/status.json": status_pages.json,
    }
    server = MetricsServer(Pages(pages), port.sockets)
    server.start()
    services.vital_threads.watch("metrics-port", lambda: server.alive)
    try:
        yield
    finally:
        services.vital_threads.forget("metrics-port")
        server.stop()
        if siblings is not None:
            siblings.report_last()
