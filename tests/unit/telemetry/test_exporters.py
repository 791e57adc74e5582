"""Failing exports are one line a minute, with no password in it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from authproxy.telemetry.exporters import ExportFaults
from tests.support.planted import left
from tests.support.quoting import basic

SDK = logging.getLogger("opentelemetry.exporter.otlp.test")


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


@pytest.fixture
def faults(clock: list[float]) -> Iterator[ExportFaults]:
    made = ExportFaults(lambda: clock[0])
    made.install()
    yield made
    made.uninstall()


def said(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return our own lines; pytest captures also what does not propagate."""
    return [record for record in caplog.records if record.name == "authproxy.telemetry.exporters"]


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = vars(record)["fields"]
    return fields


def test_failures_of_a_minute_are_one_line(
    faults: ExportFaults, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    for signal in ("traces", "metrics", "logs", "traces"):
        SDK.warning("Failed to export %s to %s", signal, "collector:4317")
    (record,) = said(caplog)
    assert record.getMessage() == "Telemetry export failing"
    assert fields_of(record) == {
        "Problem": "Failed to export traces to collector:4317",
        "Unsaid": None,
    }
    clock[0] += 60
    SDK.error("Failed again")
    assert [fields_of(each)["Unsaid"] for each in said(caplog)] == [None, 3]


def test_passwords_in_endpoints_are_masked(
    faults: ExportFaults, caplog: pytest.LogCaptureFixture
) -> None:
    SDK.error("Failed to export to https://me:pa55@collector:4318/v1/traces")
    assert fields_of(said(caplog)[0])["Problem"] == (
        "Failed to export to https://***@collector:4318/v1/traces"
    )


def test_the_loggers_are_given_back(caplog: pytest.LogCaptureFixture) -> None:
    faults = ExportFaults()
    faults.install()
    faults.uninstall()
    SDK.warning("as before")
    assert [record.getMessage() for record in caplog.records] == ["as before"]


@pytest.mark.parametrize("variable", ["HEADERS", "TRACES_HEADERS"])
def test_a_collector_that_quotes_our_key_is_not_quoted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str
) -> None:
    key = "a collector's key of our own"
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{variable}", f"x=1, api-key={quote(key)}")
    faults = ExportFaults()
    faults.install()
    try:
        SDK.error("Failed to export: UNAUTHENTICATED, %s is no key, %s", key, basic(key))
    finally:
        faults.uninstall()
    (record,) = said(caplog)
    assert left(key, str(fields_of(record)["Problem"])) == set()
    assert "is no key" in str(fields_of(record)["Problem"])
