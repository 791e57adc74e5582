"""`serve`: sockets, processes, signals and the application put together."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator, Sequence

from authproxy.app import Services, create_app
from authproxy.balance import ConnectionCounts, Share
from authproxy.limits import Limits, forbid_core_dumps
from authproxy.listening import ListenError, address_of, listen_tcp, listen_unix
from authproxy.main_loop import Server, StopRequest
from authproxy.metrics_port import NO_METRICS_PORT, MetricsPort, answering, listen_for_metrics
from authproxy.orphans import OrphanReaper
from authproxy.probes import PATHS
from authproxy.settings import Settings
from authproxy.workers import Parent

log = logging.getLogger(__name__)


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT, and return the exit status.

    0: drained; 1: an address cannot be listened on (the log says which). A
    second signal ends the process at once, with 128 and the signal's number.
    Raises what `create_app` raises.
    """
    forbid_core_dumps()
    with contextlib.ExitStack() as resources:
        try:
            sockets = _listen(settings, resources)
            metrics = listen_for_metrics(settings, resources)
        except ListenError as error:
            log.error("Cannot listen", extra={"fields": {"Error": str(error)}})
            return 1
        for sock in (*sockets, *metrics.sockets):
            log.info("Listening", extra={"fields": {"Address": address_of(sock)}})
        if settings.workers == 1:
            stop = StopRequest()
            with _stopped_by_signals(stop):
                serve_process(settings, sockets, stop, metrics=metrics)
            return 0
        counts = ConnectionCounts(settings.workers)

        def serve_worker(number: int, stop: StopRequest, lifeline: int) -> None:
            share = Share(counts, number)
            serve_process(settings, sockets, stop, lifeline, metrics, share)

        parent = Parent(
            settings.workers,
            sockets,
            serve_worker,
            delay=settings.shutdown_delay_seconds,
            grace=settings.shutdown_grace_seconds,
        )
        return parent.run()


def serve_process(
    settings: Settings,
    sockets: Sequence[socket.socket],
    stop: StopRequest,
    lifeline: int | None = None,
    metrics: MetricsPort = NO_METRICS_PORT,
    share: Share | None = None,
) -> None:
    """Serve in this process until stopped.

    `lifeline` is the descriptor of a pipe whose closing stops as well,
    `share` this process's part where others accept from the same sockets.
    """
    app = create_app(settings)
    services: Services = app.extensions["authproxy"]
    limits = Limits(
        threads=settings.threads,
        queue=settings.queue_length,
        body_bytes=settings.max_request_body_bytes,
        header_bytes=settings.max_request_header_bytes,
        shutdown_delay=settings.shutdown_delay_seconds,
        shutdown_grace=settings.shutdown_grace_seconds,
    )
    server = Server(
        app,
        sockets,
        services,
        stop,
        limits,
        refused=services.telemetry.refused,
        judge=services.doorkeeper,
        urgent=PATHS,
        share=share,
    )
    if lifeline is not None:
        server.end_when_closed(lifeline)
    if os.getpid() == 1:
        server.add_chore(OrphanReaper().look)
    services.start()
    try:
        with answering(services.telemetry.collector, metrics):
            server.run()
    finally:
        services.close()


def _listen(settings: Settings, resources: contextlib.ExitStack) -> list[socket.socket]:
    if settings.listening_socket:
        listening = listen_unix(
            settings.listening_socket, settings.socket_mode, settings.socket_group
        )
        return [resources.enter_context(listening)]
    assert settings.listening_port is not None  # settings for serving have one of the two
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
