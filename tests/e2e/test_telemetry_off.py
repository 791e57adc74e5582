"""What nobody asks for is not even imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.programs import LIMIT

PROGRAM = """
import sys
from authproxy.settings import load_settings
from authproxy.app import create_app
import authproxy.cli.serve
settings = load_settings(
    environ={{"TARGET_HOST": "x.example.com", "AUDIENCE": "https://x.example.com", **{environ}}},
    serving=False,
).settings
create_app(settings)
print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
"""


def imported(**environ: str) -> set[str]:
    """Return the packages that an application with these settings loads."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(environ=environ)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path), **environ},
    )
    return set(result.stdout.split())


def test_without_telemetry_nothing_of_it_is_loaded() -> None:
    loaded = imported()
    assert "flask" in loaded
    assert not loaded & {"opentelemetry", "grpc", "prometheus_client", "google"}


def test_to_be_scraped_needs_no_exporter() -> None:
    loaded = imported(METRICS_PORT="9090")
    assert {"opentelemetry", "prometheus_client"} <= loaded
    assert not loaded & {"grpc", "google"}


@pytest.mark.parametrize(
    ("environ", "grpc"),
    [
        ({"OTEL_GRPC_ENDPOINT": "127.0.0.1:1"}, True),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            },
            False,
        ),
        ({"OTEL_GRPC_ENDPOINT": "127.0.0.1:1", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_grpc_is_loaded_only_to_export_by_it(environ: dict[str, str], grpc: bool) -> None:
    assert ("grpc" in imported(**environ)) is grpc


def test_the_settings_command_loads_nothing_of_it() -> None:
    program = (
        "import sys, authproxy.cli.commands as c\n"
        "c.cli(['settings'], standalone_mode=False)\n"
        "print('opentelemetry' in sys.modules)"
    )
    environ = {
        "TARGET_HOST": "x.example.com",
        "AUDIENCE": "https://x.example.com",
        "METRICS_PORT": "9090",
        "OTEL_GRPC_ENDPOINT": "c:4317",
        "PYTHONPATH": ":".join(sys.path),
    }
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
        env=environ,
    )
    assert result.stdout.splitlines()[-1] == "False"
