"""No sample is lost to a role that is still spreading."""

from __future__ import annotations

import json

import pytest

from tests.conftest import Launch
from tests.support import actions
from tests.support.expect import assert_own_error
from tests.support.identity import identity_settings
from tests.support.process import ProxyProcess
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Upstream
from tests.support.wire import chunks, message

SAMPLES = b"\x08\x1csnappy, to the proxy"
VERSION = "X-Prometheus-Remote-Write-Version: 0.1.0"
PROTOBUF = ("Content-Type: application/x-protobuf", "Content-Encoding: snappy")
PROTOBUF_2 = (
    "Content-Type: application/x-protobuf;proto=io.prometheus.write.v2.Request",
    "Content-Encoding: snappy",
)
WRITES = {
    "prometheus": (VERSION, *PROTOBUF, "User-Agent: Prometheus/3.0"),
    "by-version": (VERSION,),
    "by-content": PROTOBUF,
    "by-content-2.0": PROTOBUF_2,
    "by-content-in-upper-case": (
        "Content-Type: APPLICATION/X-PROTOBUF",
        "Content-Encoding: Snappy",
    ),
}

#: OTLP exporters drop a batch on 4xx as well.
EXPORTS = {
    "metrics": ("/v1/metrics", "application/x-protobuf"),
    "logs": ("/v1/logs", "application/x-protobuf"),
    "traces": ("/v1/traces", "application/x-protobuf"),
    "json": ("/v1/metrics", "application/json; charset=utf-8"),
    "below-a-path": (
        "/dcr-1/streams/Microsoft-OTLP-Metrics/otlp/v1/metrics?x=1",
        "APPLICATION/JSON",
    ),
}


def refusal(status: int) -> bytes:
    return actions.answer(status, ("X-Ms-Request-Id", "7"), body=b'{"error": "no such role"}')


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("lines", WRITES.values(), ids=WRITES)
def test_a_refused_write_is_to_be_sent_again_later(
    proxy: ProxyProcess, target: Upstream, lines: tuple[str, ...], status: int
) -> None:
    target.respond(refusal(status))
    raw = message("POST /api/v1/write", *lines, "X-Request-ID: id-1", body=SAMPLES)
    response = proxy.ask(raw)
    said = assert_own_error(response, 503, "TargetRefusedIdentity")
    assert str(status) in said
    assert "Monitoring Metrics Publisher" in said
    assert int(response.one("Retry-After") or 0) > 0
    assert response.one("X-Request-ID") == "id-1"


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(("path", "content"), EXPORTS.values(), ids=EXPORTS)
def test_a_refused_otlp_export_is_to_be_sent_again_later(
    proxy: ProxyProcess, target: Upstream, path: str, content: str, status: int
) -> None:
    target.respond(refusal(status))
    fields = (f"Content-Type: {content}", "Content-Encoding: gzip")
    response = proxy.ask(message(f"POST {path}", *fields, body=SAMPLES))
    assert str(status) in assert_own_error(response, 503, "TargetRefusedIdentity")
    assert int(response.one("Retry-After") or 0) > 0


#: What a target says, and what is told of it.
SAID = {
    "private link": (
        403,
        b'{"error": {"message": "Public network access is not allowed"}}',
        "private endpoints only",
    ),
    "audience": (401, b'{"error": "AKV10022: Invalid audience. Expected api://x"}', "api://x"),
    "signature": (401, b"IDX10501: Signature validation failed", "signature is wrong"),
}


@pytest.mark.parametrize("said", SAID)
def test_what_the_target_says_is_what_is_told(
    proxy: ProxyProcess, target: Upstream, said: str
) -> None:
    """To the sender of a write, and in the log for any request."""
    status, body, cause = SAID[said]
    target.respond(actions.answer(status, body=body))
    mark = proxy.mark()
    response = proxy.ask(message("POST /write", VERSION, body=SAMPLES))
    assert cause in assert_own_error(response, 503, "TargetRefusedIdentity")
    target.respond(actions.answer(status, body=body))
    assert proxy.get("/a-query").status == status
    line = proxy.wait_for_line(f"Error response body.*a-query.*StatusCode={status}", after=mark)
    assert cause in line


