"""What the proxy takes from its environment, and what not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import Launch
from tests.support import actions
from tests.support.authority import Authority
from tests.support.expect import assert_own_error
from tests.support.forward_proxy import ForwardProxy
from tests.support.planted import left
from tests.support.process import ProxyProcess
from tests.support.quoting import basic
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Upstream
from tests.support.wire import message

# -- forward proxies -------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
def test_https_proxy_is_tunnelled_through(launch: Launch, target: Upstream, variable: str) -> None:
    with ForwardProxy() as forward:
        forward_proxy = f"http://user:pass%20word@127.0.0.1:{forward.port}"
        proxy = launch(TARGET_POOL_SIZE="1", **{variable: forward_proxy})
        for _ in range(2):
            assert proxy.ask(message("POST /a%2fb//c?x", body=b"b")).status == 200
        assert len(forward.heads) == 1  # One tunnel for both.
        head = forward.heads[0]
    assert head.startswith(f"CONNECT {target.authority} HTTP/1.".encode())
    assert b"Bearer" not in head
    assert b"\r\nProxy-Authorization: Basic dXNlcjpwYXNzIHdvcmQ=\r\n" in head
    assert [request.target for request in target.requests] == [b"/a%2fb//c?x"] * 2
    assert "proxy-authorization" not in target.requests[0].names
    assert target.requests[0].one("Host") == target.authority
    assert "pass word" not in proxy.log
    assert "pass%20word" not in proxy.log


@pytest.mark.parametrize("setting", ["TARGET_CA_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_proxy_behind_tls_is_proven_by_the_authorities_that_there_are(
    launch: Launch, target: Upstream, authority: Authority, setting: str
) -> None:
    with ForwardProxy(tls=authority.context()) as forward:
        proxy = launch(
            TARGET_POOL_SIZE="1",
            **{"TARGET_CA_FILE": "", setting: str(authority.bundle)},
            HTTPS_PROXY=f"https://localhost:{forward.port}",
        )
        for body in (b"b", b"x" * 3_000_000):
            assert proxy.ask(message("POST /x", body=body)).status == 200
        assert len(forward.heads) == 1
    assert [len(request.body) for request in target.requests] == [1, 3_000_000]


@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_no_proxy_is_honoured(launch: Launch, target: Upstream, variable: str) -> None:
    with ForwardProxy() as forward:
        proxy = launch(
            HTTPS_PROXY=f"http://127.0.0.1:{forward.port}", **{variable: "example.com,localhost"}
        )
        assert proxy.get("/x").status == 200
        assert forward.heads == []


def test_http_proxy_does_not_concern_an_https_target(launch: Launch, target: Upstream) -> None:
    with ForwardProxy() as forward:
        address = f"http://127.0.0.1:{forward.port}"
        proxy = launch(HTTP_PROXY=address, http_proxy=address)
        assert proxy.get("/x").status == 200
        assert forward.heads == []


def test_a_tunnel_that_is_refused_makes_the_target_unreachable(
    launch: Launch, target: Upstream
) -> None:
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    with ForwardProxy(refusal) as forward:
        proxy = launch(HTTPS_PROXY=f"http://user:pass-word@127.0.0.1:{forward.port}")
        response = proxy.get("/x")
        said = assert_own_error(response, 503, "TargetUnreachable")
        assert "407" in said
    assert "pass-word" not in proxy.log + said
    assert target.requests == []


def test_a_forward_proxy_that_quotes_its_password_is_not_quoted(
    launch: Launch, target: Upstream
) -> None:
    password = "planted-proxy-password"
    quoted = f"{basic(password)} {password} {password.encode().hex()}"
    refusal = f"HTTP/1.1 407 {quoted}\r\nContent-Length: 0\r\n\r\n".encode()
    with ForwardProxy(refusal) as forward:
        proxy = launch(HTTPS_PROXY=f"http://user:{password}@127.0.0.1:{forward.port}")
        said = assert_own_error(proxy.get("/x"), 503, "TargetUnreachable")
        assert "Tunnel connection failed: 407 ***" in said
        line = proxy.wait_for_line("TargetUnreachable")
    assert left(password, said + line) == set()


# -- files and jars ---------------------------------------------------------------------


def test_netrc_does_not_replace_the_token(
    launch: Launch, target: Upstream, shared_entra: StandInEntra, tmp_path: Path
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine localhost login someone password else\ndefault login a password b\n")
    netrc.chmod(0o600)
    proxy = launch(HOME=str(tmp_path), NETRC=str(netrc))
    assert proxy.get("/x").status == 200
    issued = [f"Bearer {token.value}" for token in shared_entra.issued]
    assert target.only().one("Authorization") in issued


def test_one_clients_cookies_are_not_sent_for_another(
    proxy: ProxyProcess, target: Upstream
) -> None:
    target.respond(actions.answer(200, "Set-Cookie: session=1; Path=/"))
    assert proxy.get("/x", "Cookie: mine=1").all("Set-Cookie") == ["session=1; Path=/"]
    with proxy.connect() as client:
        assert client.ask(message("GET /x")).status == 200
        assert client.ask(message("GET /x")).status == 200
    assert [request.all("Cookie") for request in target.requests] == [["mine=1"], [], []]


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "TARGET_CA_FILE"])
def test_the_authority_can_be_named_by(
    launch: Launch, target: Upstream, base_settings: dict[str, str], variable: str
) -> None:
    bundle = base_settings["TARGET_CA_FILE"]
    without = () if variable == "TARGET_CA_FILE" else ("TARGET_CA_FILE",)
    proxy = launch(without=without, **{variable: bundle})
    assert proxy.get("/x").status == 200


# -- Unix sockets ---------------------------------------------------------------------------


def test_a_unix_socket_serves_and_is_for_owner_and_group(
    launch: Launch, target: Upstream, tmp_path: Path
) -> None:
    path = tmp_path / "proxy.sock"
    proxy = launch(unix_socket=path)
    assert path.is_socket()
    assert path.stat().st_mode & 0o777 == 0o660
    assert proxy.ask(message("POST /x", body=b"content")).status == 200
    assert target.only().body == b"content"


def test_mode_and_group_of_the_unix_socket_are_as_set(
    launch: Launch, target: Upstream, tmp_path: Path
) -> None:
    group = os.getgid() if os.geteuid() else 4711
    proxy = launch(
        unix_socket=tmp_path / "proxy.sock",
        LISTENING_SOCKET_MODE="0620",
        LISTENING_SOCKET_GROUP=str(group),
    )
    status = (tmp_path / "proxy.sock").stat()
    assert (status.st_mode & 0o777, status.st_gid) == (0o620, group)
    assert proxy.get("/x").status == 200


def test_a_client_on_a_unix_socket_has_no_address_to_append(
    launch: Launch, target: Upstream, tmp_path: Path
) -> None:
    proxy = launch(unix_socket=tmp_path / "proxy.sock")
    assert proxy.get("/x").status == 200
    assert proxy.get("/x", "X-Forwarded-For: 10.0.0.1").status == 200
    assert [request.all("X-Forwarded-For") for request in target.requests] == [[], ["10.0.0.1"]]


# -- a target without TLS ----------------------------------------------------------------------


def test_a_target_without_tls_is_used_where_that_is_allowed(launch: Launch) -> None:
    upstream = Upstream()
    try:
        proxy = launch(TARGET_HOST=upstream.url, TARGET_ALLOW_HTTP="true")
        assert proxy.ask(message("POST /a%2fb", body=b"content")).status == 200
        request = upstream.only()
        assert (request.target, request.body) == (b"/a%2fb", b"content")
        assert (request.one("Authorization") or "").startswith("Bearer ey")
        assert upstream.faults == []
    finally:
        upstream.close()
