"""A real collector sees each instrument, span and log line, and no secret in any."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import trustme

from tests.conftest import Launch
from tests.support import actions, outcomes
from tests.support.collector import Collector, HTTPCollector, Received, Span
from tests.support.identity import AUDIENCE, SECRET, application_settings, identity_settings
from tests.support.process import ProxyProcess, free_port
from tests.support.scrape import settled
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Upstream
from tests.support.wire import message

#: Soon enough to wait for.
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_METRIC_EXPORT_INTERVAL": "200"}
SOON |= {"OTEL_BLRP_SCHEDULE_DELAY": "100"}

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACEPARENT = f"traceparent: 00-{TRACE}-{PARENT}-01"

LEGACY = {"target_host", "method", "path", "user_agent", "status_code"}
SERVER, CLIENT, ERROR = 2, 3, 2


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture
def exporting(collector: Collector, launch: Launch) -> Launch:
    """What is started here ends before the collector does, and so need not try to reach it."""

    def start(**settings: str) -> ProxyProcess:
        return launch(**{"OTEL_GRPC_ENDPOINT": collector.endpoint, **SOON, **settings})

    return start


def spans_of(received: Received, count: int, name: str = "ProxyRequest") -> list[Span]:
    found: list[Span] = received.wait_for(
        f"{count} {name}",
        lambda: len(received.spans_named(name)) >= count and received.spans_named(name),
    )
    return found


# -- metrics -----------------------------------------------------------------------


def test_each_instrument_is_exported_with_each_label(
    exporting: Launch, collector: Collector, target: Upstream
) -> None:
    proxy = exporting(**outcomes.SETTINGS)
    outcomes.drive(proxy, target)
    requests = "aad_auth_proxy_requests_total"
    collector.wait_for(
        "every outcome", lambda: len(collector.points(requests)) == len(outcomes.EXPECTED)
    )
    proxy.stop()
    counted = {
        (point.attributes["method"], point.attributes["path"]): point.attributes["status_code"]
        for point in collector.points(requests)
    }
    assert counted == outcomes.EXPECTED
    kinds = {
        name: (points[0].kind, points[0].unit, set(points[0].attributes))
        for name in collector.names
        if (points := collector.points(name)) and name.startswith("aad_auth_proxy_")
    }
    identity = {"audience", "client_id", "tenant_id", "identity_type"}
    assert kinds == {
        "aad_auth_proxy_requests_total": ("counter", "", LEGACY),
        "aad_auth_proxy_request_duration_milliseconds": ("histogram", "ms", LEGACY),
        "aad_auth_proxy_request_bytes_total": ("counter", "By", LEGACY - {"status_code"}),
        "aad_auth_proxy_response_bytes_total": ("counter", "By", LEGACY),
        "aad_auth_proxy_token_refresh_total": ("counter", "", identity | {"is_success"}),
        "aad_auth_proxy_target_retries_total": ("counter", "", {"target_host", "reason"}),
        "aad_auth_proxy_target_responses_total": (
            *("counter", ""),
            {"target_host", "kind", "identity"},
        ),
        "aad_auth_proxy_log_lines_lost_total": ("counter", "", set()),
        "aad_auth_proxy_token_expiry_timestamp_seconds": ("gauge", "s", {"audience"}),
        "aad_auth_proxy_requests_in_flight": ("up-down counter", "", set()),
        "aad_auth_proxy_tunnels_open": ("up-down counter", "", set()),
    }
    (durations,) = collector.points("aad_auth_proxy_request_duration_milliseconds", path="/fine")
    assert (durations.bounds[0], durations.bounds[-1]) == (1, 60_000)
    for point in collector.points("http.server.request.duration"):
        assert (point.unit, point.bounds[0], point.bounds[-1]) == ("s", 0.001, 60)
    assert collector.points("http.client.request.duration", **{"error.type": "TargetTimeout"})
    (refreshed,) = collector.points("aad_auth_proxy_token_refresh_total", is_success=True)
    assert refreshed.value == 1 or refreshed.value == 2  # the 401 asked for another
    assert refreshed.attributes["audience"] == f"{AUDIENCE}/.default"


def test_the_resource_names_this_process(
    exporting: Launch, collector: Collector, target: Upstream
) -> None:
    proxy = exporting(
        OTEL_SERVICE_NAME="ingestion", OTEL_RESOURCE_ATTRIBUTES="deployment.environment=test"
    )
    pid = proxy.pid
    assert proxy.get("/x").status == 200
    proxy.stop()
    for resource in collector.resources:
        assert resource["service.name"] == "ingestion"
        assert resource["service.version"]
        assert resource["process.pid"] == pid
        assert resource["deployment.environment"] == "test"
    assert len({resource["service.instance.id"] for resource in collector.resources}) == 1


def test_workers_export_under_names_of_their_own_and_the_parent_has_nothing_of_grpc(
    exporting: Launch, collector: Collector, target: Upstream
) -> None:
    for given in ({}, {"OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=pod-1"}):
        proxy = exporting(WORKERS="2", **given)
        proxy.wait_for_tokens(2)
        collector.resources.clear()
        collector.wait_for(
            "two instances",
            lambda: len({each["service.instance.id"] for each in collector.resources}) == 2,
        )
        assert len({each["process.pid"] for each in collector.resources}) == 2
        assert "cygrpc" not in Path(f"/proc/{proxy.pid}/maps").read_text()
        pid = collector.resources[0]["process.pid"]
        assert "cygrpc" in Path(f"/proc/{pid}/maps").read_text()
        proxy.stop()


def test_workers_counts_add_up_at_the_collector(
    exporting: Launch, collector: Collector, target: Upstream
) -> None:
    proxy = exporting(WORKERS="2")
    proxy.wait_for_tokens(2)
    for _ in range(30):
        assert proxy.get("/x").status == 200
    proxy.stop()
    points = collector.points("aad_auth_proxy_requests_total")
    assert sum(point.value for point in points) == 30


# -- traces ------------------------------------------------------------------------


def test_the_clients_trace_goes_through_to_the_target(
    exporting: Launch, collector: Collector, target: Upstream
) -> None:
    proxy = exporting()
    assert proxy.get("/x?a=b", TRACEPARENT, "tracestate: vendor=1", "baggage: a=b").status == 200
    (server,) = spans_of(collector, 1)
    (client,) = spans_of(collector, 1, "GET")
    assert (server.trace_id, server.parent_id, server.kind) == (TRACE, PARENT, SERVER)
    assert (client.trace_id, client.parent_id, client.kind) == (TRACE, server.span_id, CLIENT)
    sent = target.only()
    assert sent.one("traceparent") == f"00-{TRACE}-{client.span_id}-01"
    assert sent.one("tracestate") == "vendor=1"
    assert sent.one("baggage") == "a=b"
    assert server.attributes["url.path"] == "/x"
    assert server.attributes["url.query"] == "a=b"
    assert server.attributes["http.response.status_code"] == 200
    assert client.attributes["url.full"] == f"{target.url}/x?a=b"
    assert client.attributes["authproxy.attempt"] == 1
    assert client.attributes["server.address"] == "localhost"
    assert client.attributes["server.port"] == target.port
    assert "http.request.resend_count" not in client.attributes


def test_without_traces_the_context_passes_untouched(exporting: Launch, target: Upstream) -> None:
    for settings in ({"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "true"}):
        proxy = exporting(**settings)
        assert proxy.get("/x", TRACEPARENT).status == 200
        assert proxy.get("/y").status == 200
        with_it, without = target.wait_for_requests(2)
        assert with_it.one("traceparent") == TRACEPARENT.partition(": ")[2]
        assert without.one("traceparent") is None
        target.reset()


def test_each_attempt_has_a_span(exporting: Launch, collector: Collector, target: Upstream) -> None:
    proxy = exporting()
    target.script(actions.raw(actions.answer("401 Unauthorized")), actions.raw(actions.answer(200)))
    assert proxy.ask(message("PURGE /x", TRACEPARENT, body=b"b")).status == 200
    first, second = sorted(spans_of(collector, 2, "HTTP"), key=lambda span: span.start)
    assert [span.attributes["authproxy.attempt"] for span in (first, second)] == [1, 2]
    assert first.attributes["http.response.status_code"] == 401
    assert (first.status, first.attributes["error.type"]) == (ERROR, "401")
    assert second.attributes["http.request.resend_count"] == 1
    assert second.attributes["http.request.method"] == "_OTHER"
    assert second.attributes["http.request.method_original"] == "PURGE"
    assert second.status == 0
    sent = [request.one("traceparent") for request in target.wait_for_requests(2)]
    assert sent == [f"00-{TRACE}-{span.span_id}-01" for span in (first, second)]


def test_spans_last_until_the_answer_has_ended(
    exporting: Launch, collector: Collector, target: Upstream
) -> None:
    proxy = exporting()
    gate = target.gate()
    target.respond(actions.raw(actions.head(200, "Content-Length: 2") + b"o", gate, b"k"))
    with proxy.connect() as client:
        client.send(message("GET /streamed", TRACEPARENT))
        client.receive_head()
        target.script(actions.raw(actions.answer(200)))
        assert proxy.get("/quick").status == 200
        (quick,) = spans_of(collector, 1)
        assert quick.attributes["url.path"] == "/quick"
        gate.open()
        spans_of(collector, 2)
    streamed, exchange = (
        next(span for span in collector.spans if span.trace_id == TRACE and span.kind == kind)
        for kind in (SERVER, CLIENT)
    )
    assert streamed.start < quick.start < quick.end < exchange.end <= streamed.end
    line = proxy.wait_for_event("Successfully sent request", after=0)
    assert line  # the quick one; the streamed one's ids are seen below
    proxy.wait_for_line(f"Request=.*streamed.*trace_id={TRACE} span_id={streamed.span_id}")


def test_failures_are_on_the_spans(
    exporting: Launch, collector: Collector, target: Upstream
) -> None:
    proxy = exporting(**outcomes.SETTINGS)
    outcomes.drive(proxy, target)
    by_path = {
        span.attributes["url.path"]: span
        for span in spans_of(collector, len(outcomes.EXPECTED) - 1)  # the server refuses one
    }
    assert by_path["/silent"].attributes["authproxy.error"] == "TargetTimeout"
    assert by_path["/silent"].status == ERROR
    assert by_path["/cut"].attributes["error.type"] == "TargetProtocolError"
    assert by_path["/cut"].status == ERROR
    assert by_path["/api/v1/write"].attributes["authproxy.error"] == "TargetRefusedIdentity"
    assert by_path["/api/v1/write"].attributes["http.response.status_code"] == 503
    assert by_path["/traced"].attributes["authproxy.error"] == "MethodNotAllowed"
    assert by_path["/traced"].status == 0  # the client's own doing
    assert by_path["/missing"].status == by_path["/fine"].status == 0
    assert not {"/health", "/ready"} & by_path.keys()
    refused = [
        span for span in collector.spans_named("POST") if "api/v1" in span.attributes["url.full"]
    ]
    assert [span.attributes["http.response.status_code"] for span in refused] == [403]


def test_probes_are_not_traced_in_whichever_form(
    exporting: Launch, collector: Collector, target: Upstream
) -> None:
    proxy = exporting()
    for probe in ("/health", "/ready?x", "HTTP://proxy.test/ready"):
        assert proxy.get(probe).status == 200
    for forwarded in ("/readyness", "http://proxy.test/x/ready"):
        assert proxy.get(forwarded).status == 200
    paths = {span.attributes["url.path"] for span in spans_of(collector, 2)}
    assert paths == {"/readyness", "/x/ready"}


def test_refreshes_are_traced_with_expiry_and_next_refresh(
    exporting: Launch, collector: Collector, entra: StandInEntra
) -> None:
    entra.fail_with(500)
    proxy = exporting(ready=False, **identity_settings(entra))
    proxy.wait_for_line("Failed to refresh token")
    failed = spans_of(collector, 1, "refreshAADToken")[0]
    assert (failed.status, failed.attributes["is_success"]) == (ERROR, False)
    assert failed.attributes["tokenrefresh.next_refresh_timestamp"]
    entra.recover()
    proxy.wait_ready()
    refreshed = collector.wait_for(
        "success",
        lambda: [
            span
            for span in collector.spans_named("refreshAADToken")
            if span.attributes["is_success"]
        ],
    )[0]
    event = proxy.wait_for_event("Token refreshed")
    assert refreshed.attributes["token.expiry_timestamp"] == event["ExpiresOn"]
    assert refreshed.attributes["tokenrefresh.next_refresh_timestamp"] == event["NextRefresh"]
    assert refreshed.attributes["audience"] == f"{AUDIENCE}/.default"
    assert (event["trace_id"], event["span_id"]) == (refreshed.trace_id, refreshed.span_id)


def test_an_unsampled_request_is_not_traced_and_passes_that_on(
    exporting: Launch, collector: Collector, target: Upstream
) -> None:
    proxy = exporting(OTEL_TRACES_SAMPLER="parentbased_always_off")
    assert proxy.get("/off").status == 200
    assert "trace_id" not in proxy.wait_for_event("Successfully sent request")
    assert proxy.get("/on", TRACEPARENT).status == 200
    (span,) = spans_of(collector, 1)
    assert span.attributes["url.path"] == "/on"
    off, on = target.wait_for_requests(2)
    assert int((off.one("traceparent") or "-00")[-2:], 16) & 1 == 0
    assert (on.one("traceparent") or "")[-3:] == "-01"


def test_queries_stay_out_of_spans_where_they_stay_out_of_the_log(
    exporting: Launch, collector: Collector, target: Upstream
) -> None:
    proxy = exporting(LOG_QUERY="false", OTEL_LOGS_EXPORTER="otlp")
    assert proxy.get("/x?pass=pa55word").status == 200
    spans_of(collector, 1)
    proxy.stop()
    assert target.only().target == b"/x?pass=pa55word"
    assert not [payload for payload in collector.payloads if b"pa55word" in payload]


def test_captured_header_fields_show_no_credential(
    exporting: Launch, collector: Collector, target: Upstream
) -> None:
    proxy = exporting(OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST=".*")
    planted = "planted-credential-of-a-caller"
    names = ("Authorization", "Proxy-Authorization", "X-Authproxy-Token", "X-Other")
    carried = [f"{name}: Bearer {planted}" for name in names]
    assert proxy.get("/x", *carried, "X-Plain: shown").status == 200
    [span] = spans_of(collector, 1)
    proxy.stop()
    captured = {key for key in span.attributes if key.startswith("http.request.header.")}
    assert {f"http.request.header.{name}" for name in ("authorization", "x_plain")} <= captured
    assert not [payload for payload in collector.payloads if planted.encode() in payload]
    assert [payload for payload in collector.payloads if b"shown" in payload]


# -- logs --------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_log_lines_are_exported_as_they_are_written(
    exporting: Launch, collector: Collector, target: Upstream, form: str
) -> None:
    proxy = exporting(OTEL_LOGS_EXPORTER="otlp", LOG_FORMAT=form)
    assert proxy.get("/x?t=Bearer%20x", TRACEPARENT, "X-Request-ID: id-1").status == 200
    line = collector.wait_for(
        "the line",
        lambda: [each for each in collector.lines if each.body.startswith("Successfully sent")],
    )[0]
    (span,) = spans_of(collector, 1)
    assert (line.trace_id, line.span_id) == (TRACE, span.span_id)
    assert line.severity == "INFO"
    assert line.attributes["StatusCode"] == 200
    assert line.attributes["RequestID"] == "id-1"
    assert "trace_id" not in line.attributes
    written = proxy.wait_for_line("Successfully sent")
    if form == "json":
        event = json.loads(written)
        assert (event["trace_id"], event["span_id"]) == (TRACE, span.span_id)
        assert list(event)[-2:] == ["trace_id", "span_id"]
    else:
        assert written.endswith(f"trace_id={TRACE} span_id={span.span_id}")


# -- secrets, protocols ------------------------------------------------------------


def test_no_secret_is_in_anything_exported(
    exporting: Launch, collector: Collector, target: Upstream, entra: StandInEntra, tmp_path: Path
) -> None:
    inbound = "inbound-credential-of-a-client"
    looks_like_a_token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
    proxy = exporting(
        OTEL_LOGS_EXPORTER="otlp",
        LOG_LEVEL="debug",
        OVERRIDE_REQUEST_HEADERS=json.dumps({"X-Api-Key": "override-value-42"}),
        OTEL_EXPORTER_OTLP_HEADERS="api-key=collector-secret",
        **outcomes.SETTINGS,
        **application_settings(entra, tmp_path),
    )
    outcomes.drive(proxy, target)
    proxy.get(
        f"/x?access_token={looks_like_a_token}",
        f"Authorization: Bearer {inbound}",
        f"Cookie: {inbound}",
    )
    assert target.requests[-1].one("X-Api-Key") == "override-value-42"
    spans_of(collector, len(outcomes.EXPECTED))
    proxy.stop()
    exported = b"".join(collector.payloads)
    assert b"ProxyRequest" in exported
    assert b"refreshAADToken" in exported
    secrets = [SECRET, "override-value-42", "collector-secret", inbound, looks_like_a_token]
    secrets += [token.value for token in entra.issued]
    for secret in secrets:
        assert secret.encode() not in exported
        assert secret not in proxy.log
    assert collector.metadata[-1]["api-key"] == "collector-secret"


def test_the_standard_variables_lead_to_http_as_well(launch: Launch, target: Upstream) -> None:
    with HTTPCollector() as collector:
        proxy = launch(
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
            OTEL_EXPORTER_OTLP_HEADERS="x-tenant=me",
            OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
            OTEL_LOGS_EXPORTER="otlp",
            **SOON,
        )
        assert proxy.get("/x").status == 200
        spans_of(collector, 1)
        assert "cygrpc" not in Path(f"/proc/{proxy.pid}/maps").read_text()
        proxy.stop()
        assert collector.points("aad_auth_proxy_requests_total", path="/x")
        assert collector.lines
        assert {headers["x-tenant"] for headers in collector.headers} == {"me"}


def test_https_means_tls(launch: Launch, target: Upstream, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    credentials = grpc.ssl_server_credentials(
        [(issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes())]
    )
    with Collector(credentials=credentials) as collector:
        proxy = launch(
            OTEL_GRPC_ENDPOINT=f"https://{collector.endpoint}",
            OTEL_EXPORTER_OTLP_CERTIFICATE=str(tmp_path / "ca.pem"),
            **SOON,
        )
        assert proxy.get("/x").status == 200
        spans_of(collector, 1)
        proxy.stop()


def test_metrics_go_both_ways_when_both_are_asked_for(
    exporting: Launch, collector: Collector, target: Upstream
) -> None:
    port = free_port()
    proxy = exporting(METRICS_PORT=str(port))
    for _ in range(3):
        assert proxy.get("/x").status == 200
    assert settled(port).sum("aad_auth_proxy_requests_total") == 3
    proxy.stop()
    (point,) = collector.points("aad_auth_proxy_requests_total")
    assert point.value == 3
