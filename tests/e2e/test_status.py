"""/status and /status.json on METRICS_PORT: what the proxy knows of itself, and no secret."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import authproxy
from authproxy.demo.stand_ins.directory import METRICS_INGESTION
from authproxy.telemetry.recent_requests import KINDS
from tests.conftest import Launch
from tests.support import actions, outcomes
from tests.support.authority import Authority
from tests.support.client_certificates import ClientAuthority
from tests.support.identity import AUDIENCE, application_settings
from tests.support.logfmt import parse_line
from tests.support.outcomes import REMOTE_WRITE
from tests.support.process import ProxyProcess, free_port, stopped, wait_until
from tests.support.routes import to, write_routes
from tests.support.scrape import get
from tests.support.source import ROOT
from tests.support.stand_ins.applications import Application
from tests.support.stand_ins.entra import StandInEntra
from tests.support.status import Page, page_of, settled_status, status_of
from tests.support.tls_client import Certificates
from tests.support.upstream import Upstream
from tests.support.wire import message

REVISION = "0123456789abcdef" * 2

TIMES = "\N{MULTIPLICATION SIGN}"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def second(authority: Authority) -> Iterator[Upstream]:
    """Another target than `target`."""
    upstream = Upstream(authority.context())
    yield upstream
    upstream.close()


@pytest.fixture(scope="module")
def shared(
    launch_for_module: Launch, shared_entra: StandInEntra, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ProxyProcess, int]:
    """A proxy that may have seen requests of other tests here, and its METRICS_PORT."""
    port = free_port()
    proxy = launch_for_module(
        METRICS_PORT=str(port),
        AUTHPROXY_REVISION=REVISION,
        **application_settings(shared_entra, tmp_path_factory.mktemp("s")),
    )
    return proxy, port


def totals(status: dict[str, Any]) -> dict[str, int]:
    return {kind: count for kind, count in status["requests"]["totals"].items() if count}


def seconds(moment: str) -> float:
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


# -- requests ----------------------------------------------------------------------


def test_every_outcome_is_counted_and_every_failure_told(
    launch: Launch, target: Upstream, port: int
) -> None:
    proxy = launch(METRICS_PORT=str(port), **outcomes.SETTINGS)
    outcomes.drive(proxy, target)
    assert proxy.ask(b"GET /x HTTP/1.1\r\n folded\r\n\r\n").status == 400
    status = settled_status(port)
    assert totals(status) == {
        "target_2xx": 3,
        "target_4xx": 2,
        "target_cut": 1,
        "proxy_4xx": 3,
        "proxy_5xx": 2,
    }
    minutes = status["requests"]["minutes"]
    assert len(minutes) == 15
    assert sum(minute[kind] for minute in minutes for kind in KINDS) == 11
    failures = {failure["path"]: failure for failure in status["failures"]}
    assert {path: (each["status"], each["code"]) for path, each in failures.items()} == {
        "/missing": (404, None),
        "/api/v1/write": (403, "TargetRefusedIdentity"),
        "/silent": (504, "TargetTimeout"),
        "/nonsense": (502, "TargetProtocolError"),
        "/cut": (200, "TargetProtocolError"),
        "/traced": (405, "MethodNotAllowed"),
        "/too-large": (413, "RequestBodyTooLarge"),
        "/x": (400, "BadRequest"),
    }
    assert failures["/missing"]["text"] == outcomes.ANSWER.decode()
    assert "Monitoring Metrics Publisher" in failures["/api/v1/write"]["text"]
    assert failures["/api/v1/write"]["text"].endswith("\nrole")
    page = page_of(port)
    for failure in failures.values():
        assert f"{failure['method']} {failure['path']}" in page.text
        assert " ".join(failure["text"].split()) in page.text
    assert f"3 {TIMES} 2xx of the target" in page.text
    assert f"2 {TIMES} 5xx of authproxy" in page.text


def test_neither_queries_nor_clients_are_told_of(
    shared: tuple[ProxyProcess, int], target: Upstream
) -> None:
    proxy, port = shared
    target.respond(actions.raw(actions.answer("400 Bad Request", body=b"no")))
    asked = proxy.get("/q?planted=query", "User-Agent: planted-agent", "X-Other: planted-field")
    assert asked.status == 400
    assert proxy.ask(b"GET /q?planted=query HTTP/1.1\r\nHost: a b\r\n\r\n").status == 400
    failures = [each for each in settled_status(port)["failures"] if each["path"] == "/q"]
    assert len(failures) == 2
    endpoint = status_of(port)["routes"][0]["tokens"][0]["endpoint"]
    for path in ("/status", "/status.json"):
        body = get(port, path).body.replace(endpoint, "")  # which has the same address here
        assert "planted" not in body
        assert "127.0.0.1" not in body


MARKUP = "<script>alert(1)</script><img/src=x/onerror=alert(2)>'\"&amp;"


def test_markup_of_clients_and_targets_stays_text(
    shared: tuple[ProxyProcess, int], target: Upstream
) -> None:
    proxy, port = shared
    clean = page_of(port)
    body = f"{MARKUP}\x00\ud800</pre></li>".encode("utf-8", "surrogatepass")
    target.respond(actions.raw(actions.answer("500 <b>", body=body)))
    assert proxy.get(f"/{MARKUP}", f"User-Agent: {MARKUP}").status == 500
    assert proxy.ask(f"G<b>T /{MARKUP} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).status == 400
    assert proxy.ask(b"X'ET /odd HTTP/1.1\r\nHost: x\r\n\r\n").status == 500
    settled_status(port)
    page = page_of(port)
    assert set(page.elements) - set(clean.elements) <= {"ol", "li", "pre", "strong", "rect", "g"}
    assert page.elements["script"] == page.elements["img"] == page.elements["b"] == 0
    assert not any(name.startswith("on") for name in page.attributes)
    assert "style" not in page.attributes
    assert page.text.count("<script>alert(1)</script>") >= 2
    assert "X'ET /odd" in page.text


def test_failures_are_bounded(shared: tuple[ProxyProcess, int], target: Upstream) -> None:
    proxy, port = shared
    body = b"\x01" * 100_000
    target.respond(actions.raw(actions.answer("500 Oops", body=body)))
    with proxy.connect() as client:
        for number in range(40):
            assert client.ask(message(f"GET /{number}/{'p' * 5000}")).status == 500
    status = settled_status(port)
    assert len(status["failures"]) == 20
    assert status["failures"][0]["path"] == f"/39/{'p' * 196}"
    assert len(get(port, "/status").body) < 200_000


def test_requests_in_flight_are_told(shared: tuple[ProxyProcess, int], target: Upstream) -> None:
    proxy, port = shared
    gate = target.gate()
    target.respond(actions.raw(actions.head(200, "Content-Length: 2") + b"o", gate, b"k"))
    settled_status(port)  # of another test's requests
    with proxy.connect() as client:
        client.send(message("GET /x"))
        client.receive_head()
        status = status_of(port)
        assert (status["in_flight"], status["threads"]) == (1, 32)
        assert "In flight 1 of 32 threads" in page_of(port).text
    gate.open()
    settled_status(port)


# -- the pages ---------------------------------------------------------------------


def test_pages_are_answered_as_pages_are(shared: tuple[ProxyProcess, int]) -> None:
    _, port = shared
    for path, kind in (
        ("/status", "text/html; charset=utf-8"),
        ("/status.json", "application/json"),
    ):
        got, head = get(port, path), get(port, path, "HEAD")
        assert (got.status, head.status, head.body) == (200, 200, "")
        assert got.headers["content-type"] == head.headers["content-type"] == kind
        assert got.headers["cache-control"] == "no-store"
        assert got.headers["x-content-type-options"] == "nosniff"
        for method in ("POST", "DELETE", "OPTIONS"):
            refused = get(port, path, method)
            assert (refused.status, json.loads(refused.body)["code"]) == (405, "MethodNotAllowed")
    for path in ("/status/", "/status.html", "//status", "/STATUS", "/%73tatus"):
        assert get(port, path).status == 404, path
    assert "/status.json" in json.loads(get(port, "/").body)["message"]


def test_the_page_may_load_nothing_and_run_nothing(shared: tuple[ProxyProcess, int]) -> None:
    _, port = shared
    got = get(port, "/status")
    policy = got.headers["content-security-policy"]
    directives = dict(each.strip().split(" ", 1) for each in policy.split(";"))
    assert directives.pop("style-src").startswith("'sha256-")
    assert directives == {
        "default-src": "'none'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    page = Page.of(got.body)
    assert "script" not in page.elements
    assert set(page.links) == {"data:,", "status", "status?refresh", "status.json", "metrics"}


def test_the_page_reloads_itself_only_where_that_was_asked_for(
    shared: tuple[ProxyProcess, int],
) -> None:
    _, port = shared
    assert "refresh" not in get(port, "/status").headers
    assert get(port, "/status?refresh").headers["refresh"] == "15"
    assert "refresh" not in get(port, "/status?other").headers


def test_build_and_uptime_are_told(shared: tuple[ProxyProcess, int]) -> None:
    _, port = shared
    status = status_of(port)
    assert status["build"] == {
        "version": authproxy.__version__,
        "python": platform.python_version(),
        "revision": REVISION,
    }
    up = seconds(status["time_at"]) - seconds(status["started_at"])
    assert abs(status["uptime_seconds"] - up) <= 1
    assert f"Version {authproxy.__version__} ( 0123456789ab )" in page_of(port).text


# -- tokens ------------------------------------------------------------------------


def test_the_token_of_a_route_is_told_with_its_lifetime(
    shared: tuple[ProxyProcess, int], shared_entra: StandInEntra, target: Upstream
) -> None:
    proxy, port = shared
    settings = proxy.settings
    status = status_of(port)
    assert status["state"] == "ready"
    (route,) = status["routes"]
    assert (route["name"], route["target"]) == ("", target.url)
    assert route["audience"] == f"{AUDIENCE}/.default"
    assert route["identity"] == {
        "type": "aadapplication",
        "client_id": settings["AAD_CLIENT_ID"],
        "tenant_id": settings["AAD_TENANT_ID"],
    }
    (token,) = route["tokens"]
    assert token["valid"]
    assert token["error"] is None
    issued = [
        each for each in shared_entra.issued if each.claims["appid"] == settings["AAD_CLIENT_ID"]
    ]
    assert abs(seconds(token["expires_at"]) - issued[-1].claims["exp"]) <= 1
    assert 0.9 < token["left"] <= 1
    assert token["left_at_refresh"] == pytest.approx(0.1, abs=0.002)
    assert abs(seconds(token["next_attempt_at"]) - seconds(token["refresh_at"])) <= 1
    page = page_of(port)
    for told in (target.url, settings["AAD_CLIENT_ID"], settings["AAD_TENANT_ID"], "valid until"):
        assert told in page.text


def test_a_failing_identity_is_explained_with_a_hint(
    launch: Launch, entra: StandInEntra, tmp_path: Path, port: int
) -> None:
    settings = application_settings(entra, tmp_path) | {"AAD_CLIENT_SECRET": "planted-not-the-one"}
    proxy = launch(METRICS_PORT=str(port), ready=False, **settings)
    proxy.wait_for_event("Failed to refresh token")
    status = status_of(port)
    assert status["state"] == "not ready"
    (token,) = status["routes"][0]["tokens"]
    assert (token["valid"], token["expires_at"], token["left"]) == (False, None, None)
    error = token["error"]
    assert error["code"] == "AADSTS7000215"
    # As the log and `authproxy check` have it, of this attempt.
    explained = f"{error['cause']} ({error['code']}). {error['hint']}."
    trace = re.escape(error["detail"].partition("Trace ID: ")[2].split()[0])
    event = parse_line(proxy.wait_for_line(f"Failed to refresh token.*{trace}"))
    assert event["Error"] == f"{explained} ({error['detail']})"
    page = page_of(port)
    for told in (error["cause"], error["hint"], "AADSTS7000215", "Not ready", "none yet"):
        assert told.lower() in page.text.lower()
    assert "planted" not in get(port, "/status").body + get(port, "/status.json").body


# -- targets -----------------------------------------------------------------------


def test_a_target_that_refuses_every_write_makes_trouble_whatever_the_token_says(
    launch: Launch, target: Upstream, entra: StandInEntra, tmp_path: Path, port: int
) -> None:
    settings = application_settings(entra, tmp_path) | {"AUDIENCE": METRICS_INGESTION}
    proxy = launch(METRICS_PORT=str(port), WORKERS="2", **settings)
    proxy.wait_for_tokens(2)
    target.respond(actions.answer("403 Forbidden", body=b"no role"))
    for _ in range(3):
        assert proxy.ask(message("POST /api/v1/write", REMOTE_WRITE, body=b"x")).status == 503
    status = settled_status(port)
    why = "the target responds with 403 to every write"
    assert (status["state"], status["reasons"]) == ("ready, with trouble", [why])
    assert proxy.get("/ready").status == 200
    (route,) = status["routes"]
    (refusing,) = route["refusing"]
    assert (refusing["requests"], refusing["status"], refusing["refusals"]) == ("write", 403, 3)
    assert seconds(refusing["since_at"]) <= seconds(status["time_at"])
    likeliest = refusing["causes"][0]
    assert "Monitoring Metrics Publisher" in likeliest["cause"]
    assert f"--assignee-object-id {route['tokens'][0]['oid']} " in likeliest["commands"][-1]
    page = page_of(port)
    for told in (f"ready, but {why}", likeliest["cause"], *likeliest["commands"]):
        assert told in page.text
    target.respond(actions.head("204 No Content"))
    assert proxy.ask(message("POST /api/v1/write", REMOTE_WRITE, body=b"x")).status == 204
    status = settled_status(port)
    assert (status["state"], status["reasons"]) == ("ready", [])
    assert status["routes"][0]["refusing"] == []


def test_host_rate_and_latency_are_told(shared: tuple[ProxyProcess, int], target: Upstream) -> None:
    proxy, port = shared
    assert proxy.get("/x").status == 200
    status = settled_status(port)
    assert status["host"] == platform.node()
    traffic = status["routes"][0]["traffic"]
    assert traffic["requests"] >= 1
    assert traffic["rate"] > 0
    assert 0 < traffic["p50_ms"] <= traffic["p99_ms"]
    page = page_of(port)
    assert f"on {platform.node()} . As of" in page.text
    assert re.search(r"Requests [\d.,]+/s in the last 5 minutes", page.text)
    assert re.search(r"half below [\d.]+ m?s, 99 % below [\d.]+ m?s", page.text)


# -- certificates ------------------------------------------------------------------


def test_the_end_of_the_certificates_is_told(
    launch: Launch, entra: StandInEntra, tmp_path: Path, port: int
) -> None:
    """Of the one that clients are shown, and of the one that proves the identity."""
    ours = ClientAuthority().issue(days=20)
    (tmp_path / "client.pem").write_bytes(ours.pem())
    application = entra.register(Application(certificates=(ours.certificate,)))
    listening = Certificates(tmp_path)
    listening.issue(days=90)
    proxy = launch(
        METRICS_PORT=str(port),
        WORKERS="2",
        IDENTITY_TYPE="aadapplication",
        AAD_CLIENT_CERTIFICATE_PATH=str(tmp_path / "client.pem"),
        **entra.application_environment(application, tmp_path / "entra-ca.pem"),
        **listening.settings,
        ready=False,
    )
    proxy.wait_for_tokens(2)
    status = settled_status(port)
    assert status["state"] == "ready"
    assert status["certificate"]["state"] == "valid"
    for token in status["routes"][0]["tokens"]:
        assert token["certificate"]["state"] == "expires soon"
        assert (
            seconds(token["certificate"]["expires_at"])
            == ours.certificate.not_valid_after_utc.timestamp()
        )
    page = page_of(port)
    assert "TLS certificate valid until" in page.text
    assert "Client certificate expires soon: " in page.text

    def state() -> str:
        return str(status_of(port)["certificate"]["state"])

    listening.issue("second", days=13)
    wait_until("the new one is in use", lambda: state() == "expires soon")
    assert "TLS certificate expires soon: " in page_of(port).text
    listening.issue("third", days=-1)
    wait_until("the one that has expired is in use", lambda: state() == "expired")
    assert status_of(port)["state"] == "ready, with trouble"
    assert "TLS certificate expired at " in page_of(port).text


def test_without_a_certificate_there_is_nothing_to_tell(shared: tuple[ProxyProcess, int]) -> None:
    _, port = shared
    status = status_of(port)
    assert status["certificate"] is None
    assert status["routes"][0]["tokens"][0]["certificate"] is None
    assert "certificate" not in page_of(port).text


# -- reloads -----------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "2"])
def test_after_a_reload_the_new_routes_are_shown_and_a_refusal_is(
    launch: Launch, target: Upstream, second: Upstream, tmp_path: Path, port: int, workers: str
) -> None:
    config = write_routes(tmp_path / "authproxy.yaml", [to(target, path="/a")])
    proxy = launch(
        without=("TARGET_HOST",), AUTHPROXY_CONFIG=str(config), METRICS_PORT=str(port),
        WORKERS=workers,
    )  # fmt: skip
    count = int(workers)
    proxy.wait_for_tokens(count)
    assert status_of(port)["reload"] is None
    write_routes(config, [to(target, path="/a"), to(second, path="/b")])
    proxy.signal(signal.SIGHUP)
    wait_until("all have reloaded", lambda: proxy.log.count('"Settings reloaded"') == count)
    status = settled_status(port)
    assert [route["name"] for route in status["routes"]] == ["/a", "/b"]
    assert status["routes"][1]["target"] == second.url
    assert [len(route["tokens"]) for route in status["routes"]] == [count, count]
    assert status["reload"]["error"] is None
    write_routes(config, [{"path": "/c", "target_host": "https://planted:secret@x.example.com"}])
    proxy.signal(signal.SIGHUP)
    proxy.wait_for_line("Settings not reloaded")
    wait_until("it is told", lambda: status_of(port)["reload"]["error"] is not None)
    for _ in range(4):  # whichever worker answers
        status = settled_status(port)
        assert "TARGET_HOST" in status["reload"]["error"]
        assert [route["name"] for route in status["routes"]] == ["/a", "/b"]
        page = page_of(port)
        assert "refused" in page.text
        assert status["reload"]["error"] in page.text
        assert "planted" not in page.text


# -- several workers ---------------------------------------------------------------


def test_every_worker_is_shown_whoever_is_asked(
    launch: Launch, target: Upstream, port: int
) -> None:
    proxy = launch(METRICS_PORT=str(port), WORKERS="2")
    proxy.wait_for_tokens(2)
    target.on("/missing", actions.raw(actions.answer("404 Not Found", body=b"not here")))
    first, last = proxy.workers()
    for other in (first, last):
        with stopped(other):
            for _ in range(5):
                assert proxy.get("/x").status == 200
            assert proxy.get("/missing").status == 404
    for _ in range(8):  # the kernel gives them to either worker
        status = settled_status(port)
        assert status["state"] == "ready"
        assert totals(status) == {"target_2xx": 10, "target_4xx": 2}
        assert {worker["pid"] for worker in status["workers"]} == {first, last}
        assert status["threads"] == 64
        (route,) = status["routes"]
        assert {token["worker"] for token in route["tokens"]} == {first, last}
        (failure,) = status["failures"]
        assert (failure["path"], failure["times"], failure["text"]) == ("/missing", 2, "not here")
    text = page_of(port).text
    assert f"Token of worker {first}" in text
    assert f"Token of worker {last}" in text
    with stopped(first):
        text = page_of(port).text
    assert "ready, but a worker does not respond" in text
    assert "Workers 1 and 1 silent" in text
    assert f"{first} does not respond" in text
    os.kill(first, signal.SIGKILL)
    proxy.wait_for_line("Worker died")
    assert first not in {worker["pid"] for worker in settled_status(port)["workers"]}


# -- the documentation -------------------------------------------------------------

FILTERS = re.findall(
    r"^curl -s \S+/status\.json \| jq (?:-r )?(?:'([^']+)'|(\S+))$",
    (ROOT / "docs" / "status.md").read_text(),
    re.M,
)


@pytest.mark.real("jq")
@pytest.mark.parametrize("query", [quoted or bare for quoted, bare in FILTERS])
def test_documented_filters_find_something(
    shared: tuple[ProxyProcess, int], target: Upstream, query: str
) -> None:
    if shutil.which("jq") is None:
        pytest.skip("no jq is installed")
    proxy, port = shared
    assert proxy.ask(message("TRACE /x")).status == 405
    settled_status(port)
    told = get(port, "/status.json").body
    done = subprocess.run(["jq", "-r", query], input=told, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "null" not in done.stdout
