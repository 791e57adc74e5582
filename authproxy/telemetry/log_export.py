"""Log records and traces brought together: ids on the lines, lines over OTLP."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber

from authproxy.telemetry.log_forms import event_of

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.util.types import AnyValue

_SEVERITIES = {
    logging.DEBUG: SeverityNumber.DEBUG,
    logging.INFO: SeverityNumber.INFO,
    logging.WARNING: SeverityNumber.WARN,
    logging.ERROR: SeverityNumber.ERROR,
    logging.CRITICAL: SeverityNumber.FATAL,
}

#: Lines about failing exports are not exported: they would fail in turn.
_OWN = "authproxy.telemetry.exporters"


def add_trace_ids(record: logging.LogRecord) -> bool:
    """Note the sampled span, if there is one, on a record: a filter that lets all pass."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid and context.trace_flags.sampled:
        record.trace_id = trace.format_trace_id(context.trace_id)
        record.span_id = trace.format_span_id(context.span_id)
    return True


class OTLPHandler(logging.Handler):
    """Hands records to OpenTelemetry as they are written to standard error: masked."""

    def __init__(self, provider: LoggerProvider) -> None:
        super().__init__()
        self._logger = provider.get_logger("authproxy")

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == _OWN:
            return
        event = event_of(record)
        del event["time"], event["level"]
        body = event.pop("msg")
        # The record carries them by itself.
        event.pop("trace_id", None)
        event.pop("span_id", None)
        attributes: dict[str, AnyValue] = {
            key: value if isinstance(value, str | bool | int | float) else str(value)
            for key, value in event.items()
        }
        self._logger.emit(
            LogRecord(
                timestamp=int(record.created * 1e9),
                severity_number=_SEVERITIES.get(record.levelno, SeverityNumber.UNSPECIFIED),
                severity_text=record.levelname,
                body=body,
                attributes=attributes,
            )
        )
