"""/health and /ready, and nothing else, are the proxy's own."""

from __future__ import annotations

import json

import pytest

from tests.support import actions
from tests.support.process import ProxyProcess
from tests.support.upstream import Upstream
from tests.support.wire import message

OWN = actions.answer(299, body=b"the target's")


@pytest.mark.parametrize("path", ["/health", "/ready"])
@pytest.mark.parametrize("query", ["", "?", "?x=1", "?x=/y"])
def test_a_probe_answers_with_json(
    proxy: ProxyProcess, target: Upstream, path: str, query: str
) -> None:
    response = proxy.get(path + query)
    assert response.status == 200
    assert response.one("Content-Type") == "application/json"
    assert json.loads(response.body)["status"]
    assert target.requests == []


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_a_probe_answers_head_without_a_body(
    proxy: ProxyProcess, target: Upstream, path: str
) -> None:
    with proxy.connect() as client:
        assert client.ask(message(f"HEAD {path}")).status == 200
        assert client.ask(message(f"GET {path}")).status == 200
    assert target.requests == []


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_a_probe_gives_no_token_away(proxy: ProxyProcess, target: Upstream, path: str) -> None:
    assert b"eyJ" not in proxy.get(path).body


@pytest.mark.parametrize("raw", ["http://any.example/health", "http://any.example/ready?x"])
def test_a_probe_answers_the_absolute_form(proxy: ProxyProcess, target: Upstream, raw: str) -> None:
    assert proxy.get(raw).status == 200
    assert target.requests == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_other_methods_on_a_probes_path_are_forwarded(
    proxy: ProxyProcess, target: Upstream, method: str, path: str
) -> None:
    target.respond(OWN)
    response = proxy.ask(message(f"{method} {path}", body=b"b"))
    assert (response.status, response.body) == (299, b"the target's")
    request = target.only()
    assert (request.method, request.target, request.body) == (method.encode(), path.encode(), b"b")


@pytest.mark.parametrize(
    "raw",
    [
        *("//health", "/health/", "/%68ealth", "/HEALTH", "/health;x", "/healthz", "/x/../health"),
        *("/./ready", "/ready%3Fx", "/ready/x", "//ready", "/read%79", "/-/ready", "/api/health"),
    ],
)
def test_what_is_not_letter_for_letter_a_probe_is_forwarded(
    proxy: ProxyProcess, target: Upstream, raw: str
) -> None:
    target.respond(OWN)
    assert proxy.get(raw).status == 299
    assert target.only().target == raw.encode()
