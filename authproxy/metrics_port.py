"""METRICS_PORT: what the parent opens for it, and how each process answers on it."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from authproxy.listening import ListenError, listen_tcp
from authproxy.settings import Settings

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

#: Bytes of the path that Unix sockets with names of 17 can stand in (unix(7)).
_LONGEST_DIRECTORY = 107 - 18


@dataclass(frozen=True)
class MetricsPort:
    """Opened before the fork: sockets, and where several workers meet."""

    sockets: Sequence[socket.socket] = ()
    directory: Path | None = None


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
def answering(collector: Collector | None, port: MetricsPort) -> Iterator[None]:
    """Answer on the port, in this process, as long as the context lasts."""
    if collector is None or not port.sockets:
        yield
        return
    # Here and not above: all this is loaded only where it is asked for.
    from authproxy.metrics_page import Pages, metrics_page
    from authproxy.metrics_server import MetricsServer
    from authproxy.shared_metrics import SharedMetrics

    resources = contextlib.ExitStack()
    if port.directory is not None:
        collector = shared = SharedMetrics(collector, port.directory)
        shared.start()
        resources.callback(shared.stop)
    server = MetricsServer(Pages({"/metrics": metrics_page(collector)}), port.sockets)
    server.start()
    resources.callback(server.stop)
    with resources:
        yield
