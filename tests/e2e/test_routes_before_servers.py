"""Who may come in by a route is no question of how its path is spelled: before real web servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import Launch
from tests.support.expect import assert_own_error
from tests.support.path_servers import SECRET_STATUS, SERVERS, asks_for_secret, serving_secret
from tests.support.path_spellings import SPELLINGS, made_of_pieces
from tests.support.process import ProxyProcess
from tests.support.routes import write_routes
from tests.support.wire import message

TOKEN = "correct-horse-battery-staple"

#: The server's port, and the proxy before it: /secret is for callers with a token, the rest open.
Before = tuple[int, ProxyProcess]


@pytest.fixture(
    scope="module",
    params=[pytest.param(each, marks=pytest.mark.real(each.partition("-")[0])) for each in SERVERS],
)
def before(
    request: pytest.FixtureRequest,
    launch_for_module: Launch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Before]:
    folder = tmp_path_factory.mktemp("before")
    (folder / "tokens").write_text(TOKEN)
    (folder / "server").mkdir()
    with serving_secret(request.param, folder / "server") as port:
        to = {"target_host": f"http://127.0.0.1:{port}", "target_allow_http": "true"}
        secret = {"path": "/secret", "inbound_token_file": str(folder / "tokens"), **to}
        config = write_routes(folder / "authproxy.yaml", [secret, {"path": "/", **to}])
        yield port, launch_for_module(without=("TARGET_HOST",), AUTHPROXY_CONFIG=str(config))


def status(proxy: ProxyProcess, path: str, *fields: str) -> int:
    return proxy.ask(message(f"GET {path}", *fields)).status


def test_the_secret_path_is_for_callers_with_a_token(before: Before) -> None:
    _, proxy = before
    for path in ("/secret", "/secret/x", "/secret?x"):
        assert status(proxy, path) == 401
        assert status(proxy, path, f"X-Authproxy-Token: {TOKEN}") == SECRET_STATUS
    assert status(proxy, "/open") == 404
    assert status(proxy, "/secretly") == 404


def test_no_spelling_of_it_comes_in_without(before: Before) -> None:
    """Whatever the server takes for /secret, and some hundreds that it might."""
    port, proxy = before
    paths = [*SPELLINGS, *made_of_pieces(250)]
    taken = [path for path in paths if asks_for_secret(port, path.encode("latin-1"))]
    assert len(taken) > 10
    for path in paths:
        got = status(proxy, path)
        assert got in ((400, 401) if path in taken else (400, 401, 404)), (path, got)


@pytest.mark.parametrize(
    "target",
    ["/secret#x", "/secret#", "/secret?#x", "/x#/../secret", "http://h/secret#x", "#/secret"],
)
def test_nor_does_a_fragment(before: Before, target: str) -> None:
    _, proxy = before
    assert_own_error(proxy.get(target), 400, "BadRequest")
