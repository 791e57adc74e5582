"""What is exported and where to, by settings and by OpenTelemetry's own variables."""

from __future__ import annotations

import pytest

from authproxy.errors import SettingsError
from authproxy.settings import load_settings
from authproxy.settings.telemetry_rules import Destination, destinations

NEEDED = {"TARGET_HOST": "x.example.com", "AUDIENCE": "https://x.example.com"}


def test_nothing_is_exported_unless_it_is_asked_for() -> None:
    assert destinations(None, {"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"}) == {}


@pytest.mark.parametrize(
    ("endpoint", "destination"),
    [
        ("collector:4317", Destination("grpc", "collector:4317", insecure=True)),
        ("http://collector:4317", Destination("grpc", "collector:4317", insecure=True)),
        ("https://collector:4317/", Destination("grpc", "collector:4317", insecure=False)),
        ("[::1]:4317", Destination("grpc", "[::1]:4317", insecure=True)),
    ],
)
def test_the_retired_proxys_endpoint_takes_traces_and_metrics(
    endpoint: str, destination: Destination
) -> None:
    assert destinations(endpoint, {}) == {"traces": destination, "metrics": destination}


def test_the_standard_endpoint_takes_traces_and_metrics_by_its_protocol() -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
    grpc = Destination("grpc")
    assert destinations(None, environ) == {"traces": grpc, "metrics": grpc}
    environ["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf"
    http = Destination("http/protobuf")
    assert destinations(None, environ) == {"traces": http, "metrics": http}
    environ["OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"] = "grpc"
    assert destinations(None, environ) == {"traces": http, "metrics": grpc}


def test_a_signal_can_have_an_endpoint_of_its_own_or_none() -> None:
    own = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://traces:4317"}
    assert destinations(None, own) == {"traces": Destination("grpc")}
    assert destinations("c:1", own)["traces"] == Destination("grpc")
    assert destinations("c:1", {"OTEL_TRACES_EXPORTER": "none"}).keys() == {"metrics"}


def test_logs_are_exported_only_when_they_are_named() -> None:
    assert destinations(None, {"OTEL_LOGS_EXPORTER": "otlp"}) == {"logs": Destination("grpc")}
    to_collector = Destination("grpc", "c:1", insecure=True)
    assert destinations("c:1", {"OTEL_LOGS_EXPORTER": "otlp"})["logs"] == to_collector


def test_a_disabled_sdk_exports_nothing() -> None:
    assert destinations("c:1", {"OTEL_SDK_DISABLED": "TRUE"}) == {}


@pytest.mark.parametrize(
    ("variable", "value", "hint"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", "Give otlp or none."),
        ("OTEL_METRICS_EXPORTER", "prometheus", "Set METRICS_PORT"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "Give grpc or http/protobuf."),
        ("OTEL_GRPC_ENDPOINT", "collector", "Give host:port"),
        ("OTEL_GRPC_ENDPOINT", "ftp://collector:4317", "Give host:port"),
        ("OTEL_GRPC_ENDPOINT", "https://collector:4317/v1/traces", "Give host:port"),
        ("METRICS_PORT", "0", "whole number from 1 to 65535"),
        ("METRICS_PORT", "8081", "Choose another port."),
    ],
)
def test_what_cannot_be_exported_is_a_fault(variable: str, value: str, hint: str) -> None:
    environ = {**NEEDED, "LISTENING_PORT": "8081", variable: value}
    with pytest.raises(SettingsError) as caught:
        load_settings(environ=environ, serving=True)
    (fault,) = caught.value.faults
    assert (fault.setting, fault.value) == (variable, value)
    assert hint in fault.hint


def test_a_password_in_an_endpoint_is_a_fault_that_does_not_show_it() -> None:
    environ = {**NEEDED, "OTEL_GRPC_ENDPOINT": "https://me:pa55@collector:4317"}
    with pytest.raises(SettingsError) as caught:
        load_settings(environ=environ, serving=False)
    assert "pa55" not in str(caught.value)
