"""A collector in trouble costs no request anything, and a hostile client no memory."""

from __future__ import annotations

import itertools
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import grpc
import pytest

from authproxy.demo.stand_ins.acceptor import Acceptor
from authproxy.telemetry.exporters import QUIET_SECONDS
from tests.conftest import Launch
from tests.support.collector import Collector
from tests.support.process import ProxyProcess, free_port, wait_until
from tests.support.scrape import scrape, settled
from tests.support.upstream import Upstream
from tests.support.wire import DEADLINE, message

SOON = {
    "OTEL_BSP_SCHEDULE_DELAY": "50",
    "OTEL_METRIC_EXPORT_INTERVAL": "100",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
}
FAILING = "Telemetry export failing"


class Silent:
    """Listens, accepts, and never says a word."""

    def __init__(self) -> None:
        self._arrived = threading.Semaphore(0)
        self._over = threading.Event()
        self._acceptor = Acceptor(self._serve)
        self.endpoint = f"localhost:{self._acceptor.port}"

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._acceptor.close()

    def _serve(self, _: socket.socket) -> None:
        self._arrived.release()
        self._over.wait()

    def wait_for_connection(self) -> None:
        assert self._arrived.acquire(timeout=DEADLINE)


@pytest.fixture(params=["absent", "silent", "refusing"])
def endpoint(request: pytest.FixtureRequest) -> Iterator[str]:
    """The endpoint of a collector in trouble."""
    with ExitStack() as stack:
        if request.param == "absent":
            yield f"localhost:{free_port()}"
        elif request.param == "silent":
            yield stack.enter_context(Silent()).endpoint
        else:
            collector = stack.enter_context(Collector())
            collector.refusal = grpc.StatusCode.UNAVAILABLE
            yield collector.endpoint


def test_requests_are_answered_and_one_line_tells(
    launch: Launch, target: Upstream, endpoint: str
) -> None:
    proxy = launch(OTEL_GRPC_ENDPOINT=endpoint, OTEL_LOGS_EXPORTER="otlp", **SOON)
    assert proxy.get("/x").status == 200
    event = proxy.wait_for_event(FAILING)
    assert event["level"] == "warning"
    with proxy.connect() as client:
        for _ in range(200):
            assert client.ask(message("GET /x")).status == 200
    proxy.stop()  # which checks that it ends well and in time
    assert QUIET_SECONDS == 60
    assert proxy.log.count(FAILING) == 1
    assert "Transient error" not in proxy.log.replace(event["Problem"], "")


@pytest.mark.parametrize("path", ["grpc", "http/protobuf"])
def test_an_end_is_not_held_up_by_a_collector_that_hangs(
    launch: Launch, target: Upstream, path: str
) -> None:
    with Silent() as silent:
        proxy = launch(
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{silent.endpoint}",
            OTEL_EXPORTER_OTLP_PROTOCOL=path,
            OTEL_BSP_SCHEDULE_DELAY="50",
            OTEL_EXPORTER_OTLP_TIMEOUT="3600",
            SHUTDOWN_GRACE_SECONDS="1",
        )
        assert proxy.get("/x").status == 200
        silent.wait_for_connection()
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0


def test_a_second_signal_ends_the_flush_too(launch: Launch, target: Upstream) -> None:
    with Silent() as silent:
        proxy = launch(
            OTEL_GRPC_ENDPOINT=silent.endpoint,
            OTEL_BSP_SCHEDULE_DELAY="50",
            OTEL_EXPORTER_OTLP_TIMEOUT="3600",
            SHUTDOWN_GRACE_SECONDS="600",
        )
        assert proxy.get("/x").status == 200
        silent.wait_for_connection()
        proxy.signal(signal.SIGTERM)
        proxy.wait_for_line('msg="Stopped"')
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 128 + signal.SIGTERM
        proxy.exit_status = None


