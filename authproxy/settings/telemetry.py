"""The settings of logs and telemetry."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

from authproxy.errors import Fault
from authproxy.http1.urls import TargetURL
from authproxy.settings.admission import TOKENS_FILE
from authproxy.settings.declaration import Group, Setting, rule
from authproxy.settings.declared import Declared
from authproxy.settings.kinds import Flag, Integer, Presence, Text, Word
from authproxy.settings.rules import Draft
from authproxy.settings.serving import ServingSettings
from authproxy.settings.telemetry_rules import unusable_files, unusable_variables

#: By name, as `logging` counts.
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def grpc_endpoint(text: str) -> str:
    """Take the host:port or URL of a collector."""
    _, separator, rest = text.partition("://")
    url = TargetURL.parse(text, allow_http=True)
    if url.path not in ("", "/") or url.query:
        raise ValueError("it has a path or a query")
    if not re.search(r":[0-9]+/?$", rest if separator else text):
        raise ValueError("it names no port")
    return text


class LogSettings(Declared, group=Group.LOGS):
    """What is logged, and how."""

    access_log = Setting(
        # `off` is a boolean in YAML.
        Word("all", "errors", "none", also={"off": "none"}),
        "all",
        "Which requests have a line in the log: all, errors (those that failed: status 400 and "
        "above, or truncated) or none. What happens to tokens, files and processes is always "
        "logged.",
        reloaded=True,
    )
    log_format = Setting(
        Word("logfmt", "json", "otel"),
        "logfmt",
        "Form of the log lines on standard error: logfmt, json, or otel: JSON with the names of "
        "OpenTelemetry's semantic conventions.",
    )
    log_level = Setting(
        Word(*LEVELS, also={"warn": "warning"}),
        "info",
        "Least level that is logged: debug, info, warning or error.",
        reloaded=True,
    )
    log_query = Setting(Flag(), True, "Whether the query strings of requests are logged.")
    trace_logging = Setting(
        Presence(),
        False,
        "Set to anything, it means LOG_LEVEL=debug, as in the retired proxy.",
        reloaded=True,
    )

    @property
    def level(self) -> int:
        """The least level to log, as `logging` counts."""
        return logging.DEBUG if self.trace_logging else LEVELS[self.log_level]


class TelemetrySettings(ServingSettings, group=Group.TELEMETRY):
    """What is measured, and where it is exported to."""

    metrics_port = Setting(
        Integer(1, 65535),
        None,
        "Second port, on LISTENING_HOST, with /metrics for Prometheus and /status for people, open "
        "to every client that reaches it, and /debug for this machine; nothing is forwarded.",
        unset="off",
        only_serve=True,
    )
    debug_token_file = Setting(
        TOKENS_FILE,
        None,
        "File of tokens, one a line: who shows one on METRICS_PORT, as `Authorization: Bearer`, is "
        "served /debug (stacks, a profile, the log's level), as are clients on this machine.",
        unset="this machine only",
        needs=metrics_port,
        only_serve=True,
    )
    otel_grpc_endpoint = Setting(
        Text(
            grpc_endpoint,
            "Give host:port, or http:// or https:// and that, such as https://collector:4317.",
        ),
        None,
        "Where to send traces and metrics to over OTLP/gRPC: host:port or http:// in clear, "
        "https:// with TLS. OpenTelemetry's own OTEL_* variables work as well.",
        unset="no export",
    )
    otel_service_name = Setting(Text(), "aad_auth_proxy", "service.name of what is exported.")

    @rule(per_route=False)
    def metrics_port_of_its_own(self, draft: Draft) -> Iterator[Fault]:
        """METRICS_PORT is not the proxied port: there, /metrics is forwarded."""
        if self.metrics_port is not None and self.metrics_port == self.listening_port:
            one = TelemetrySettings.metrics_port
            yield draft.fault(one, "it is LISTENING_PORT", "Choose another port.")

    @rule(per_route=False)
    def usable_otel_variables(self, draft: Draft) -> Iterator[Fault]:
        """OpenTelemetry's own variables ask for exporters that there are, and name files."""
        yield from unusable_variables(draft.environ)
        yield from unusable_files(draft.environ)
