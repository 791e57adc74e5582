"""A browser's preflight carries no token: INBOUND_ALLOW_PREFLIGHT lets in just those.

Situation, what the client sees, what the log says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.conftest import Launch
from tests.support import actions
from tests.support.expect import assert_failure_logged, assert_own_error
from tests.support.identity import identity_settings
from tests.support.process import ProxyProcess
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Upstream
from tests.support.wire import message

TOKEN = "correct-horse-battery-staple"
ORIGIN = "Origin: https://grafana.example.com"
PREFLIGHT = (ORIGIN, "Access-Control-Request-Method: GET")
ALLOWING = actions.head(
    204,
    "Access-Control-Allow-Origin: https://grafana.example.com",
    "Access-Control-Allow-Headers: x-authproxy-token",
)


@pytest.fixture(scope="module")
def guarding() -> Iterator[dict[str, str]]:
    """Settings of a proxy that asks for tokens, methods and paths."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        tokens = Path(folder) / "tokens"
        tokens.write_text(TOKEN)
        yield {
            "INBOUND_TOKEN_FILE": str(tokens),
            "ALLOWED_METHODS": "GET,POST",
            "ALLOWED_PATHS": "/api",
        }


@pytest.fixture(scope="module")
def module_proxy(launch_for_module: Launch, guarding: dict[str, str]) -> ProxyProcess:
    return launch_for_module(**guarding, INBOUND_ALLOW_PREFLIGHT="true", TARGET_POOL_SIZE="1")


@pytest.fixture
def guarded(module_proxy: ProxyProcess, target: Upstream) -> ProxyProcess:
    assert module_proxy.running
    return module_proxy


def test_a_preflight_is_let_in_and_takes_no_token_along(
    guarded: ProxyProcess, target: Upstream
) -> None:
    target.respond(ALLOWING)
    asked = "Access-Control-Request-Headers: x-authproxy-token"
    mark = guarded.mark()
    response = guarded.ask(message("OPTIONS /api/v1/query", *PREFLIGHT, asked))
    assert response.status == 204
    assert response.one("Access-Control-Allow-Origin") == "https://grafana.example.com"
    request = target.only()
    assert (request.method, request.target) == (b"OPTIONS", b"/api/v1/query")
    assert request.one("Authorization") is None
    assert request.one("Access-Control-Request-Headers") == "x-authproxy-token"
    line = guarded.wait_for_event("Successfully sent request", after=mark)
    assert (line["Method"], line["StatusCode"], line["Attempts"]) == ("OPTIONS", "204", "1")
    # What it asked about still needs a token, and gets ours.
    refused = guarded.get("/api/v1/query", ORIGIN)
    assert_own_error(refused, 401, "Unauthorized")
    assert assert_failure_logged(guarded, mark, refused)["Request"] == "/api/v1/query"
    assert guarded.get("/api/v1/query", ORIGIN, f"X-Authproxy-Token: {TOKEN}").status == 204
    assert (target.requests[-1].one("Authorization") or "").startswith("Bearer ey")


def test_a_target_that_needs_the_token_gets_it(guarded: ProxyProcess, target: Upstream) -> None:
    target.script(actions.raw(actions.answer(401, body=b"who?")), actions.raw(ALLOWING))
    mark = guarded.mark()
    assert guarded.ask(message("OPTIONS /api", *PREFLIGHT)).status == 204
    line = guarded.wait_for_event("Successfully sent request", after=mark)
    assert (line["StatusCode"], line["Attempts"]) == ("204", "2")
    first, second = target.requests
    assert first.one("Authorization") is None
    assert (second.one("Authorization") or "").startswith("Bearer ey")


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_what_the_target_says_in_the_end_is_the_clients(
    guarded: ProxyProcess, target: Upstream, status: int
) -> None:
    target.respond(actions.answer(status, body=b"no"))
    response = guarded.ask(message("OPTIONS /api", *PREFLIGHT))
    assert (response.status, response.body) == (status, b"no")
    assert len(target.requests) == (2 if status == 401 else 1)


