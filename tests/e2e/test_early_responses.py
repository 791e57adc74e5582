"""A target that responds while the request is still being sent, and may read no more of it.

Situation, what the client sees, what the log says.
"""

from __future__ import annotations

import socket

import pytest

from tests.conftest import Launch
from tests.support import actions
from tests.support.authority import Authority
from tests.support.expect import assert_failure_logged, assert_own_error
from tests.support.forward_proxy import ForwardProxy
from tests.support.logfmt import parse_line
from tests.support.process import ProxyProcess
from tests.support.upstream import Exchange, Gate, Handler, Upstream
from tests.support.wire import message

#: More than the kernel keeps for a connection.
BODY = b"b" * 20_000_000
REQUEST = message("POST /x", body=BODY)


def respond_and_stop_reading(gate: Gate, *parts: bytes) -> Handler:
    """Respond to the head of a request, and read nothing of its body until the gate opens."""

    def handle(exchange: Exchange) -> None:
        exchange.send(*parts)
        gate.wait()
        exchange.close()

    return handle


@pytest.mark.parametrize("status", [307, 403, 413, 429, 503])
def test_the_response_passes_though_the_target_has_stopped_reading(
    proxy: ProxyProcess, target: Upstream, status: int
) -> None:
    response = actions.answer(status, "Retry-After: 7", body=b"too much")
    target.respond(respond_and_stop_reading(target.gate(), response))
    received = proxy.ask(message(f"POST /refused-{status}", body=BODY))
    assert (received.status, received.body) == (status, b"too much")
    assert received.one("Retry-After") == "7"
    said = "Successfully sent request" if status < 400 else "Error response body: too much"
    line = parse_line(proxy.wait_for_line(f"{said}.*/refused-{status}"))
    assert (line["StatusCode"], line["Method"], line["ContentLength"]) == (str(status), "POST", "8")
    target.respond(actions.answer(200, body=b"well"))
    assert proxy.get("/next").body == b"well"


def test_interim_responses_before_it_do_not_count(proxy: ProxyProcess, target: Upstream) -> None:
    interim = actions.head("100 Continue") + actions.head("103 Early Hints", "Link: </a>")
    response = actions.answer(413, body=b"too much")
    target.respond(respond_and_stop_reading(target.gate(), interim, response))
    assert proxy.ask(REQUEST).body == b"too much"


def test_an_early_success_does_not_cut_the_request(proxy: ProxyProcess, target: Upstream) -> None:
    """It may be about what has come so far, and the target reads on."""

    def handle(exchange: Exchange) -> None:
        exchange.send(actions.head(200, "Content-Length: 4"))
        exchange.read_body()
        exchange.send(b"done")

    target.respond(handle)
    assert proxy.ask(REQUEST).body == b"done"
    assert target.only().body == BODY


def test_a_target_that_ends_its_side_and_stops_reading_is_not_waited_for(
    proxy: ProxyProcess, target: Upstream
) -> None:
    target.close_idle()
    gate = target.gate()

    def handle(exchange: Exchange) -> None:
        socket.socket.shutdown(exchange.connection.sock, socket.SHUT_WR)
        gate.wait()
        exchange.close()

    target.respond(handle)
    mark = proxy.mark()
    response = proxy.ask(REQUEST)
    assert_own_error(response, 502, "TargetProtocolError")
    assert assert_failure_logged(proxy, mark, response)["Method"] == "POST"


def test_a_target_that_takes_nothing_for_long_is_a_timeout(
    launch: Launch, target: Upstream
) -> None:
    proxy = launch(TARGET_READ_TIMEOUT_SECONDS="0.5")
    target.respond(respond_and_stop_reading(target.gate()))
    mark = proxy.mark()
    response = proxy.ask(REQUEST)
    assert_own_error(response, 504, "TargetTimeout")
    assert assert_failure_logged(proxy, mark, response)["Method"] == "POST"


def test_without_tls_too(launch: Launch) -> None:
    target = Upstream()
    try:
        proxy = launch(TARGET_HOST=target.url, TARGET_ALLOW_HTTP="true")
        response = actions.answer(413, body=b"too much")
        target.respond(respond_and_stop_reading(target.gate(), response))
        assert proxy.ask(REQUEST).body == b"too much"
        target.respond(actions.answer(200, body=b"well"))
        assert proxy.ask(REQUEST).body == b"well"
        assert target.requests[-1].body == BODY
    finally:
        target.close()


def test_through_a_forward_proxy_that_speaks_tls_too(
    launch: Launch, target: Upstream, authority: Authority
) -> None:
    with ForwardProxy(tls=authority.context()) as forward:
        proxy = launch(HTTPS_PROXY=f"https://localhost:{forward.port}")
        response = actions.answer(413, body=b"too much")
        target.respond(respond_and_stop_reading(target.gate(), response))
        assert proxy.ask(REQUEST).body == b"too much"
        target.respond(actions.answer(200, body=b"well"))
        assert proxy.ask(REQUEST).body == b"well"
        assert target.requests[-1].body == BODY
