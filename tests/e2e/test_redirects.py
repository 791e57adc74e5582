"""Where the target redirects to itself, the client comes back through the proxy.

Situation, what the client sees, what the log says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from azure.core import PipelineClient
from azure.core.pipeline.policies import RequestIdPolicy
from azure.core.polling import LROPoller
from azure.core.polling.base_polling import LROBasePolling, OperationResourcePolling
from azure.core.rest import HttpRequest

from tests.conftest import Launch
from tests.support import actions
from tests.support.authority import Authority
from tests.support.expect import assert_own_error
from tests.support.logfmt import parse_line
from tests.support.process import ProxyProcess
from tests.support.routes import to, write_routes
from tests.support.upstream import Exchange, Upstream
from tests.support.wire import Response, message

WRITES = {
    "remote-write": message(
        "POST /api/v1/write", "X-Prometheus-Remote-Write-Version: 0.1.0", body=b"samples"
    ),
    "vmagent": message(
        "POST /api/v1/write", "X-VictoriaMetrics-Remote-Write-Version: 1", body=b"samples"
    ),
    "otlp": message("POST /v1/metrics", "Content-Type: application/x-protobuf", body=b"points"),
}


def redirected(proxy: ProxyProcess, target: Upstream, path: str, *fields: str) -> Response:
    """Return the response to a request that the target redirects with these fields."""
    target.respond(actions.answer(307, *fields))
    return proxy.get(path)


def assert_followed(proxy: ProxyProcess, target: Upstream, path: str, location: str) -> bytes:
    """Follow a redirect as a client does; return what the target was then asked for."""
    followed = urlsplit(urljoin(f"http://proxy.test{path}", location))
    assert followed.netloc == "proxy.test"
    target.reset()
    again = f"{followed.path}?{followed.query}" if followed.query else followed.path
    assert proxy.get(again).status == 200
    request = target.only()
    assert (request.one("Authorization") or "").startswith("Bearer ey")
    return request.target


@pytest.mark.parametrize("status", [201, 301, 302, 303, 307, 308])
def test_the_targets_own_url_leads_back_to_the_proxy(
    proxy: ProxyProcess, target: Upstream, status: int
) -> None:
    own = f"{target.url}/a%2fb?x=%20"
    target.respond(
        actions.answer(
            status,
            ("Location", own),
            ("Content-Location", own),
            ("Link", f"<{own}>; rel=next, <https://elsewhere.example/>; rel=help"),
            ("Refresh", f"5; url={own}"),
            ("Set-Cookie", "a=1; Domain=localhost; Path=/; Secure"),
            ("Set-Cookie", "b=2; Path=/x"),
        )
    )
    response = proxy.get("/")
    assert response.status == status
    assert response.one("Location") == response.one("Content-Location") == "/a%2fb?x=%20"
    assert (
        response.one("Link") == "</a%2fb?x=%20>; rel=next, <https://elsewhere.example/>; rel=help"
    )
    assert response.one("Refresh") == "5; url=/a%2fb?x=%20"
    assert response.all("Set-Cookie") == ["a=1; Path=/; Secure", "b=2; Path=/x"]
    assert assert_followed(proxy, target, "/", "/a%2fb?x=%20") == b"/a%2fb?x=%20"


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\evil.example/x"])
def test_a_path_that_browsers_take_for_a_host_does_not_lead_there(
    proxy: ProxyProcess, target: Upstream, path: str
) -> None:
    location = redirected(proxy, target, "/", f"Location: {target.url}{path}").one("Location") or ""
    assert location.startswith("/./")
    assert assert_followed(proxy, target, "/", location) == path.encode()


@pytest.fixture(scope="module")
def second(authority: Authority) -> Iterator[Upstream]:
    upstream = Upstream(authority.context())
    yield upstream
    upstream.close()


@pytest.fixture(scope="module")
def routed(
    launch_for_module: Launch,
    shared_upstream: Upstream,
    second: Upstream,
    tmp_path_factory: pytest.TempPathFactory,
) -> ProxyProcess:
    """A proxy with a target whose URL has a path and a query, behind a path that is stripped."""
    routes = [
        to(shared_upstream, path="/query", strip_path=True),
        to(shared_upstream, path="/plain"),
        {**to(second, path="/based", strip_path=True), "target_host": f"{second.url}/base?v=1"},
    ]
    config: Path = write_routes(tmp_path_factory.mktemp("routes") / "authproxy.yaml", routes)
    return launch_for_module(without=("TARGET_HOST",), AUTHPROXY_CONFIG=str(config))


@pytest.mark.parametrize("name", ["Operation-Location", "Azure-AsyncOperation"])
@pytest.mark.parametrize("path", ["", "/query"])
def test_an_azure_client_comes_back_for_the_state_of_its_operation(
    proxy: ProxyProcess, routed: ProxyProcess, target: Upstream, name: str, path: str
) -> None:
    begun = actions.answer(202, (name, f"{target.url}/operations/1?v=1"))
    kind = ("Content-Type", "application/json")
    done = actions.answer(200, kind, body=b'{"status": "Succeeded", "result": 5}')
    target.script(actions.raw(begun), actions.raw(done))
    url = f"http://127.0.0.1:{(routed if path else proxy).port}{path}"
    session: PipelineClient[Any, Any] = PipelineClient(base_url=url, policies=[RequestIdPolicy()])
    with session as client:
        asked = client.send_request(
            HttpRequest("POST", f"{url}/jobs"), _return_pipeline_response=True
        )
        polling: Any = OperationResourcePolling(operation_location_header=name)
        poller = LROPoller(
            client,
            asked,
            lambda response: response.http_response.json()["result"],
            LROBasePolling(timeout=0, lro_algorithms=[polling]),
        )
        assert poller.result() == 5
    first, second = target.requests
    assert [first.target, second.target] == [b"/jobs", b"/operations/1?v=1"]
    assert (second.one("Authorization") or "").startswith("Bearer ey")


def test_the_url_of_an_operation_has_the_name_and_scheme_that_the_client_used(
    proxy: ProxyProcess, target: Upstream
) -> None:
    target.respond(actions.answer(202, f"Operation-Location: {target.url}/operations/1"))
    for fields, origin in (
        (("Host: proxy.example.com:8081",), "http://proxy.example.com:8081"),
        (("Host: proxy.example.com", "X-Forwarded-Proto: https"), "https://proxy.example.com"),
        (("Host: proxy.example.com", "X-Forwarded-Proto: x://y"), "http://proxy.example.com"),
    ):
        response = proxy.get("/", *fields)
        assert response.one("Operation-Location") == f"{origin}/operations/1"
    without_host = proxy.ask(b"GET / HTTP/1.0\r\n\r\n")
    assert without_host.one("Operation-Location") == "/operations/1"


@pytest.mark.parametrize("location", ["/graph?g0=1", "{url}/graph?g0=1", "../graph?g0=1"])
def test_a_redirect_behind_a_stripped_path_leads_below_it(
    routed: ProxyProcess, target: Upstream, location: str
) -> None:
    """Prometheus redirects `/` to `/graph`: behind `/query` that ended in a 404."""
    line = f"Location: {location.format(url=target.url)}"
    response = redirected(routed, target, "/query/a/b", line, "Set-Cookie: a=b; Path=/")
    assert response.one("Location") == "/query/graph?g0=1"
    assert response.one("Set-Cookie") == "a=b; Path=/query"
    found = assert_followed(routed, target, "/query/a/b", response.one("Location") or "")
    assert found == b"/graph?g0=1"


def test_all_references_and_cookies_lead_below_a_stripped_path(
    routed: ProxyProcess, target: Upstream
) -> None:
    own, elsewhere = f"{target.url}/a%2fb?x=%20", "https://elsewhere.example/a"
    target.respond(
        actions.answer(
            201,
            ("Content-Location", own),
            ("Link", f"<{own}>; rel=next, </b>; rel=last, <{elsewhere}>; rel=help"),
            ("Refresh", f"5; url={own}"),
            ("Set-Cookie", "a=1; Domain=localhost; Path=/; Secure"),
            ("Set-Cookie", "b=2; Domain=elsewhere.example; Path=/x"),
            ("Set-Cookie", "c=3; Domain=.LOCALHOST"),
        )
    )
    mark = routed.mark()
    response = routed.get("/query/a/b")
    assert response.one("Content-Location") == "/query/a%2fb?x=%20"
    assert response.one("Link") == (
        f"</query/a%2fb?x=%20>; rel=next, </query/b>; rel=last, <{elsewhere}>; rel=help"
    )
    assert response.one("Refresh") == "5; url=/query/a%2fb?x=%20"
    assert response.all("Set-Cookie") == [
        "a=1; Path=/query; Secure",
        "b=2; Domain=elsewhere.example; Path=/query/x",
        "c=3",
    ]
    line = routed.wait_for_line("Successfully sent request.* StatusCode=201", after=mark)
    assert parse_line(line)["Request"] == f"{target.url}/a/b"
    assert assert_followed(routed, target, "/query/a/b", "/query/a%2fb?x=%20") == b"/a%2fb?x=%20"


def test_all_references_and_cookies_lead_below_the_targets_own_path(
    routed: ProxyProcess, second: Upstream
) -> None:
    second.reset()
    own = f"{second.url}/base/graph?v=1&x=2"
    second.respond(
        actions.answer(
            201,
            ("Content-Location", own),
            ("Link", f"<{own}>; rel=next"),
            ("Refresh", f"5; url={own}"),
            ("Set-Cookie", "a=1; Domain=localhost; Path=/base/x"),
            ("Set-Cookie", "b=2; Domain=localhost; Path=/"),
        )
    )
    response = routed.get("/based/a")
    assert response.one("Content-Location") == "/based/graph?x=2"
    assert response.one("Link") == "</based/graph?x=2>; rel=next"
    assert response.one("Refresh") == "5; url=/based/graph?x=2"
    assert response.all("Set-Cookie") == ["a=1; Path=/based/x", "b=2; Path=/based"]
    second.reset()


def test_a_redirect_behind_a_path_that_is_not_stripped_keeps_it(
    routed: ProxyProcess, target: Upstream
) -> None:
    response = redirected(routed, target, "/plain", f"Location: {target.url}/plain/x")
    assert response.one("Location") == "/plain/x"
    assert assert_followed(routed, target, "/plain", "/plain/x") == b"/plain/x"


def test_the_path_and_query_of_the_targets_own_url_are_taken_off(
    routed: ProxyProcess, second: Upstream
) -> None:
    second.reset()
    line = f"Location: {second.url}/base/graph?v=1&x=2"
    response = redirected(routed, second, "/based", line)
    assert response.one("Location") == "/based/graph?x=2"
    assert assert_followed(routed, second, "/based", "/based/graph?x=2") == b"/base/graph?v=1&x=2"
    # What the proxy does not lead to is told as the target means it.
    response = redirected(routed, second, "/based", "Location: /login")
    assert response.one("Location") == f"{second.url}/login"
    second.reset()


def test_a_redirect_elsewhere_is_untouched_and_takes_no_token_along(
    routed: ProxyProcess, target: Upstream, second: Upstream
) -> None:
    second.reset()
    response = redirected(routed, target, "/query/x", f"Location: {second.url}/steal")
    assert (response.status, response.one("Location")) == (307, f"{second.url}/steal")
    assert second.requests == []


@pytest.mark.parametrize("raw", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("status", [301, 304, 307, 308])
@pytest.mark.parametrize("location", ["{url}/api/v1/write", "https://elsewhere.example/w"])
def test_the_sender_of_a_write_never_sees_a_redirect(
    proxy: ProxyProcess, target: Upstream, raw: bytes, status: int, location: str
) -> None:
    to_where = location.format(url=target.url)
    target.respond(actions.head(status, ("Location", to_where), "Content-Length: 0"))
    mark = proxy.mark()
    response = proxy.ask(raw)
    said = assert_own_error(response, 503, "TargetRedirectedWrite")
    assert int(response.one("Retry-After") or 0) > 0
    assert response.one("Location") is None
    assert to_where in said
    proxy.wait_for_line(f"StatusCode={status}", after=mark)
    line = proxy.wait_for_line("TargetRedirectedWrite", after=mark)
    assert to_where in line
    assert "level=error" in line
    assert len(target.requests) == 1


def test_a_token_that_the_location_quotes_is_masked(proxy: ProxyProcess, target: Upstream) -> None:
    quoted = []

    def redirect(exchange: Exchange) -> None:
        exchange.read_body()
        quoted.append((exchange.request.one("Authorization") or "").removeprefix("Bearer "))
        exchange.send(actions.answer(307, f"Location: https://login.example/?token={quoted[-1]}"))

    target.respond(redirect)
    mark = proxy.mark()
    said = assert_own_error(proxy.ask(WRITES["remote-write"]), 503, "TargetRedirectedWrite")
    line = proxy.wait_for_line("TargetRedirectedWrite", after=mark)
    for text in (said, line):
        assert "https://login.example/?token=***" in text
        assert quoted[-1] not in text


def test_the_query_of_the_location_is_as_confidential_as_others(
    launch: Launch, target: Upstream
) -> None:
    proxy = launch(LOG_QUERY="false")
    target.respond(actions.answer(307, "Location: https://login.example/x?signature=planted"))
    assert_own_error(proxy.ask(WRITES["remote-write"]), 503, "TargetRedirectedWrite")
    assert "https://login.example/x" in proxy.wait_for_line("TargetRedirectedWrite")
    assert "planted" not in proxy.log
