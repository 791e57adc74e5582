"""What the proxy says where the target gives no answer."""

from __future__ import annotations

import pytest

from tests.conftest import Launch
from tests.support import actions
from tests.support.authority import Authority
from tests.support.expect import assert_own_error
from tests.support.process import ProxyProcess, free_port, wait_until
from tests.support.upstream import Connection, Exchange, Handler, Hook, Upstream
from tests.support.wire import Truncated, message


@pytest.fixture(scope="module")
def shared_proxy(launch_for_module: Launch) -> ProxyProcess:
    """One that keeps one connection: of several, the one that has rested longest is used next."""
    return launch_for_module(TARGET_POOL_SIZE="1")


# -- no connection -----------------------------------------------------------------


def test_a_refused_connection_is_unreachable(launch: Launch) -> None:
    proxy = launch(TARGET_HOST=f"localhost:{free_port()}")
    response = proxy.get("/x", "X-Request-ID: id-1")
    assert_own_error(response, 503, "TargetUnreachable")
    assert response.one("X-Request-ID") == "id-1"


def test_a_name_that_does_not_resolve_is_unreachable(launch: Launch) -> None:
    proxy = launch(TARGET_HOST="no-such-host.invalid")
    assert_own_error(proxy.get("/x"), 503, "TargetUnreachable")


def test_an_unknown_authority_is_unreachable(launch: Launch, target: Upstream) -> None:
    proxy = launch(without=("TARGET_CA_FILE",))
    assert_own_error(proxy.get("/x"), 503, "TargetUnreachable")
    assert target.requests == []


@pytest.mark.parametrize(
    ("names", "expired"),
    [(["other.example"], False), (["localhost"], True)],
    ids=["wrong-name", "expired"],
)
def test_a_certificate_that_proves_nothing_is_unreachable(
    launch: Launch, authority: Authority, names: list[str], expired: bool
) -> None:
    upstream = Upstream(authority.context(*names, expired=expired))
    try:
        proxy = launch(TARGET_HOST=upstream.authority)
        assert_own_error(proxy.get("/x"), 503, "TargetUnreachable")
        assert upstream.requests == []
    finally:
        upstream.close()


def test_a_target_without_tls_is_unreachable_and_gets_no_token(
    launch: Launch, base_settings: dict[str, str]
) -> None:
    upstream = Upstream()
    try:
        proxy = launch(
            TARGET_HOST=f"http://{upstream.authority}",  # https all the same.
            TARGET_CONNECT_TIMEOUT_SECONDS="0.5",
        )
        assert_own_error(proxy.get("/x"), 503, "TargetUnreachable")
        assert not [request for request in upstream.requests if b"Bearer" in request.head]
        upstream.wait_for("it was tried", lambda: upstream.accepted > 0)
    finally:
        upstream.close()


def test_a_certificate_for_the_address_counts(launch: Launch, target: Upstream) -> None:
    proxy = launch(TARGET_HOST=f"https://127.0.0.1:{target.port}")
    assert proxy.get("/x").status == 200
    assert target.only().one("Host") == f"127.0.0.1:{target.port}"


def test_a_target_that_resets_within_the_handshake_is_unreachable(
    proxy: ProxyProcess, target: Upstream
) -> None:
    target.close_idle()
    target.before_tls = Connection.reset
    assert_own_error(proxy.get("/x"), 503, "TargetUnreachable")


# -- silence -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def impatient(launch_for_module: Launch) -> ProxyProcess:
    return launch_for_module(TARGET_READ_TIMEOUT_SECONDS="1", TARGET_POOL_SIZE="1")


def test_a_silent_target_is_a_timeout_and_not_asked_again(
    impatient: ProxyProcess, target: Upstream
) -> None:
    target.respond(actions.stall(target.gate()))
    assert_own_error(impatient.ask(message("POST /x", body=b"b")), 504, "TargetTimeout")
    target.respond(actions.stall(target.gate()))
    assert len(target.requests) == 1


