"""METRICS_PORT: what the parent opens for it, and how each process answers on it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from authproxy.app import Services
from authproxy.serving.listening import ListenError, listen_tcp
from authproxy.settings import Settings

log = logging.getLogger(__name__)

#: Bytes of the path that Unix sockets with names of 17 can stand in (unix(7)).
_LONGEST_DIRECTORY = 107 - 18

_LAST_RELOAD = "reload.json"


@dataclass(frozen=True)
class MetricsPort:
    """Opened before the fork: sockets, and where several workers meet."""

    sockets: Sequence[socket.socket] = ()
    directory: Path | None = None
    #: When that was (monotonic).
    opened: float = field(default_factory=time.monotonic)

    def reload_refused(self, error: str) -> None:
        """Note, in the parent, that a reload came to nothing: the workers do not hear of it."""
        if self.directory is None:
            return
        unfinished = self.directory / "reload.new"
        try:
            unfinished.write_text(json.dumps({"done_at": time.time(), "error": error}))
            os.replace(unfinished, self.directory / _LAST_RELOAD)
        except OSError as problem:  # a full disk must not end the parent
            log.debug("/status will not tell of the reload: %s", problem)

    def last_refused_reload(self) -> dict[str, Any] | None:
        """Return what the parent noted, if anything."""
        if self.directory is None:
            return None
        try:
            noted: dict[str, Any] = json.loads((self.directory / _LAST_RELOAD).read_text())
        except FileNotFoundError:
            return None
        return noted


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
    if settings.workers == 1:
        return MetricsPort(sockets)
    try:
        directory = resources.enter_context(tempfile.TemporaryDirectory(prefix="authproxy-"))
    except OSError as error:
        problem = f"METRICS_PORT: several WORKERS need a temporary directory: {error.strerror}"
        raise ListenError(problem) from error
    if len(os.fsencode(directory)) > _LONGEST_DIRECTORY:
        raise ListenError(f"METRICS_PORT: {directory} is too long a path: set TMPDIR to another")
    return MetricsPort(sockets, Path(directory))


@contextlib.contextmanager
def answering(services: Services, port: MetricsPort) -> Iterator[None]:
    """Answer on the port, in this process, as long as the context lasts."""
    collector = services.telemetry.collector
    if collector is None or not port.sockets:
        yield
        return
    # Here and not above: all this is loaded only where it is asked for.
    from authproxy.metrics_port.metrics_page import Pages, metrics_page
    from authproxy.metrics_port.server import MetricsServer
    from authproxy.metrics_port.shared_metrics import SharedMetrics
    from authproxy.metrics_port.shared_status import SharedStatus
    from authproxy.metrics_port.status_page import StatusPages

    resources = contextlib.ExitStack()
    siblings = None
    if port.directory is not None:
        collector = shared = SharedMetrics(collector, port.directory)
        siblings = shared.siblings
    status = SharedStatus(services, port.opened, siblings)
    if siblings is not None:
        shared.start()
        resources.callback(shared.stop)
    status_pages = StatusPages(lambda: status.gather(port.last_refused_reload()))
    pages = {
        "/metrics": metrics_page(collector),
        "/status": status_pages.html,
        "/status.json": status_pages.json,
    }
    server = MetricsServer(Pages(pages), port.sockets)
    server.start()
    resources.callback(server.stop)
    services.vital_threads.watch("metrics-port", lambda: server.alive)
    resources.callback(services.vital_threads.forget, "metrics-port")
    with resources:
        yield
