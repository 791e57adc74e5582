"""The forms of log lines: logfmt, JSON, and JSON with OpenTelemetry's names.

The logfmt line is the retired proxy's (logrus's text form): time, level and msg first,
values quoted where they need it.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from authproxy.clock import rfc3339
from authproxy.redaction import masked

#: Most characters of one value in a line: clients, targets and identity endpoints send
#: values of any length.
MAX_VALUE_CHARACTERS = 2048

_BARE_VALUE = re.compile(r"[A-Za-z0-9\-._/@^+]+")

_ENCODER = json.JSONEncoder(default=str)
_quoted = _ENCODER.encode

#: Lines of the same second have the same time.
_time = lru_cache(maxsize=4)(rfc3339)


def event_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return a record's keys and values, masked, in the order of its line."""
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    event: dict[str, Any] = {
        "time": _time(int(record.created)),
        "level": record.levelname.lower(),
        "msg": masked(record.getMessage()),
    }
    for key, value in fields.items():
        if value is not None:
            event[key] = bounded(masked(value)) if isinstance(value, str) else value
    for key in ("trace_id", "span_id"):  # where the record belongs to a sampled span
        if (value := getattr(record, key, None)) is not None:
            event[key] = value
    if (traceback := getattr(record, "traceback", None)) is not None:
        event["Traceback"] = masked("".join(traceback.format()).rstrip())
    elif record.exc_info:
        event["Traceback"] = masked(logging.Formatter().formatException(record.exc_info))
    return event


def bounded(text: str) -> str:
    """Return a value as a line may have it: cut, with the number of characters left out."""
    more = len(text) - MAX_VALUE_CHARACTERS
    return text if more <= 0 else f"{text[:MAX_VALUE_CHARACTERS]}... ({more} characters more)"


class JSONFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return _ENCODER.encode(event_of(record))


class LogfmtFormatter(logging.Formatter):
    """`key=value` pairs; a value is quoted and escaped where it is not one plain word."""

    def format(self, record: logging.LogRecord) -> str:
        event = event_of(record)
        # Always quoted, so that one pattern finds a message of one word as well.
        message = _quoted(event.pop("msg"))
        head = f'time="{event.pop("time")}" level={event.pop("level")} msg={message}'
        return " ".join([head, *(f"{key}={_logfmt_value(value)}" for key, value in event.items())])


def _logfmt_value(value: object) -> str:
    if type(value) is int:
        return str(value)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if _BARE_VALUE.fullmatch(text) else _quoted(text)


#: What OpenTelemetry's log data model and semantic conventions call our keys; they have no name
#: for others, which are authproxy's own.
OTEL_NAMES = {
    "time": "timestamp",
    "level": "severity_text",
    "msg": "body",
    "trace_id": "trace_id",
    "span_id": "span_id",
    "Client": "client.address",
    "Code": "error.type",
    "ContentLength": "http.response.body.size",
    "Error": "error.message",
    "Method": "http.request.method",
    "RequestBytes": "http.request.body.size",
    "Route": "http.route",
    "StatusCode": "http.response.status_code",
    "Traceback": "exception.stacktrace",
}

#: Log data model, "Field: SeverityNumber".
_SEVERITIES = {"debug": 5, "info": 9, "warning": 13, "error": 17, "critical": 21}

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class OTelFormatter(logging.Formatter):
    """One JSON object a line, with OpenTelemetry's names."""

    def format(self, record: logging.LogRecord) -> str:
        event = event_of(record)
        return _ENCODER.encode(dict(_otel_fields(event)))


def _otel_fields(event: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in event.items():
        if key == "level":
            yield "severity_text", value.upper()
            yield "severity_number", _SEVERITIES.get(value, 0)
        elif key == "Request":
            yield from _of_request(value)
        elif key == "DurationMs":
            yield "http.server.request.duration", value / 1000
        elif key == "Attempts":
            if value > 1:
                yield "http.request.resend_count", value - 1
        else:
            yield _otel_name(key), value


def _of_request(request: str) -> Iterator[tuple[str, str | int]]:
    """Yield the parts of a URL, or of a path whose target is not known."""
    if request.startswith(("http://", "https://")):
        yield "url.full", request
        url = urlsplit(request)
        yield "server.address", url.hostname or ""
        yield "server.port", url.port or (443 if url.scheme == "https" else 80)
        request = request.partition("://")[2]
        request = request[request.find("/") :] if "/" in request else "/"
    path, separator, query = request.partition("?")
    yield "url.path", path
    if separator:
        yield "url.query", query


@lru_cache(maxsize=512)
def _otel_name(key: str) -> str:
    known = OTEL_NAMES.get(key)
    if known is not None:
        return known
    # Settings, which are logged at the start, are named as variables.
    return "authproxy." + (key.lower() if key.isupper() else _WORD.sub("_", key).lower())


#: By LOG_FORMAT.
FORMS: dict[str, Callable[[], logging.Formatter]] = {
    "logfmt": LogfmtFormatter,
    "json": JSONFormatter,
    "otel": OTelFormatter,
}
