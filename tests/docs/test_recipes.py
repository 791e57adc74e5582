"""docs/recipes.md: what the clients send reaches the target as they sent it, with a token.

Prometheus and curl are run, with what the page says; tests/e2e/test_newer_programs.py runs vmagent
and a newer Prometheus. The others are not to be had from package registries: their requests are
sent as their sources make them.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from authproxy.demo.stand_ins.remote_write import Sample, encode
from tests.conftest import Launch
from tests.support.authority import Authority
from tests.support.pages import blocks
from tests.support.process import ProxyProcess, free_port
from tests.support.programs import LIMIT
from tests.support.prometheus import require_prometheus
from tests.support.source import ROOT
from tests.support.upstream import Recorded, Upstream
from tests.support.wire import message

PAGE = ROOT / "docs" / "recipes.md"
CURL = [block.code for block in blocks(PAGE, "bash") if block.heading == "curl"]
FORM = "Content-Type: application/x-www-form-urlencoded"
GO = "Go-http-client/1.1"


@dataclass(frozen=True)
class Sent:
    """A request as a client makes it; `source` is where that is to be read."""

    client: str
    source: str
    line: str
    fields: tuple[str, ...]
    body: bytes = b""


SENT = [
    Sent(
        "OpenTelemetry Collector",
        "exporter/prometheusremotewriteexporter/exporter.go, execute",
        "POST /api/v1/write",
        (
            "User-Agent: OpenTelemetry Collector Contrib/0.120.0 (linux/amd64)",
            "Content-Encoding: snappy",
            "Content-Type: application/x-protobuf",
            "X-Prometheus-Remote-Write-Version: 0.1.0",
            "Accept-Encoding: gzip",
        ),
        encode([Sample.of("up", 1.0, 1_767_323_045_000, job="otel")]),
    ),
    Sent(
        "KEDA",
        "pkg/scalers/prometheus_scaler.go, ExecutePromQuery: the time is not escaped",
        "GET /api/v1/query?query=sum%28rate%28http_requests_total%7Bnamespace%3D%22shop%22%7D%5B2m"
        "%5D%29%29&time=2026-01-02T03:04:05Z",
        (f"User-Agent: {GO}", "Accept-Encoding: gzip"),
    ),
    Sent(
        "Kubecost, OpenCost",
        "pkg/prom/query.go, query: a POST with everything in its URL, and no body",
        "POST /api/v1/query?query=avg%28node_total_hourly_cost%29+by+%28node%29",
        (f"User-Agent: {GO}", "Content-Length: 0", "Accept-Encoding: gzip"),
    ),
    Sent(
        "Kubecost, OpenCost: a range",
        "pkg/prom/query.go, queryRange",
        "POST /api/v1/query_range?end=2026-01-02T04%3A00%3A00Z&query=up"
        "&start=2026-01-02T03%3A00%3A00Z&step=60.000",
        (f"User-Agent: {GO}", "Content-Length: 0", "Accept-Encoding: gzip"),
    ),
    Sent(
        "Grafana",
        "its Prometheus client: the form in the body, with httpMethod POST",
        "POST /api/v1/query_range",
        ("User-Agent: Grafana/11.2.0", FORM, "Accept-Encoding: gzip", "X-Grafana-Org-Id: 1"),
        b"end=1767326400&query=sum+by+%28job%29+%28up%29&start=1767322800&step=60",
    ),
    Sent(
        "Grafana: names of labels",
        "its resource calls",
        "GET /api/v1/label/__name__/values?start=1767322800&end=1767326400&match%5B%5D=up",
        ("User-Agent: Grafana/11.2.0", "Accept-Encoding: gzip"),
    ),
    Sent(
        "Thanos Ruler",
        "pkg/promclient/promclient.go, QueryInstant, with query.http-method POST",
        "POST /api/v1/query",
        ("User-Agent: Thanos/0.36.0", FORM, "Accept-Encoding: gzip"),
        b"dedup=true&partial_response=false&query=up&time=1767323045.123",
    ),
    Sent(
        "Thanos Ruler: what it records",
        "Prometheus's own remote write",
        "POST /api/v1/write",
        (
            "User-Agent: Prometheus/v0.53.1",
            "Content-Encoding: snappy",
            "Content-Type: application/x-protobuf",
            "X-Prometheus-Remote-Write-Version: 0.1.0",
        ),
        encode([Sample.of("job:up:sum", 1.0, 1_767_323_045_000)]),
    ),
]


@pytest.fixture
def second(authority: Authority) -> Iterator[Upstream]:
    """Another target than `target`."""
    with closing(Upstream(authority.context())) as upstream:
        yield upstream


def assert_token(request: Recorded) -> None:
    authorization = request.one("Authorization")
    assert authorization is not None
    assert authorization.startswith("Bearer ey")


@pytest.mark.parametrize("sent", SENT, ids=lambda sent: sent.client)
def test_requests_of_clients_cross_as_they_are(
    proxy: ProxyProcess, target: Upstream, sent: Sent
) -> None:
    fields = [*sent.fields, "Authorization: Basic YTpi"]
    answer = proxy.ask(message(sent.line, *fields, body=sent.body))
    assert (answer.status, answer.body) == (200, b"ok")
    request = target.only()
    method, _, path = sent.line.partition(" ")
    assert (request.method.decode(), request.target.decode()) == (method, path)
    assert request.body == sent.body
    for field in sent.fields:
        name, _, value = field.partition(": ")
        assert request.all(name) == [value]
    assert_token(request)


@pytest.mark.parametrize(
    "sent", [sent for sent in SENT if sent.line.endswith("/write")], ids=lambda sent: sent.client
)
def test_a_refused_write_of_any_client_is_to_be_tried_again(
    proxy: ProxyProcess, target: Upstream, sent: Sent
) -> None:
    target.respond(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    answer = proxy.ask(message(sent.line, *sent.fields, body=sent.body))
    assert answer.status == 503
    assert b"TargetRefusedIdentity" in answer.body
    assert answer.one("Retry-After")


def test_every_client_of_the_page_is_tried() -> None:
    [table] = re.findall(r"^\| client \|.*?\n\n", PAGE.read_text(), re.M | re.S)
    listed = set(re.findall(r"\[([^\]]+)\]\(#", table))
    tried = {sent.client for sent in SENT} | {"curl", "Prometheus", "Operator", "vmagent"}
    assert listed - {"TARGET"} == {client for client in tried if ":" not in client}
    for client, path in re.findall(r"^\| \[([^\]]+)\].*? \| `(?:GET|POST) (\S+)`", table, re.M):
        sent = [one.line for one in SENT if one.client == client]
        assert not sent or any(line.split()[1].startswith(path) for line in sent), client


def test_curl_asks_as_the_page_says(proxy: ProxyProcess, target: Upstream) -> None:
    [script] = CURL
    script = script.replace("127.0.0.1:8082", f"127.0.0.1:{proxy.port}")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("okokok{")  # three answers of the target, one of the proxy
    instant, ranged, series = target.wait_for_requests(3)
    assert parse_qs(urlsplit(instant.target.decode()).query) == {"query": ["sum by (job) (up)"]}
    assert (ranged.method, ranged.target) == (b"POST", b"/api/v1/query_range")
    assert parse_qs(ranged.body.decode()) == {
        "query": ["up"],
        "start": ["2026-01-02T03:00:00Z"],
        "end": ["2026-01-02T04:00:00Z"],
        "step": ["60"],
    }
    assert urlsplit(series.target.decode()).path == "/api/v1/series"
    for request in (instant, ranged, series):
        assert_token(request)


@pytest.mark.real("prometheus")
def test_prometheus_writes_with_the_configuration_of_the_page(
    launch: Launch, second: Upstream, tmp_path: Path
) -> None:
    """Before a target of its own: what is under way as Prometheus ends would be another test's."""
    require_prometheus()
    proxy = launch(TARGET_HOST=second.authority)
    block = next(block for block in blocks(PAGE, "yaml") if block.heading == "Prometheus")
    host = "authproxy-ingestion.observability.svc"
    assert host in block.code
    configuration = yaml.safe_load(block.code.replace(host, f"127.0.0.1:{proxy.port}"))
    port = free_port()
    configuration["global"] = {"scrape_interval": "1s"}
    configuration["remote_write"][0]["queue_config"]["batch_send_deadline"] = "1s"
    configuration["scrape_configs"] = [
        {"job_name": "self", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    ]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            request = second.wait_for_requests(1)[0]
        except AssertionError as error:
            raise AssertionError((tmp_path / "log").read_text()) from error
        finally:
            process.kill()
            process.wait()
    assert (request.method, request.target) == (b"POST", b"/api/v1/write")
    assert request.one("X-Prometheus-Remote-Write-Version") == "0.1.0"
    assert (request.one("User-Agent") or "").startswith("Prometheus/")
    assert_token(request)