def test_what_is_left_is_sent_at_the_end(launch: Launch, target: Upstream) -> None:
    with Collector() as collector:
        proxy = launch(
            OTEL_GRPC_ENDPOINT=collector.endpoint,
            OTEL_BSP_SCHEDULE_DELAY="3600000",
            OTEL_METRIC_EXPORT_INTERVAL="3600000",
        )
        assert proxy.get("/x").status == 200
        assert collector.spans == []
        proxy.stop()
        assert collector.spans_named("ProxyRequest")
        assert collector.points("aad_auth_proxy_requests_total", path="/x")


@pytest.mark.slow
def test_memory_is_bounded_while_nothing_can_be_exported(launch: Launch, target: Upstream) -> None:
    with Silent() as silent:
        proxy = launch(
            OTEL_GRPC_ENDPOINT=silent.endpoint,
            OTEL_LOGS_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_TIMEOUT="3600",
        )
        agent = f"User-Agent: {'x' * 4000}"
        flood(proxy, (message(f"GET /x?{'q' * 4000}", agent) for _ in range(1500)))
        before = proxy.resident_bytes()
        flood(proxy, (message(f"GET /x?{'q' * 4000}", agent) for _ in range(1500)))
        assert proxy.resident_bytes() - before < 8_000_000


# -- a hostile client --------------------------------------------------------------


def flood(proxy: ProxyProcess, requests: Iterator[bytes], *, at_once: int = 50) -> None:
    """Send requests down one connection, some ahead of their answers."""
    with proxy.connect() as client:
        while batch := list(itertools.islice(requests, at_once)):
            client.send(b"".join(batch))
            for _ in batch:
                assert client.receive().status == 200


def made_up(first: int, count: int) -> Iterator[bytes]:
    """Yield requests with a path, method, agent, host and version of each its own."""
    for number in range(first, first + count):
        yield message(
            f"M{number} /made/up/{number}?q={number}",
            f"User-Agent: agent-{number}/{number}.0",
            host=f"host-{number}.example.com",
        )


@pytest.mark.slow
def test_ten_thousand_paths_agents_and_methods_make_a_bounded_number_of_series(
    launch: Launch, target: Upstream
) -> None:
    port = free_port()
    proxy = launch(METRICS_PORT=str(port), LOG_LEVEL="error")
    flood(proxy, made_up(0, 5000))
    page = settled(port)
    series, before = len(page.series), proxy.resident_bytes()
    flood(proxy, made_up(5000, 5000))
    # Each label has its hundred values; what makes new combinations of them is bounded too.
    mixed = (
        message(f"M{n % 100} /made/up/{n // 7 % 100}", f"User-Agent: agent-{n % 83}/{n % 83}.0")
        for n in range(3000)
    )
    page = settled(port)
    assert page.sum("aad_auth_proxy_requests_total") == 10_000
    assert len(page.series) <= series + 40
    assert proxy.resident_bytes() - before < 8_000_000
    for label in ("method", "path", "user_agent"):
        seen = {labels[label] for labels in page.labels("aad_auth_proxy_requests_total")}
        assert len(seen) == 101
        assert "other" in seen
    methods = page.labels("http_server_active_requests")
    assert {labels["http_request_method"] for labels in methods} == {"_OTHER"}
    flood(proxy, mixed)
    combined = len(settled(port).all("aad_auth_proxy_requests_total"))
    assert combined <= 1000 + 101


def test_a_page_of_everything_is_given_while_requests_go_on(
    launch: Launch, target: Upstream
) -> None:
    port = free_port()
    proxy = launch(METRICS_PORT=str(port), LOG_LEVEL="error")
    flood(proxy, made_up(0, 300))
    with proxy.connect() as client:
        client.send(b"".join(made_up(300, 50)))
        wait_until(
            "some are counted", lambda: scrape(port).sum("aad_auth_proxy_requests_total") > 300
        )
        for _ in range(50):
            assert client.receive().status == 200
