"""One proxy in front of several targets: each request goes where its route leads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Launch
from tests.support.authority import Authority
from tests.support.expect import assert_own_error
from tests.support.logfmt import parse_line
from tests.support.process import ProxyProcess, free_port, wait_until
from tests.support.routes import to, write_routes
from tests.support.scrape import settled
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Upstream
from tests.support.wire import Response, message

INGESTION, QUERY = "https://monitor.azure.com", "https://prometheus.monitor.azure.com"
TOKEN = "correct-horse-battery-staple"


@pytest.fixture
def second(authority: Authority) -> Iterator[Upstream]:
    """Another target than `target`."""
    upstream = Upstream(authority.context())
    yield upstream
    upstream.close()


def bearer(target: Upstream) -> str:
    value = target.only().one("Authorization") or ""
    return value.removeprefix("Bearer ")


def audience(entra: StandInEntra, token: str) -> object:
    return next(each.claims["aud"] for each in entra.issued if each.value == token)


def ask(proxy: ProxyProcess, start: str, *fields: str, host: str = "proxy.test") -> Response:
    return proxy.ask(message(start, *fields, host=host))


def test_each_route_has_its_target_audience_and_header_fields(
    launch: Launch,
    target: Upstream,
    second: Upstream,
    tmp_path: Path,
    shared_entra: StandInEntra,
) -> None:
    routes = [
        to(
            target,
            path="/ingest",
            strip_path=True,
            audience=INGESTION,
            override_request_headers={"X-Scope-OrgID": "ingest"},
        ),
        to(second, path="/query", audience=QUERY),
    ]
    config = write_routes(tmp_path / "authproxy.yaml", routes)
    proxy = launch(without=("TARGET_HOST", "AUDIENCE"), AUTHPROXY_CONFIG=str(config))
    proxy.wait_for_every_route()
    assert ask(proxy, "POST /ingest/a%2Fb//c;x?y=%20&z").status == 200
    assert ask(proxy, "GET /query/api/v1/query?query=up").status == 200
    first = target.only()
    assert (first.target, first.one("X-Scope-Orgid")) == (b"/a%2Fb//c;x?y=%20&z", "ingest")
    assert first.one("Host") == target.authority
    other = second.only()
    assert other.target == b"/query/api/v1/query?query=up"
    assert other.one("X-Scope-Orgid") is None
    assert audience(shared_entra, bearer(target)) == INGESTION
    assert audience(shared_entra, bearer(second)) == QUERY
    event = parse_line(proxy.wait_for_line("Successfully sent request.* Route=/ingest"))
    assert event["Request"] == f"{target.url}/a%2Fb//c;x?y=%20&z"


def test_a_host_chooses_and_what_no_route_takes_gets_404(
    launch: Launch, target: Upstream, second: Upstream, tmp_path: Path
) -> None:
    routes = [to(target, host="a.example.com"), to(second, host="b.example.com", path="/b")]
    config = write_routes(tmp_path / "authproxy.yaml", routes)
    proxy = launch(without=("TARGET_HOST",), AUTHPROXY_CONFIG=str(config))
    for host in ("A.example.com:8081", "a.example.com.", "a.example.com:", "a.EXAMPLE.com.:80"):
        target.reset()
        assert ask(proxy, "GET /x", host=host).status == 200
        assert target.only().target == b"/x"
    assert ask(proxy, "GET http://a.example.com.:/x", host="b.example.com").status == 200
    assert ask(proxy, "GET /b/x", host="b.example.com").status == 200
    assert_own_error(ask(proxy, "GET /x", host="a.example.com:99999"), 400, "BadRequest")
    assert_own_error(ask(proxy, "GET http://[::1/x", host="a.example.com"), 400, "BadRequest")
    for start, host in [("GET /x", "b.example.com"), ("GET /x", "c.example.com")]:
        assert_own_error(ask(proxy, start, host=host), 404, "NoRoute")
    assert [request.target for request in target.requests] == [b"/x", b"/x"]
    assert second.only().target == b"/b/x"


def test_a_path_of_no_certain_route_gets_400_and_no_body_is_read(
    launch: Launch, target: Upstream, second: Upstream, tmp_path: Path
) -> None:
    routes = [to(target, path="/open"), to(second, path="/secret")]
    config = write_routes(tmp_path / "authproxy.yaml", routes)
    proxy = launch(without=("TARGET_HOST",), AUTHPROXY_CONFIG=str(config))
    for start in ("GET /open/../secret", "GET /open/%2e%2e/secret", "GET /%73ecret", "GET /Secret"):
        assert_own_error(ask(proxy, start), 400, "BadRequest")
    # The head alone is enough to say so: the body never comes.
    head = message("POST /elsewhere", "Content-Length: 1000")
    assert_own_error(proxy.ask(head), 404, "NoRoute")
    assert ask(proxy, "GET /open/a%2Fb").status == 200
    assert target.only().target == b"/open/a%2Fb"
    target.reset()
    deep = "/open/%" + "25" * 30_000 + "41"
    assert ask(proxy, f"POST {deep}", "Content-Length: 0").status == 200
    assert target.only().target == deep.encode()


def test_no_field_leads_a_request_of_one_route_to_another(
    launch: Launch, target: Upstream, tmp_path: Path
) -> None:
    routes = [to(target, path="/open"), to(target, path="/secret", allowed_methods="GET")]
    config = write_routes(tmp_path / "authproxy.yaml", routes)
    proxy = launch(without=("TARGET_HOST",), AUTHPROXY_CONFIG=str(config))
    sent = ("X-Original-URL: /secret", "X-Rewrite-URL: /secret", "X-HTTP-Method-Override: DELETE")
    assert ask(proxy, "POST /open", *sent).status == 200
    assert not target.only().names & {line.partition(":")[0].lower() for line in sent}


def test_each_route_lets_in_its_own_callers(
    launch: Launch, target: Upstream, second: Upstream, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    routes = [
        to(target, path="/guarded", inbound_token_file=str(tokens), allowed_methods="GET"),
        to(second, path="/open"),
    ]
    config = write_routes(tmp_path / "authproxy.yaml", routes)
    proxy = launch(without=("TARGET_HOST",), AUTHPROXY_CONFIG=str(config))
    assert ask(proxy, "POST /open").status == 200
    assert_own_error(ask(proxy, "GET /guarded"), 401, "Unauthorized")
    assert_own_error(
        proxy.ask(message("POST /guarded", "Content-Length: 1000")), 401, "Unauthorized"
    )
    carried = f"X-Authproxy-Token: {TOKEN}"
    assert_own_error(ask(proxy, "POST /guarded", carried), 405, "MethodNotAllowed")
    assert ask(proxy, "GET /guarded", carried).status == 200
    assert target.only().one("X-Authproxy-Token") is None


def test_an_ingestion_url_can_be_a_route(
    launch: Launch, target: Upstream, second: Upstream, tmp_path: Path
) -> None:
    routes = [
        {"path": "/write", "strip_path": True, "ingestion_url": f"{target.url}/dcr/write?v=1"},
        to(second),
    ]
    config = write_routes(tmp_path / "authproxy.yaml", routes)
    proxy = launch(without=("TARGET_HOST",), AUTHPROXY_CONFIG=str(config))
    assert ask(proxy, "POST /write/api/v1/write?ignored").status == 200
    assert_own_error(ask(proxy, "GET /write/api/v1/query"), 404, "NoRoute")
    assert ask(proxy, "GET /api/v1/query").status == 200
    assert target.only().target == b"/dcr/write?v=1"
    assert second.only().target == b"/api/v1/query"


def test_one_identity_that_fails_leaves_the_other_routes_alone(
    launch: Launch, target: Upstream, second: Upstream, tmp_path: Path, entra: StandInEntra
) -> None:
    routes = [
        to(target, path="/good"),
        to(second, path="/bad", identity_type="userassigned", aad_client_id="unknown"),
    ]
    config = write_routes(tmp_path / "authproxy.yaml", routes)
    proxy = launch(
        without=("TARGET_HOST",),
        AUTHPROXY_CONFIG=str(config),
        **entra.managed_identity_environment(),
    )
    proxy.wait_for_event("Failed to refresh token")
    assert ask(proxy, "GET /good").status == 200
    assert_own_error(ask(proxy, "GET /bad"), 503, "AuthenticationTokenNotFound")
    ready = proxy.get("/ready")
    said = json.loads(ready.body)
    assert ready.status == 200
    assert said["status"] == "ready, but for /bad: no valid token"
    good, bad = said["routes"]
    assert (good["name"], good["ready"], good["target"]) == ("/good", True, target.url)
    assert good["token"]["expires_at"]
    assert (bad["name"], bad["ready"], bad["token"]["expires_at"]) == ("/bad", False, None)
    assert bad["token"]["last_error"]
    assert proxy.get("/health").status == 200


def test_a_probe_lists_twenty_routes_at_most_and_counts_them(
    launch: Launch, target: Upstream, tmp_path: Path
) -> None:
    unknown = [to(target, path=f"/bad-{n}", audience=f"api://unknown-{n}") for n in range(25)]
    routes = [to(target, path="/good"), *unknown]
    config = write_routes(tmp_path / "authproxy.yaml", routes)
    proxy = launch(without=("TARGET_HOST",), AUTHPROXY_CONFIG=str(config))
    said = json.loads(proxy.get("/ready").body)
    assert (said["routes_ready"], said["routes_total"]) == (1, 26)
    names = [f"/bad-{n}" for n in range(20)]
    assert [route["name"] for route in said["routes"]] == names
    assert said["status"] == f"ready, but for {', '.join(names)} and 5 more: no valid token"
    assert proxy.get("/good").status == 200


def test_routes_with_the_same_identity_and_audience_share_their_tokens(
    launch: Launch, target: Upstream, second: Upstream, tmp_path: Path, entra: StandInEntra
) -> None:
    routes = [to(target, path="/a"), to(second, path="/b"), to(target, path="/c", audience=QUERY)]
    config = write_routes(tmp_path / "authproxy.yaml", routes)
    proxy = launch(
        without=("TARGET_HOST",),
        AUTHPROXY_CONFIG=str(config),
        **entra.managed_identity_environment(),
    )
    proxy.wait_for_every_route()
    assert sorted(str(token.claims["aud"]) for token in entra.issued) == [INGESTION, QUERY]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_metrics_tell_the_routes_apart_by_their_targets(
    launch: Launch, target: Upstream, second: Upstream, tmp_path: Path, workers: str
) -> None:
    routes = [to(target, path="/a"), to(second, path="/b", audience=QUERY)]
    config = write_routes(tmp_path / "authproxy.yaml", routes)
    port = free_port()
    proxy = launch(
        without=("TARGET_HOST",),
        AUTHPROXY_CONFIG=str(config),
        METRICS_PORT=str(port),
        WORKERS=workers,
    )
    tokens = 2 * int(workers)
    proxy.wait_for_tokens(tokens)
    for start in ("GET /a", "GET /a", "GET /b", "GET /c"):
        ask(proxy, start)
    name = "aad_auth_proxy_token_refresh_total"
    wait_until(
        "all report", lambda: settled(port, requests=4).sum(name, is_success="true") == tokens
    )
    page = settled(port, requests=4)
    counted = {
        labels.get("target_host", ""): value
        for _, labels, value in page.all("aad_auth_proxy_requests_total")
    }
    assert counted == {target.authority: 2, second.authority: 1, "": 1}
    audiences = {
        labels["audience"]
        for labels in page.labels("aad_auth_proxy_token_expiry_timestamp_seconds")
    }
    assert audiences == {f"{INGESTION}/.default", f"{QUERY}/.default"}


def test_the_start_tells_of_each_route(
    launch: Launch, target: Upstream, second: Upstream, tmp_path: Path
) -> None:
    routes = [to(target, path="/a", strip_path=True), to(second, name="other")]
    config = write_routes(tmp_path / "authproxy.yaml", routes)
    proxy = launch(without=("TARGET_HOST",), AUTHPROXY_CONFIG=str(config))
    first = proxy.wait_for_event("Route:")
    assert (first["Name"], first["Path"], first["StripPath"]) == ("/a", "/a", "true")
    assert first["TARGET_HOST"] == target.authority
    proxy.wait_for_line(r'msg="Route:" Name=other')
