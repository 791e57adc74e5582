"""OTLP exporters, and the one line a minute about those that fail.

gRPC is imported here alone, and only when a signal goes that way: after the
fork, which its threads and channels would not survive.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from authproxy.redaction import Redactor
from authproxy.settings.telemetry_rules import Destination

if TYPE_CHECKING:
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter

log = logging.getLogger(__name__)

#: Seconds between two lines about failing exports.
QUIET_SECONDS = 60.0

_SDK = "opentelemetry"
_EXPORTING = ("opentelemetry.exporter", "opentelemetry.sdk")
_HEADERS = re.compile(r"OTEL_EXPORTER_OTLP_(\w+_)?HEADERS")
_USER_INFORMATION = re.compile(r"//[^/@\s]*@")


def span_exporter(destination: Destination) -> SpanExporter:
    """Return the exporter of traces."""
    if destination.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as ByGRPC

        return ByGRPC(**_options(destination))
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as ByHTTP

    return ByHTTP()


def metric_exporter(destination: Destination) -> MetricExporter:
    """Return the exporter of metrics."""
    if destination.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (
            OTLPMetricExporter as ByGRPC,
        )

        return ByGRPC(**_options(destination))
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as ByHTTP

    return ByHTTP()


def log_exporter(destination: Destination) -> LogRecordExporter:
    """Return the exporter of log records."""
    if destination.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as ByGRPC

        return ByGRPC(**_options(destination))
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as ByHTTP

    return ByHTTP()


def _options(destination: Destination) -> dict[str, Any]:
    if destination.endpoint is None:
        return {}
    return {"endpoint": destination.endpoint, "insecure": destination.insecure}


def _sent_fields() -> Iterator[str]:
    """Yield the values of header fields that collectors are sent, and may quote."""
    for name, value in os.environ.items():
        if _HEADERS.fullmatch(name):
            for pair in value.split(","):
                yield unquote(pair.partition("=")[2].strip())


class ExportFaults(logging.Handler):
    """Turns what the SDK logs into one line a minute.

    Each signal is exported by itself and tried again, and each try is worth a
    line to the SDK; to an operator, all of them are one event.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._clock = clock
        self._redact = Redactor(_sent_fields())
        self._next = 0.0
        self._unsaid = 0

    def install(self) -> None:
        """Take over the SDK's loggers."""
        logger = logging.getLogger(_SDK)
        logger.propagate = False
        logger.addHandler(self)

    def uninstall(self) -> None:
        """Give them back."""
        logger = logging.getLogger(_SDK)
        logger.removeHandler(self)
        logger.propagate = True

    def emit(self, record: logging.LogRecord) -> None:
        now = self._clock()
        if now < self._next:
            self._unsaid += 1
            return
        self._next = now + QUIET_SECONDS
        unsaid, self._unsaid = self._unsaid, 0
        problem = self._redact(_USER_INFORMATION.sub("//***@", record.getMessage()))
        if record.exc_info and record.exc_info[1] is not None:
            problem = f"{problem} ({type(record.exc_info[1]).__name__})"
        fields = {"Problem": problem, "Unsaid": unsaid or None}
        exporting = record.name.startswith(_EXPORTING)
        message = "Telemetry export failing" if exporting else "Telemetry problem"
        log.warning(message, extra={"fields": fields})
