"""Pure rules: which telemetry is exported, and where to, from settings and OTEL_* variables.

The variables are OpenTelemetry's own, with its meaning; see its SDK
configuration specification. Only what this program cannot do is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from authproxy.errors import Fault
from authproxy.files.regular_file import MAX_BYTES, UnreadableFile, require_regular_file

Signal = Literal["traces", "metrics", "logs"]

SIGNALS: tuple[Signal, ...] = ("traces", "metrics", "logs")

#: What OTEL_EXPORTER_OTLP_PROTOCOL may be; the first is the default.
PROTOCOLS = ("grpc", "http/protobuf")


@dataclass(frozen=True)
class Destination:
    """Where one signal goes.

    `endpoint` and `insecure` are None where the SDK reads them from its own
    variables.
    """

    protocol: str
    endpoint: str | None = None
    insecure: bool | None = None


def destinations(
    grpc_endpoint: str | None, environ: Mapping[str, str]
) -> dict[Signal, Destination]:
    """Return where each signal that is asked for goes; empty where no export is asked for.

    Traces and metrics are asked for by any endpoint, or by
    `OTEL_<SIGNAL>_EXPORTER=otlp`; logs by the latter alone. `none` refuses a
    signal, and OTEL_SDK_DISABLED all of them. OTEL_GRPC_ENDPOINT holds for
    the signals that have no endpoint of their own.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return {}
    found: dict[Signal, Destination] = {}
    for signal in SIGNALS:
        own_endpoint = environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
        exporter = environ.get(_exporter(signal), "").strip().lower()
        anywhere = own_endpoint or grpc_endpoint or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        if exporter == "otlp" or (not exporter and anywhere and signal != "logs"):
            if grpc_endpoint and not own_endpoint:
                found[signal] = _grpc(grpc_endpoint)
            else:
                found[signal] = Destination(_protocol(signal, environ))
    return found


def unusable_variables(environ: Mapping[str, str]) -> Iterator[Fault]:
    """Yield the faults of OTEL_* variables that ask for what there is not."""
    for signal in SIGNALS:
        variable = _exporter(signal)
        value = environ.get(variable, "").strip()
        if value.lower() not in ("", "otlp", "none"):
            hint = "Give otlp or none."
            if value.lower() == "prometheus":
                hint = "Set METRICS_PORT to be scraped; here, give otlp or none."
            yield Fault(variable, value, "there is no such exporter", hint)
    for name in ("", *(f"{signal.upper()}_" for signal in SIGNALS)):
        variable = f"OTEL_EXPORTER_OTLP_{name}PROTOCOL"
        value = environ.get(variable, "").strip()
        if value not in ("", *PROTOCOLS):
            hint = f"Give {' or '.join(PROTOCOLS)}."
            yield Fault(variable, value, "it is none of the protocols", hint)


def unusable_files(environ: Mapping[str, str]) -> Iterator[Fault]:
    """Yield the faults of OTEL_* variables that name files which are none; exporters open them.

    The exporters report one that is missing.
    """
    for signal in ("", *(f"{signal.upper()}_" for signal in SIGNALS)):
        for what in ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE"):
            variable = f"OTEL_EXPORTER_OTLP_{signal}{what}"
            path = environ.get(variable, "").strip()
            try:
                if path:
                    require_regular_file(path, MAX_BYTES)
            except UnreadableFile as error:
                if not error.regular or error.too_large:
                    yield Fault(variable, path, str(error), "Name a PEM file.")


def _exporter(signal: Signal) -> str:
    return f"OTEL_{signal.upper()}_EXPORTER"


def _protocol(signal: Signal, environ: Mapping[str, str]) -> str:
    own = environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "").strip()
    return own or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").strip() or PROTOCOLS[0]


def _grpc(endpoint: str) -> Destination:
    """A bare `host:port` is in clear, as the retired proxy had it."""
    scheme, separator, rest = endpoint.partition("://")
    if not separator:
        return Destination("grpc", endpoint, insecure=True)
    return Destination("grpc", rest.rstrip("/"), insecure=scheme.lower() == "http")
