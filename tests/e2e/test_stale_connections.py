"""Kept connections that have died without a word, or have been kept for long enough."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import pytest

from tests.conftest import Launch
from tests.support import actions
from tests.support.expect import assert_failure_logged, assert_own_error
from tests.support.process import ProxyProcess, wait_until
from tests.support.tcp import deafen, unacknowledged_from, undeafen
from tests.support.upstream import Connection, Exchange, Upstream
from tests.support.wire import message

KEPT = 4
FINE = actions.answer(200, body=b"fine")


@pytest.fixture(scope="module")
def proxy(launch_for_module: Launch) -> ProxyProcess:
    return launch_for_module(TARGET_POOL_SIZE=str(KEPT), TARGET_READ_TIMEOUT_SECONDS="3")


def keep_connections(proxy: ProxyProcess, target: Upstream) -> None:
    """Have the proxy keep KEPT connections that rest, none of them from another test."""
    wait_until("connections are kept", partial(_are_kept, proxy, target))
    target.wait_for("all are idle", lambda: target.all_idle)


def _are_kept(proxy: ProxyProcess, target: Upstream) -> bool:
    """Have KEPT requests under way at the same time; tell whether none timed out meanwhile."""
    target.reset()
    target.close_idle()
    gate = target.gate()
    target.respond(actions.raw(gate, FINE))
    clients = [proxy.connect() for _ in range(KEPT)]
    for client in clients:
        client.send(message("GET /kept"))
    target.wait_for_requests(KEPT)
    gate.open()
    responses = [client.receive() for client in clients]
    for client in clients:
        client.close()
    return all(response.body == b"fine" for response in responses)


@contextmanager
def forgotten(target: Upstream) -> Iterator[None]:
    """Have the network drop, on every kept connection, whatever the proxy sends."""
    deaf: list[socket.socket] = []

    def forget(connection: Connection) -> None:
        deafen(connection.sock)
        deaf.append(connection.sock)

    wait_until("all is acknowledged", lambda: not unacknowledged_from(target.port))
    target.end_idle(forget)
    try:
        yield
    finally:
        for sock in deaf:
            with suppress(OSError):  # it was closed meanwhile
                undeafen(sock)


def test_one_silent_connection_makes_the_others_suspect(
    proxy: ProxyProcess, target: Upstream
) -> None:
    """What forgot one connection has forgotten the others: one request pays, not each."""
    keep_connections(proxy, target)
    kept, silent = target.accepted, actions.stall(target.gate())

    def handle(exchange: Exchange) -> None:
        # A new connection may be used again before the last of the four requests below is sent.
        (silent if exchange.connection.number <= kept else actions.raw(FINE))(exchange)

    target.respond(handle)
    mark = proxy.mark()
    response = proxy.get("/x")
    assert_own_error(response, 504, "TargetTimeout")
    assert assert_failure_logged(proxy, mark, response)["Request"] == f"{target.url}/x"
    clients = [proxy.connect() for _ in range(KEPT)]
    for client in clients:
        client.send(message("GET /y"))
    for client in clients:
        assert client.receive().body == b"fine"
        client.close()


def test_a_connection_that_the_network_forgot_costs_no_request(
    proxy: ProxyProcess, target: Upstream
) -> None:
    """Half the read timeout tells that nothing is acknowledged; then it is sent again."""
    keep_connections(proxy, target)
    target.respond(FINE)
    with forgotten(target):
        assert proxy.get("/forgotten").body == b"fine"
    line = proxy.wait_for_line("Successfully sent request.*/forgotten")
    assert "Attempts=2" in line
    assert [request.ordinal for request in target.requests[KEPT:]] == [1]


def test_what_may_not_be_sent_twice_is_told_so_there(proxy: ProxyProcess, target: Upstream) -> None:
    keep_connections(proxy, target)
    mark = proxy.mark()
    with forgotten(target):
        response = proxy.ask(message("POST /x", body=b"b"))
    assert_own_error(response, 502, "TargetProtocolError")
    line = assert_failure_logged(proxy, mark, response)
    assert "POST is not sent again" in line["Error"]
    assert len(target.requests) == KEPT


@pytest.mark.parametrize(
    "setting", ["TARGET_IDLE_CONNECTION_SECONDS", "TARGET_CONNECTION_MAX_AGE_SECONDS"]
)
def test_a_connection_that_was_kept_long_enough_is_not_used_again(
    launch: Launch, target: Upstream, setting: str
) -> None:
    proxy = launch(**{setting: "0.001"})  # it rests for two milliseconds before it is used again
    for _ in range(5):
        assert proxy.get("/x").status == 200
    assert [request.ordinal for request in target.requests] == [1] * 5


def test_by_default_one_is_used_again(launch: Launch, target: Upstream) -> None:
    proxy = launch(TARGET_POOL_SIZE="1")
    for _ in range(5):
        assert proxy.get("/x").status == 200
    assert [request.ordinal for request in target.requests] == [1, 2, 3, 4, 5]