def test_a_kept_connection_that_died_costs_no_preflight(
    guarded: ProxyProcess, target: Upstream
) -> None:
    target.respond(actions.only_on_reused(actions.close_before_body, actions.raw(ALLOWING)))
    assert guarded.ask(message("OPTIONS /api", *PREFLIGHT)).status == 204
    assert guarded.ask(message("OPTIONS /api", *PREFLIGHT)).status == 204
    assert [each.one("Authorization") for each in target.requests] == [None] * len(target.requests)


IMPOSTORS = {
    "no-origin": message("OPTIONS /api", PREFLIGHT[1]),
    "no-method": message("OPTIONS /api", ORIGIN),
    "an-empty-method": message("OPTIONS /api", ORIGIN, "Access-Control-Request-Method:"),
    "no-such-method": message("OPTIONS /api", ORIGIN, "Access-Control-Request-Method: G E T"),
    "get": message("GET /api", *PREFLIGHT),
    "a-wrong-token": message("OPTIONS /api", *PREFLIGHT, "Authorization: Bearer wrong-wrong-wrong"),
    "a-password": message("OPTIONS /api", *PREFLIGHT, "Authorization: Basic eA=="),
    "an-upgrade": message("OPTIONS /api", *PREFLIGHT, "Connection: Upgrade", "Upgrade: websocket"),
    "a-body": message("OPTIONS /api", *PREFLIGHT, body=b"content"),
    "a-body-to-come": message("OPTIONS /api", *PREFLIGHT, "Content-Length: 60000000"),
    "a-chunked-body-to-come": message("OPTIONS /api", *PREFLIGHT, "Transfer-Encoding: chunked"),
}


@pytest.mark.parametrize("raw", IMPOSTORS.values(), ids=IMPOSTORS)
def test_what_only_looks_like_a_preflight_needs_a_token(
    guarded: ProxyProcess, target: Upstream, raw: bytes
) -> None:
    mark = guarded.mark()
    response = guarded.ask(raw)
    assert_own_error(response, 401, "Unauthorized")
    line = assert_failure_logged(guarded, mark, response)
    assert (line["Method"], line["Request"]) == (raw.split()[0].decode(), "/api")
    assert "wrong-wrong" not in guarded.log
    assert target.requests == []


def test_a_preflight_counts_as_what_it_asks_about(guarded: ProxyProcess, target: Upstream) -> None:
    raw = message("OPTIONS /api", ORIGIN, "Access-Control-Request-Method: DELETE")
    mark = guarded.mark()
    response = guarded.ask(raw)
    assert "DELETE" in assert_own_error(response, 405, "MethodNotAllowed")
    assert assert_failure_logged(guarded, mark, response)["Method"] == "OPTIONS"
    assert response.one("Allow") == "GET, POST"
    for path, status, code in (("/x", 403, "PathNotAllowed"), ("/api/../x", 400, "BadRequest")):
        assert_own_error(guarded.ask(message(f"OPTIONS {path}", *PREFLIGHT)), status, code)
    assert target.requests == []


def test_without_the_setting_a_preflight_needs_a_token(
    launch: Launch, guarding: dict[str, str], target: Upstream
) -> None:
    proxy = launch(**guarding)
    assert_own_error(proxy.ask(message("OPTIONS /api", *PREFLIGHT)), 401, "Unauthorized")
    assert target.requests == []


def test_a_preflight_passes_while_there_is_no_token_of_entras(
    launch: Launch, guarding: dict[str, str], target: Upstream, entra: StandInEntra
) -> None:
    entra.stop()
    settings = {**guarding, **identity_settings(entra), "INBOUND_ALLOW_PREFLIGHT": "true"}
    proxy = launch(ready=False, **settings)
    target.script(actions.raw(ALLOWING), actions.raw(actions.answer(401)))
    raw = message("OPTIONS /api", *PREFLIGHT)
    assert proxy.ask(raw).status == 204
    assert_own_error(proxy.ask(raw), 503, "AuthenticationTokenNotFound")
