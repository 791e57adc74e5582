"""In a program that has the proxy inside, telemetry changes nothing of the program's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.collector import Collector
from tests.support.process import clean_environment
from tests.support.programs import LIMIT, completed

#: The program instruments a site of its own before or after it makes the proxy, or not; and says
#: what has changed in its environment.
PROGRAM = """
import os, sys

from flask import Flask
from opentelemetry.instrumentation.flask import FlaskInstrumentor

import authproxy

site = Flask("site")
site.add_url_rule("/own", view_func=lambda: "")
before = dict(os.environ)
if sys.argv[1] == "before":
    FlaskInstrumentor.instrument_app(site)
proxy = authproxy.create_app(authproxy.load_settings(serving=False).settings)
if sys.argv[1] == "after":
    FlaskInstrumentor.instrument_app(site)
services = authproxy.services_of(proxy)
services.start()
answer = proxy.test_client().get("/x", environ_overrides={"REQUEST_URI": "/x"})
services.close()
changed = {name for name, value in os.environ.items() if before.get(name) != value}
print(answer.status_code, sorted(changed | before.keys() - os.environ.keys()))
"""


@pytest.mark.parametrize("instrumented", ["before", "after", "never"])
def test_the_programs_environment_stays_as_it_is(tmp_path: Path, instrumented: str) -> None:
    """And spans of ours follow the stable conventions, whatever the program's own follow."""
    with Collector() as collector:
        ended = completed(
            [sys.executable, "-c", PROGRAM, instrumented],
            {
                **clean_environment(str(tmp_path)),
                "TARGET_HOST": "metrics.example.com",
                "AUDIENCE": "https://metrics.example.com",
                "IDENTITY_TYPE": "azurecli",
                "METRICS_PORT": "9090",
                "OTEL_GRPC_ENDPOINT": collector.endpoint,
                # A service manager's, which are the program's to use.
                "NOTIFY_SOCKET": "/nowhere",
                "LISTEN_FDS": "1",
            },
        )
        assert (ended.stdout, ended.returncode) == ("503 []\n", 0), ended.stderr
        [span] = collector.spans_named("ProxyRequest")
    assert span.attributes["http.request.method"] == "GET"
    assert "http.method" not in span.attributes


CONVENTIONS = """
from flask import Flask
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import authproxy

authproxy.create_app(authproxy.load_settings(serving=False).settings)
site, seen = Flask("site"), InMemorySpanExporter()
site.add_url_rule("/own", view_func=lambda: "")
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(seen))
FlaskInstrumentor.instrument_app(site, tracer_provider=provider)
site.test_client().get("/own")
print(*sorted(seen.get_finished_spans()[0].attributes))
"""


@pytest.mark.parametrize(
    ("opted_in", "old", "new"), [("", True, False), ("http", False, True), ("http/dup", True, True)]
)
def test_what_else_the_program_instruments_follows_what_it_asked_for(
    tmp_path: Path, opted_in: str, old: bool, new: bool
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CONVENTIONS],
        env={
            **clean_environment(str(tmp_path)),
            "TARGET_HOST": "metrics.example.com",
            "AUDIENCE": "https://metrics.example.com",
            "OTEL_GRPC_ENDPOINT": "127.0.0.1:9",
            "OTEL_SEMCONV_STABILITY_OPT_IN": opted_in,
        },
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    names = set(ended.stdout.split())
    assert ("http.method" in names) is old
    assert ("http.request.method" in names) is new


#: The program logs by a handler of its own, at whatever level; and says what it sees of its set-up.
LOGGING = """
import logging

import authproxy

lines = []


class Lines(logging.Handler):
    def emit(self, record):
        lines.append((record.getMessage(), hasattr(record, "trace_id")))


def set_up():
    root = logging.getLogger()
    filters = [each for handler in root.handlers for each in handler.filters]
    return root.level, root.propagate, root.disabled, root.handlers[:], root.filters[:], filters


logging.basicConfig(handlers=[Lines()])
before = set_up()
proxy = authproxy.create_app(authproxy.load_settings(serving=False).settings)
services = authproxy.services_of(proxy)
services.start()
assert set_up() == before, set_up()
logging.getLogger("site").warning("a line of the program's own")
logging.getLogger("authproxy.of.ours").warning("a line of ours")
proxy.test_client().get("/x", environ_overrides={"REQUEST_URI": "/x"})
services.close()
assert set_up() == before, set_up()
for line in lines:
    print(*line)
"""


def test_the_programs_log_stays_its_own_and_only_lines_of_ours_are_exported(tmp_path: Path) -> None:
    with Collector() as collector:
        ended = completed(
            [sys.executable, "-c", LOGGING],
            {
                **clean_environment(str(tmp_path)),
                "TARGET_HOST": "metrics.example.com",
                "AUDIENCE": "https://metrics.example.com",
                "IDENTITY_TYPE": "azurecli",
                "METRICS_PORT": "9090",
                "OTEL_GRPC_ENDPOINT": collector.endpoint,
                "OTEL_LOGS_EXPORTER": "otlp",
            },
        )
        assert ended.returncode == 0, ended.stderr
        exported = {line.body for line in collector.lines}
    lines = ended.stdout.splitlines()
    # Others are of a thread, which cannot get a token.
    marked = [line for line in lines if line.startswith("a line of")]
    assert marked == ["a line of the program's own False", "a line of ours False"]
    assert "Request failed False" in lines
    assert {"a line of ours", "Request failed"} <= exported
    assert "a line of the program's own" not in exported