@pytest.mark.parametrize("status", [401, 403])
def test_the_log_of_a_refused_write_has_the_true_status_and_the_targets_words(
    proxy: ProxyProcess, target: Upstream, status: int
) -> None:
    target.respond(refusal(status))
    mark = proxy.mark()
    assert proxy.ask(message("POST /write", VERSION, body=SAMPLES)).status == 503
    # The other row's line may still be on its way here: wait for the one with this status.
    line = proxy.wait_for_line(f"no such role.*StatusCode={status}", after=mark)
    assert "level=error" in line


def test_a_refused_write_is_sent_again_with_a_fresh_token_first(
    launch: Launch, target: Upstream, entra: StandInEntra
) -> None:
    proxy = launch(**identity_settings(entra))
    target.script(actions.raw(refusal(401)))
    assert proxy.ask(message("POST /write", VERSION, body=SAMPLES)).status == 200
    assert [request.body for request in target.requests] == [SAMPLES, SAMPLES]


@pytest.mark.parametrize("body", [b"", b"n" * 3_000_000], ids=["empty", "large"])
def test_a_refusal_of_any_size_is_one(proxy: ProxyProcess, target: Upstream, body: bytes) -> None:
    target.respond(actions.answer(403, body=body))
    response = proxy.ask(message("POST /write", VERSION, body=SAMPLES))
    assert_own_error(response, 503, "TargetRefusedIdentity")


@pytest.mark.parametrize(
    "begun",
    [b"", chunks(b"no such", end=False), b"ffff\r\nno"],
    ids=["empty", "chunk", "half-chunk"],
)
def test_a_refusal_whose_body_never_ends_is_one_at_once(
    proxy: ProxyProcess, target: Upstream, begun: bytes
) -> None:
    head = actions.head(403, "Transfer-Encoding: chunked")
    target.respond(actions.stall(target.gate(), head + begun))
    response = proxy.ask(message("POST /write", VERSION, body=SAMPLES))
    assert_own_error(response, 503, "TargetRefusedIdentity")


@pytest.mark.parametrize("begun", [b"", b"half"], ids=["empty", "half"])
def test_a_refusal_whose_body_is_cut_is_one(
    proxy: ProxyProcess, target: Upstream, begun: bytes
) -> None:
    target.respond(actions.then_close(actions.head(403, "Content-Length: 9"), begun))
    response = proxy.ask(message("POST /write", VERSION, body=SAMPLES))
    assert_own_error(response, 503, "TargetRefusedIdentity")


QUERIES = {
    "get": message("GET /api/v1/query?query=up"),
    "post": message(
        "POST /api/v1/query", "Content-Type: application/x-www-form-urlencoded", body=b"query=up"
    ),
    "otlp-path-alone": message("POST /v1/metrics", "Content-Type: text/plain", body=SAMPLES),
    "otlp-content-alone": message("POST /x", "Content-Type: application/x-protobuf", body=SAMPLES),
    "otlp-get": message("GET /v1/logs", "Content-Type: application/json"),
    "otlp-query": message("POST /x?/v1/logs", "Content-Type: application/json", body=SAMPLES),
    "json": message("POST /v1/metrics/x", "Content-Type: application/json", body=SAMPLES),
    "snappy-of-something-else": message(
        *("POST /x", "Content-Type: application/json", "Content-Encoding: snappy"), body=SAMPLES
    ),
}


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("raw", QUERIES.values(), ids=QUERIES)
def test_a_refusal_of_anything_else_is_the_clients(
    proxy: ProxyProcess, target: Upstream, raw: bytes, status: int
) -> None:
    target.respond(refusal(status))
    response = proxy.ask(raw)
    assert (response.status, response.body) == (status, b'{"error": "no such role"}')
    assert response.one("X-Ms-Request-Id") == "7"