@pytest.mark.parametrize(
    "before",
    [b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nX-A: b\r\n", actions.head("103 Early Hints")],
    ids=["within-the-status", "within-the-fields", "after-early-hints"],
)
def test_a_target_that_falls_silent_within_the_head_is_a_timeout(
    impatient: ProxyProcess, target: Upstream, before: bytes
) -> None:
    target.respond(actions.stall(target.gate(), before))
    assert_own_error(impatient.get("/x"), 504, "TargetTimeout")


def test_a_silent_pooled_connection_is_not_asked_again(
    impatient: ProxyProcess, target: Upstream
) -> None:
    wait_until("a connection is kept", lambda: impatient.get("/first").status == 200)
    target.reset()
    target.respond(actions.stall(target.gate()))
    assert_own_error(impatient.ask(message("POST /x", body=b"b")), 504, "TargetTimeout")
    assert target.only().ordinal > 1


def test_a_handshake_without_end_is_unreachable(launch: Launch, target: Upstream) -> None:
    proxy = launch(TARGET_CONNECT_TIMEOUT_SECONDS="0.5")
    gate = target.gate()

    def stall(connection: Connection) -> None:
        gate.wait()
        connection.reset()

    target.before_tls = stall
    assert_own_error(proxy.get("/x"), 503, "TargetUnreachable")


def test_a_target_that_falls_silent_within_the_body_cuts_the_answer(
    impatient: ProxyProcess, target: Upstream
) -> None:
    target.respond(actions.stall(target.gate(), actions.head(200, "Content-Length: 9"), b"half"))
    with impatient.connect() as client:
        client.send(message("GET /x"))
        with pytest.raises(Truncated) as cut:
            client.receive()
    assert cut.value.seen == b"half"


# -- closed or not HTTP --------------------------------------------------------------


def _reset_before_reading(connection: Connection) -> None:
    connection.reset()


def _close_before_reading(connection: Connection) -> None:
    connection.close()


@pytest.mark.parametrize("hook", [_close_before_reading, _reset_before_reading], ids=["fin", "rst"])
def test_a_fresh_connection_closed_before_the_request_was_read(
    proxy: ProxyProcess, target: Upstream, hook: Hook
) -> None:
    target.close_idle()
    before = target.accepted
    target.before_reading = hook
    assert_own_error(proxy.ask(message("POST /x", body=b"b")), 502, "TargetProtocolError")
    assert target.accepted == before + 1


NOT_HTTP = {
    "closed-without-a-byte": actions.then_close(),
    "cut-without-a-byte": actions.then_cut(),
    "reset-without-a-byte": actions.then_reset(),
    "closed-on-the-head": actions.close_before_body,
    "closed-within-the-status": actions.then_close(b"HTTP/1.1 2"),
    "closed-within-the-fields": actions.then_close(b"HTTP/1.1 200 OK\r\nX-A: b\r\n"),
    "closed-after-early-hints": actions.then_close(actions.head("103 Early Hints")),
    "garbage": actions.then_close(bytes(range(256)) * 4),
    "an-ssh-banner": actions.then_close(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "smtp": actions.then_close(b"220 mail.example ESMTP\r\n"),
    "http-0.9": actions.then_close(b"<html>hello</html>"),
    "http-2": actions.then_close(b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "status-not-a-number": actions.then_close(b"HTTP/1.1 abc OK\r\n\r\n"),
    "status-too-short": actions.then_close(b"HTTP/1.1 20 OK\r\n\r\n"),
    "status-zero": actions.then_close(b"HTTP/1.1 000 OK\r\n\r\n"),
    "no-colon": actions.then_close(b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n"),
    "no-name": actions.then_close(b"HTTP/1.1 200 OK\r\n: nonsense\r\n\r\n"),
    "nul-in-a-value": actions.then_close(b"HTTP/1.1 200 OK\r\nX-A: b\0c\r\n\r\n"),
    "bare-cr-in-a-value": actions.then_close(
        b"HTTP/1.1 200 OK\r\nX-A: b\rSet-Cookie: c\r\nContent-Length: 0\r\n\r\n"
    ),
    "two-lengths": actions.then_close(
        actions.head(200, "Content-Length: 2", "Content-Length: 3"), b"abc"
    ),
    "length-list": actions.then_close(actions.head(200, "Content-Length: 2, 3"), b"abc"),
    "negative-length": actions.then_close(actions.head(200, "Content-Length: -1"), b"abc"),
    "length-not-a-number": actions.then_close(actions.head(200, "Content-Length: 1e1"), b"abc"),
    "length-with-a-sign": actions.then_close(actions.head(200, "Content-Length: +3"), b"abc"),
    "unknown-transfer-coding": actions.then_close(
        actions.head(200, "Transfer-Encoding: gzip, chunked"), b"0\r\n\r\n"
    ),
    "head-without-end": actions.then_close(
        b"HTTP/1.1 200 OK\r\n" + b"X-Fill: ffffffffffffffffffffffff\r\n" * 20_000
    ),
    "line-without-end": actions.then_close(b"HTTP/1.1 200 OK\r\nX-Fill: " + b"f" * 600_000),
    "interim-without-end": actions.then_close(actions.head("103 Early Hints") * 2_000),
}


@pytest.mark.parametrize("handler", NOT_HTTP.values(), ids=NOT_HTTP)
def test_no_valid_answer_on_a_fresh_connection_is_a_bad_gateway(
    proxy: ProxyProcess, target: Upstream, handler: Handler
) -> None:
    target.close_idle()
    target.respond(handler)
    raw = message("POST /x", "X-Request-ID: id-1", body=b"content")
    response = proxy.ask(raw)
    assert_own_error(response, 502, "TargetProtocolError")
    assert response.one("X-Request-ID") == "id-1"
    assert len(target.requests) == 1
    target.respond(actions.answer(200, body=b"well"))
    assert proxy.get("/next").body == b"well"


def test_an_own_error_keeps_the_clients_connection(proxy: ProxyProcess, target: Upstream) -> None:
    target.close_idle()
    target.script(actions.then_close())
    with proxy.connect() as client:
        assert_own_error(client.ask(message("GET /x")), 502)
        assert client.ask(message("GET /y")).status == 200


def test_an_own_error_to_head_has_no_body(proxy: ProxyProcess, target: Upstream) -> None:
    target.close_idle()
    target.script(actions.then_close())
    with proxy.connect() as client:
        assert client.ask(message("HEAD /x")).status == 502
        assert client.ask(message("GET /y")).status == 200


def test_an_own_error_gives_away_neither_token_nor_fields(
    proxy: ProxyProcess, target: Upstream
) -> None:
    sent: list[str] = []

    def echo_garbage(exchange: Exchange) -> None:
        sent.append(exchange.request.one("Authorization") or "")
        exchange.read_body()
        exchange.send(exchange.request.head)  # Not a response; would it be quoted?
        exchange.close()

    target.close_idle()
    target.respond(echo_garbage)
    response = proxy.get("/x", "X-Private: inbound-secret")
    assert_own_error(response, 502, "TargetProtocolError")
    assert sent[0].removeprefix("Bearer ") not in response.body.decode()
    assert b"inbound-secret" not in response.body
