"""METRICS_PORT: every outcome is counted, under the retired proxy's names and the new ones."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import Launch
from tests.support import actions, outcomes
from tests.support.identity import AUDIENCE, identity_settings
from tests.support.process import ProxyProcess, free_port, stopped, wait_until
from tests.support.scrape import ask_metrics_port, scrape, settled
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Upstream
from tests.support.wire import Client, message

REQUESTS = "aad_auth_proxy_requests_total"
LEGACY = ["target_host", "method", "path", "user_agent", "status_code"]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def shared(launch_for_module: Launch) -> ProxyProcess:
    """A proxy for tests that do not mind what others have had it count."""
    return launch_for_module(METRICS_PORT=str(free_port()))


@pytest.fixture
def shared_port(shared: ProxyProcess) -> int:
    return int(shared.settings["METRICS_PORT"])


def ask_quietly(proxy: ProxyProcess, count: int, target: str = "/x") -> None:
    """Send requests on one connection, one after the other."""
    with proxy.connect() as client:
        for _ in range(count):
            assert client.ask(message(f"GET {target}")).status == 200


def test_every_outcome_is_counted_with_its_labels(
    launch: Launch, target: Upstream, port: int
) -> None:
    proxy = launch(METRICS_PORT=str(port), **outcomes.SETTINGS)
    outcomes.drive(proxy, target)
    page = settled(port)
    counted = {
        (labels["method"], labels["path"]): int(labels["status_code"])
        for labels in page.labels(REQUESTS)
    }
    assert counted == outcomes.EXPECTED
    for name, labels, value in page.all(REQUESTS):
        assert value == 1, (name, labels)
        assert sorted(labels) == sorted(LEGACY)
        assert labels["target_host"] == target.authority
        assert labels["user_agent"] == "Prometheus/2.42.0"
    duration = "aad_auth_proxy_request_duration_milliseconds"
    assert page.sum(f"{duration}_count") == len(outcomes.EXPECTED)
    assert page.sum(f"{duration}_sum", path="/silent") >= 500
    bounds = {float(labels["le"]) for labels in page.labels(f"{duration}_bucket")}
    assert sorted(bounds)[:2] == [1, 2]
    assert sorted(bounds)[-2:] == [60_000, float("inf")]
    uploaded = {
        labels["path"]: value for _, labels, value in page.all("aad_auth_proxy_request_bytes_total")
    }
    assert uploaded["/upload"] == uploaded["/api/v1/write"] == len(outcomes.BODY)
    assert set(page.labels("aad_auth_proxy_request_bytes_total")[0]) == set(LEGACY) - {
        "status_code"
    }
    returned = {
        labels["path"]: value
        for _, labels, value in page.all("aad_auth_proxy_response_bytes_total")
    }
    assert set(page.labels("aad_auth_proxy_response_bytes_total")[0]) == set(LEGACY)
    assert returned["/fine"] == returned["/replayed"] == len(outcomes.ANSWER)
    assert returned["/cut"] == 5
    assert returned["/upload"] == 0


def test_retries_and_what_the_target_did_are_measured(
    launch: Launch, target: Upstream, port: int
) -> None:
    proxy = launch(METRICS_PORT=str(port), **outcomes.SETTINGS)
    outcomes.drive(proxy, target)
    page = settled(port)
    retries = "aad_auth_proxy_target_retries_total"
    assert page.sum(retries, target_host=target.authority, reason="unauthorized") == 1
    client = "http_client_request_duration_seconds_count"
    assert page.sum(client, http_response_status_code="401", error_type="401") == 1
    assert page.sum(client, http_response_status_code="403") == 1
    assert page.sum(client, error_type="TargetTimeout") == 1
    assert page.sum(client, error_type="TargetProtocolError") == 2  # nonsense, and the cut
    for labels in page.labels(client):
        assert labels["server_address"] == "localhost"
        assert labels["server_port"] == str(target.port)
        assert labels["http_request_method"] in ("GET", "POST")
    server = "http_server_request_duration_seconds_count"
    assert page.sum(server, http_response_status_code="503") == 1
    assert page.sum(server, http_response_status_code="405", http_request_method="TRACE") == 1
    bounds = {
        float(each["le"]) for each in page.labels("http_server_request_duration_seconds_bucket")
    }
    assert (min(bounds), sorted(bounds)[-2]) == (0.001, 60)


def test_a_dead_connection_is_a_retry(launch: Launch, target: Upstream, port: int) -> None:
    proxy = launch(METRICS_PORT=str(port), TARGET_POOL_SIZE="1")
    assert proxy.get("/first").status == 200
    target.script(
        actions.only_on_reused(actions.then_cut(), actions.raw(actions.answer(200))),
    )
    assert proxy.get("/x").status == 200
    assert settled(port).sum("aad_auth_proxy_target_retries_total", reason="dead_connection") == 1


def test_an_unreachable_target_is_counted(launch: Launch, port: int) -> None:
    proxy = launch(METRICS_PORT=str(port), TARGET_HOST=f"localhost:{free_port()}")
    assert proxy.get("/x").status == 503
    page = settled(port)
    assert page.sum(REQUESTS, status_code="503", path="/x") == 1
    assert (
        page.sum("http_client_request_duration_seconds_count", error_type="TargetUnreachable") == 1
    )


def test_refreshes_are_counted_by_outcome(
    launch: Launch, target: Upstream, entra: StandInEntra, port: int
) -> None:
    entra.fail_with(500)
    settings = {"METRICS_PORT": str(port), **identity_settings(entra)}
    proxy = launch(ready=False, AAD_CLIENT_ID="11111111-1111-1111-1111-111111111111", **settings)
    proxy.wait_for_line("Failed to refresh token")
    assert proxy.get("/x").status == 503
    refreshes = "aad_auth_proxy_token_refresh_total"
    wait_until(  # counted just after it is logged
        "the failure is counted", lambda: settled(port).sum(refreshes, is_success="false") >= 1
    )
    page = settled(port)
    assert page.sum(refreshes, is_success="true") == 0
    assert page.all("aad_auth_proxy_token_expiry_timestamp_seconds") == []
    assert page.sum(REQUESTS, status_code="503") == 1
    entra.recover()
    proxy.wait_ready()
    wait_until(  # counted just after it is there
        "the refresh is counted", lambda: settled(port).sum(refreshes, is_success="true") > 0
    )
    page = settled(port)
    ((_, labels, value),) = page.all(refreshes, is_success="true")
    assert value == 1
    assert labels == {
        "audience": f"{AUDIENCE}/.default",
        "client_id": "11111111-1111-1111-1111-111111111111",
        "tenant_id": "",
        "identity_type": "systemassigned",
        "is_success": "true",
    }
    ((_, labels, expiry),) = page.all("aad_auth_proxy_token_expiry_timestamp_seconds")
    assert labels == {"audience": f"{AUDIENCE}/.default"}
    assert abs(expiry - entra.issued[-1].claims["exp"]) < 5


def test_requests_in_flight_are_those_whose_answer_has_not_ended(
    launch: Launch, target: Upstream, port: int
) -> None:
    proxy = launch(METRICS_PORT=str(port))
    gate = target.gate()
    target.respond(actions.raw(actions.head(200, "Content-Length: 2") + b"o", gate, b"k"))
    with proxy.connect() as client:
        client.send(message("GET /x"))
        client.receive_head()
        page = scrape(port)
        assert page.sum("aad_auth_proxy_requests_in_flight") == 1
        assert page.all(REQUESTS) == []
    gate.open()
    assert settled(port).sum(REQUESTS, status_code="200") == 1


def test_probes_and_scrapes_are_no_requests(launch: Launch, target: Upstream, port: int) -> None:
    proxy = launch(METRICS_PORT=str(port))
    assert proxy.get("/health").status == proxy.get("/ready").status == 200
    page = settled(port)
    assert page.all(REQUESTS) == page.all("http_server_request_duration_seconds_count") == []
    # Letter for letter: these are forwarded, and so counted.
    assert proxy.get("/%68ealth").status == proxy.get("/x?y=/health").status == 200
    assert settled(port).sum("http_server_request_duration_seconds_count") == 2


def test_each_port_has_its_own(shared: ProxyProcess, target: Upstream, shared_port: int) -> None:
    assert shared.get("/metrics").status == 200
    assert target.only().target == b"/metrics"
    for path in ("/", "/health", "/api/v1/write", "/metrics/", "//metrics", "http://x/y"):
        status, content_type, body = ask_metrics_port(shared_port, path)
        assert (status, content_type) == (404, "application/json"), path
        assert json.loads(body)["code"] == "NoRoute"
    for path in ("/metrics#x", "/#/metrics", "/metrics?#", "http://h/metrics#"):
        assert ask_metrics_port(shared_port, path)[0] == 400, path
    assert ask_metrics_port(shared_port, method="DELETE")[0] == 405
    status, content_type, body = ask_metrics_port(shared_port, method="HEAD")
    assert (status, body) == (200, "")
    assert content_type.startswith("text/plain")
    assert len(target.requests) == 1


def test_open_metrics_is_given_to_who_asks(
    shared: ProxyProcess, target: Upstream, shared_port: int
) -> None:
    assert shared.get("/x").status == 200
    settled(shared_port)
    accept = "application/openmetrics-text; version=1.0.0"
    _, content_type, body = ask_metrics_port(shared_port, accept=accept)
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")
    assert f"{REQUESTS}{{" in body


def test_no_name_is_doubled_and_no_label_added(
    shared: ProxyProcess, target: Upstream, shared_port: int
) -> None:
    assert shared.get("/x").status == 200
    text = settled(shared_port).text
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    ours = {name: kind for name, kind in types.items() if name.startswith("aad_auth_proxy_")}
    assert ours == {
        "aad_auth_proxy_requests_total": "counter",
        "aad_auth_proxy_request_duration_milliseconds": "histogram",
        "aad_auth_proxy_request_bytes_total": "counter",
        "aad_auth_proxy_response_bytes_total": "counter",
        "aad_auth_proxy_token_refresh_total": "counter",
        "aad_auth_proxy_target_retries_total": "counter",
        "aad_auth_proxy_target_responses_total": "counter",
        "aad_auth_proxy_log_lines_lost_total": "counter",
        "aad_auth_proxy_token_expiry_timestamp_seconds": "gauge",
        "aad_auth_proxy_requests_in_flight": "gauge",
        "aad_auth_proxy_tunnels_open": "gauge",
    }
    assert types["http_server_request_duration_seconds"] == "histogram"
    assert types["http_client_request_duration_seconds"] == "histogram"
    assert types["process_resident_memory_bytes"] == "gauge"
    assert types["python_gc_collections_total"] == "counter"
    assert "otel_scope" not in text


def test_a_taken_metrics_port_is_told_before_anything_starts(
    base_settings: dict[str, str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = ProxyProcess({**base_settings, "METRICS_PORT": str(port)}, exit_status=1)
        try:
            process.start(ready=False)
        except AssertionError:
            pass  # Else its other port was there for a moment.
        process.wait_for_line(f"METRICS_PORT: cannot listen on .*{port}")
        assert process.wait() == 1
        process.stop()


def test_a_flood_on_the_proxied_port_leaves_scrapes_answered(
    launch: Launch, target: Upstream, port: int
) -> None:
    proxy = launch(METRICS_PORT=str(port), THREADS="2")
    gate = target.gate()
    target.respond(actions.raw(gate, actions.answer(200)))
    threads = [threading.Thread(target=proxy.get, args=("/x",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    target.wait_for("every thread is busy", lambda: len(target.requests) == 2)
    assert scrape(port).sum("aad_auth_proxy_requests_in_flight") == 2
    gate.open()
    for thread in threads:
        thread.join()


def metrics_client(port: int) -> Client:
    return Client(("127.0.0.1", port))


def test_it_is_as_strict_as_the_proxied_port_and_says_so_in_the_same_form(
    target: Upstream, shared_port: int
) -> None:
    blanks = b"GET /metrics HTTP/1.1\r\nHost: a\r\nX:" + b" " * 15_900 + b"\x01\r\n\r\n"
    for raw, status in {
        blanks: 400,
        b"GET /metrics HTTP/1.1\r\n\r\n": 400,
        b"\x16\x03\x01\x02\x00\x01\x00": 400,
        message("GET /metrics", "X: " + "x" * 20_000): 431,
        message("POST /metrics", "Content-Length: 2000"): 413,
        message("POST /metrics", "Transfer-Encoding: gzip"): 501,
    }.items():
        with metrics_client(shared_port) as client:
            client.offer(raw)
            response = client.receive()
            assert (response.status, response.one("Connection")) == (status, "close")
            assert set(json.loads(response.body)) == {"code", "message"}
    assert ask_metrics_port(shared_port)[0] == 200


def test_no_target_and_no_version_is_too_odd_for_a_response(
    target: Upstream, shared_port: int
) -> None:
    for odd in ("http://[", "http://[::1/x", "//[", "nonsense", "*", "/\xff%zz"):
        with metrics_client(shared_port) as client:
            assert client.ask(message(f"GET {odd}")).status in (400, 404), odd
    for version in (
        "x",
        "1 x",
        "1\tx",
        "1.0.0.x",
        "1..0",
        "\xb2",
        "-1",
        '"1.0.0"',
        "1.0.0",
        "",
        "9" * 500,
    ):
        for kind in ("application/openmetrics-text", "text/plain"):
            with metrics_client(shared_port) as client:
                response = client.ask(message("GET /metrics", f"Accept: {kind}; version={version}"))
                assert (response.status, b"# TYPE" in response.body) == (200, True), version


def test_a_crowd_of_idle_connections_keeps_no_scrape_out(
    target: Upstream, shared_port: int
) -> None:
    with ExitStack() as stack:
        for _ in range(110):
            stack.enter_context(metrics_client(shared_port))
        for _ in range(3):
            assert ask_metrics_port(shared_port)[0] == 200


def test_requests_on_a_unix_socket_are_counted(
    launch: Launch, target: Upstream, port: int, tmp_path: Path
) -> None:
    proxy = launch(unix_socket=tmp_path / "s", METRICS_PORT=str(port))
    assert proxy.get("/x").status == 200
    page = settled(port)
    assert page.sum(REQUESTS) == page.sum("http_server_request_duration_seconds_count") == 1


# -- several workers ---------------------------------------------------------------


@pytest.fixture
def two_workers(launch: Launch, port: int) -> ProxyProcess:
    proxy = launch(METRICS_PORT=str(port), WORKERS="2", SHUTDOWN_GRACE_SECONDS="20")
    proxy.wait_for_tokens(2)
    return proxy


def serve_with_both(proxy: ProxyProcess, count: int) -> None:
    """Have each worker serve `count` requests, by stopping the other meanwhile."""
    first, second = proxy.workers()
    for running, other in ((first, second), (second, first)):
        assert running
        with stopped(other):
            ask_quietly(proxy, count)


def test_the_sums_of_two_workers_are_exact_whoever_is_asked(
    two_workers: ProxyProcess, target: Upstream, port: int
) -> None:
    serve_with_both(two_workers, 20)
    settled(port, requests=40)
    for _ in range(8):  # the kernel gives them to either worker
        page = settled(port)
        assert page.sum(REQUESTS) == 40
        assert page.sum("aad_auth_proxy_request_duration_milliseconds_count") == 40
        assert page.sum("aad_auth_proxy_token_refresh_total", is_success="true") == 2
        assert len(page.all("aad_auth_proxy_token_expiry_timestamp_seconds")) == 1


def test_sums_do_not_fall_when_a_worker_dies(
    two_workers: ProxyProcess, target: Upstream, port: int
) -> None:
    serve_with_both(two_workers, 20)
    settled(port, requests=40)
    os.kill(two_workers.workers()[0], signal.SIGKILL)
    two_workers.wait_for_line("Worker died")
    assert settled(port).sum(REQUESTS) == 40
    two_workers.wait_for_tokens(3)
    ask_quietly(two_workers, 5)
    settled(port, requests=45)
    for _ in range(4):
        assert settled(port).sum(REQUESTS) == 45


def test_a_worker_that_hangs_counts_with_its_last_word(
    two_workers: ProxyProcess, target: Upstream, port: int
) -> None:
    serve_with_both(two_workers, 10)
    settled(port, requests=20)
    hanging, _ = two_workers.workers()
    with stopped(hanging):
        assert settled(port).sum(REQUESTS) == 20


def test_sums_do_not_fall_while_a_worker_drains(
    launch: Launch, target: Upstream, port: int
) -> None:
    proxy = launch(METRICS_PORT=str(port), WORKERS="2", SHUTDOWN_GRACE_SECONDS="20")
    proxy.wait_for_tokens(2)
    serve_with_both(proxy, 10)
    settled(port, requests=20)
    first, second = proxy.workers()
    gate = target.gate()
    target.respond(actions.raw(gate, actions.answer(200)))
    with ExitStack() as stack:
        with stopped(second):
            client = stack.enter_context(proxy.connect())
            client.send(message("GET /held"))
            target.wait_for("it is held", lambda: target.requests[-1].target == b"/held")
        # One that does not report within a second counts with its last report.
        in_flight = "aad_auth_proxy_requests_in_flight"
        wait_until("it is in flight", lambda: scrape(port).sum(in_flight) == 1)
        os.kill(first, signal.SIGTERM)
        proxy.wait_for_event("Draining")
        for _ in range(5):
            page = scrape(port)
            assert page.sum(REQUESTS) == 20
            assert page.sum(in_flight) == 1
        gate.open()
        assert client.receive().status == 200
    totals: list[float] = []
    while "Worker died" not in proxy.log:
        totals.append(scrape(port).sum(REQUESTS))
    totals.append(scrape(port).sum(REQUESTS))
    assert totals == sorted(totals)
    assert totals[0] >= 20
    assert totals[-1] == 21


def test_workers_need_no_disk(launch: Launch, target: Upstream, port: int, tmp_path: Path) -> None:
    proxy = launch(METRICS_PORT=str(port), WORKERS="2", TMPDIR=str(tmp_path))
    proxy.wait_for_tokens(2)
    for pid in (proxy.pid, *proxy.workers()):  # as on a full disk
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, 0))
    serve_with_both(proxy, 5)
    settled(port, requests=10)
    os.kill(proxy.workers()[0], signal.SIGTERM)
    proxy.wait_for_tokens(3)  # so has its successor
    assert settled(port).sum(REQUESTS) == 10
    assert list(tmp_path.iterdir()) == []
    proxy.signal(signal.SIGTERM)
    assert proxy.wait() == 0


def test_a_parent_that_hangs_costs_the_sums_and_no_request(
    two_workers: ProxyProcess, target: Upstream, port: int
) -> None:
    with stopped(two_workers.pid):
        ask_quietly(two_workers, 5)
        assert two_workers.get("/health").status == 200
        status, _, body = ask_metrics_port(port)
        assert (status, json.loads(body)["code"]) == (503, "MetricsUnavailable")
        status, _, body = ask_metrics_port(port, "/status.json")
        assert status == 200
        assert json.loads(body)["silent_workers"] == [None]
        assert len(json.loads(body)["workers"]) == 1
    settled(port, requests=5)