@pytest.mark.parametrize("status", [200, 204, 400, 404, 409, 413, 429, 500, 503])
def test_every_other_answer_to_a_write_is_the_clients(
    proxy: ProxyProcess, target: Upstream, status: int
) -> None:
    body = b"" if status == 204 else b"said"
    raw = (
        actions.head(204) if status == 204 else actions.answer(status, "Retry-After: 9", body=body)
    )
    target.respond(raw)
    response = proxy.ask(message("POST /api/v1/write", *WRITES["prometheus"], body=SAMPLES))
    assert (response.status, response.body) == (status, body)
    assert response.all("Retry-After") == ([] if status == 204 else ["9"])


@pytest.fixture(scope="module")
def plain(launch_for_module: Launch) -> ProxyProcess:
    return launch_for_module(REMOTE_WRITE_RETRY_AUTH_FAILURES="false")


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("lines", [WRITES["prometheus"], ["Content-Type: application/json"]])
def test_the_rule_can_be_turned_off(
    plain: ProxyProcess, target: Upstream, lines: tuple[str, ...], status: int
) -> None:
    target.respond(refusal(status))
    response = plain.ask(message("POST /v1/metrics", *lines, body=SAMPLES))
    assert (response.status, response.body) == (status, b'{"error": "no such role"}')


# -- the sidecar's way ------------------------------------------------------------------


@pytest.fixture(scope="module")
def sidecar(launch_for_module: Launch, base_settings: dict[str, str]) -> ProxyProcess:
    host = base_settings["TARGET_HOST"]
    url = f"https://{host}/dataCollectionRules/dcr-1/streams/Microsoft-PrometheusMetrics"
    return launch_for_module(
        without=("TARGET_HOST",),
        INGESTION_URL=f"{url}/api/v1/write?api-version=2023-04-24",
        CLUSTER="cluster-1",
    )


@pytest.mark.parametrize("path", ["/api/v1/write", "/api/v1/write?x=1", "/api/v1/write?"])
def test_a_write_goes_to_exactly_the_ingestion_url(
    sidecar: ProxyProcess, target: Upstream, path: str
) -> None:
    assert sidecar.ask(message(f"POST {path}", VERSION, body=SAMPLES)).status == 200
    request = target.only()
    assert request.target == (
        b"/dataCollectionRules/dcr-1/streams/Microsoft-PrometheusMetrics/api/v1/write"
        b"?api-version=2023-04-24"
    )
    assert request.body == SAMPLES
    assert (request.one("Authorization") or "").startswith("Bearer ey")


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/api/v1/writ", "/api/v1/write/", "//api/v1/write", "/api/v1/query?query=up"),
        *("/api/v1/%77rite", "/x/../api/v1/write", "/API/V1/WRITE", "/api/v1/write;x"),
    ],
)
def test_nothing_but_a_write_is_forwarded_to_the_ingestion_url(
    sidecar: ProxyProcess, target: Upstream, path: str
) -> None:
    assert_own_error(sidecar.ask(message(f"POST {path}", body=SAMPLES)), 404, "NoRoute")
    assert target.requests == []


def test_the_probes_answer_beside_the_ingestion_url(
    sidecar: ProxyProcess, target: Upstream
) -> None:
    assert json.loads(sidecar.get("/ready").body)
    assert sidecar.get("/health").status == 200
    assert target.requests == []


def test_a_role_that_is_still_spreading_delays_a_write_to_the_ingestion_url(
    sidecar: ProxyProcess, target: Upstream
) -> None:
    target.respond(refusal(403))
    response = sidecar.ask(message("POST /api/v1/write", VERSION, body=SAMPLES))
    assert_own_error(response, 503, "TargetRefusedIdentity")
