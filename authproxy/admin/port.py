"""METRICS_PORT: the sockets that the parent opens for it, and the server of each process.

That is the server of the proxied port with threads and a main loop of its own, so that
scrapes are served whatever happens there.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from authproxy.app import Services
from authproxy.files.expiry import Expiry
from authproxy.proxy.refusal_log import RefusalLog
from authproxy.server.hooks import Hooks
from authproxy.server.limits import Limits
from authproxy.server.listening import listen_tcp
from authproxy.server.main_loop import Server, StopRequest
from authproxy.server.processes.channel import ParentLink
from authproxy.settings import Settings

_STOP_SECONDS = 2.0

#: No page takes a body.
_LIMITS = Limits(
    threads=2,
    queue=32,
    connections=100,
    body_bytes=1024,
    header_bytes=16 * 1024,
    buffered_bytes=32 * 1024 * 1024,
    shutdown_grace=1.0,
)


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
    services: Services,
    port: MetricsPort,
    siblings: ParentLink | None = None,
    certificate_expiry: Callable[[], Expiry | None] = lambda: None,
) -> Iterator[None]:
    """Serve the port in this process while the context lasts; with `siblings`, for all.

    `certificate_expiry` is of the certificate that the proxied port shows, if any.
    """
    collector = services.telemetry.collector
    if collector is None or not port.sockets:
        yield
        return
    # Here and not above: loaded only where METRICS_PORT is set.
    from authproxy.admin.debug import DebugPages
    from authproxy.admin.metrics_page import Pages, metrics_page
    from authproxy.admin.shared_metrics import SharedMetrics
    from authproxy.admin.shared_status import status_source
    from authproxy.admin.status_page import StatusPages

    if siblings is not None:
        collector = SharedMetrics(collector, siblings)
    status_pages = StatusPages(status_source(services, port.opened, siblings, certificate_expiry))
    debug = DebugPages(services.settings.debug_token_file, siblings)
    reading = ("GET", "HEAD")
    pages = {
        "/metrics": (metrics_page(collector), reading),
        "/status": (status_pages.html, reading),
        "/status.json": (status_pages.json, reading),
        **debug.pages,
    }
    stop = StopRequest()
    refusals = RefusalLog()
    hooks = Hooks(on_refused=refusals.refused, periodic=(refusals.tick,))
    server = Server(Pages(pages), port.sockets, stop, _LIMITS, hooks=hooks, is_main=False)
    thread = threading.Thread(target=server.run, name="metrics-port", daemon=True)
    thread.start()
    services.vital_threads.watch("metrics-port", thread.is_alive)
    try:
        yield
    finally:
        services.vital_threads.forget("metrics-port")
        debug.close()
        stop()
        thread.join(_STOP_SECONDS)
        refusals.flush()
        if siblings is not None:
            siblings.report_last()
