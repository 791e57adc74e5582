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
from importlib import import_module
from typing import Any
from urllib.parse import unquote

from authproxy.redaction import Redactor
from authproxy.settings.telemetry_rules import Destination, Signal

log = logging.getLogger(__name__)

#: Seconds between two lines about failing exports.
QUIET_SECONDS = 60.0

_SDK = "opentelemetry"
_EXPORTING = ("opentelemetry.exporter", "opentelemetry.sdk")
_HEADERS = re.compile(r"OTEL_EXPORTER_OTLP_(\w+_)?HEADERS")
_USER_INFORMATION = re.compile(r"//[^/@\s]*@")


#: By signal: module and class, which have the same names for gRPC and HTTP.
_EXPORTERS: dict[Signal, tuple[str, str]] = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
}


def exporter(signal: Signal, destination: Destination) -> Any:
    """Return the SDK's exporter of a signal."""
    module, name = _EXPORTERS[signal]
    protocol = "grpc" if destination.protocol == "grpc" else "http"
    made_by = getattr(import_module(f"opentelemetry.exporter.otlp.proto.{protocol}.{module}"), name)
    if protocol == "http" or destination.endpoint is None:
        return made_by()
    return made_by(endpoint=destination.endpoint, insecure=destination.insecure)


def _sent_fields() -> Iterator[str]:
    """Yield the values of header fields that collectors are sent, and may quote."""
    for name, value in os.environ.items():
        if _HEADERS.fullmatch(name):
            for pair in value.split(","):
                yield unquote(pair.partition("=")[2].strip())


class ExportFaults(logging.Handler):
    """Turns what the SDK logs into one line a minute.

    Each signal is exported by itself and retried, and the SDK logs each attempt; to an
    operator, all of them are one event.
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
