"""The stages of an exchange with the target, and how each of them goes wrong."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from lab.faults.outcomes import CUT, LARGE, PROTOCOL, TIMEOUT, UNREACHABLE
from tests.support import actions
from tests.support.upstream import Connection, Exchange, Gate, Handler, Hook


class Stage:
    """Where an exchange goes wrong, and how; `hook` for what comes before a request."""

    def __init__(
        self, wrong: Callable[[Gate, Any], None], *, hook: str | None = None, size: int = 2000
    ) -> None:
        self.wrong = wrong
        self.hook = hook
        self.size = size


def no_hook(connection: Connection) -> None:
    """A hook that leaves a connection alone."""


def _hook(action: Hook) -> Callable[[Gate, Connection], None]:
    return lambda gate, connection: action(connection)


def _handler(handler: Handler) -> Callable[[Gate, Exchange], None]:
    return lambda gate, exchange: handler(exchange)


def _held(before: Callable[[Any], None]) -> Callable[[Gate, Any], None]:
    """Do something, then say nothing until the gate opens, and end the connection."""

    def hold(gate: Gate, peer: Connection | Exchange) -> None:
        before(peer)
        gate.wait()
        peer.close()

    return hold


def _reset_within_head(connection: Connection) -> None:
    connection.sock.recv(10)
    connection.reset()


def _responded(part: bytes, end: Callable[[Exchange], None]) -> Handler:
    """Read the request, send a part of a response, and end so."""

    def handle(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(part)
        end(exchange)

    return handle


def _half_close(exchange: Exchange) -> None:
    """Say that nothing more will come, and listen on."""
    socket.socket.shutdown(exchange.connection.sock, socket.SHUT_WR)
    exchange.wait_until_closed_by_proxy()


def half_close_idle(connection: Connection) -> None:
    socket.socket.shutdown(connection.sock, socket.SHUT_WR)


HALF_HEAD = b"HTTP/1.1 200 OK\r\nX-Half: "
HALF_BODY = actions.head(200, "Content-Length: 10") + b"half"


def _no_more(exchange: Exchange) -> None:
    """Leave it at that."""


RESET = {
    "before TLS": (Stage(_hook(Connection.reset), hook="before_tls"), UNREACHABLE),
    "after TLS": (Stage(_hook(Connection.reset), hook="before_reading"), PROTOCOL),
    "within the request's head": (
        Stage(_hook(_reset_within_head), hook="before_reading"),
        PROTOCOL,
    ),
    "within the request's body": (
        Stage(_handler(Exchange.reset), size=LARGE // 12),
        PROTOCOL,
    ),
    "before the response": (Stage(_handler(actions.then_reset())), PROTOCOL),
    "within the response's head": (
        Stage(_handler(_responded(HALF_HEAD, Exchange.reset))),
        PROTOCOL,
    ),
    "within the response's body": (Stage(_handler(_responded(HALF_BODY, Exchange.reset))), CUT),
}

STALLED = {
    "before TLS": (Stage(_held(no_hook), hook="before_tls"), UNREACHABLE),
    "after TLS": (Stage(_held(no_hook), hook="before_reading"), TIMEOUT),
    "within the request's body": (Stage(_held(_no_more), size=LARGE), TIMEOUT),
    "before the response": (Stage(_held(_responded(b"", _no_more))), TIMEOUT),
    "within the response's head": (Stage(_held(_responded(HALF_HEAD, _no_more))), TIMEOUT),
    "within the response's body": (Stage(_held(_responded(HALF_BODY, _no_more))), CUT),
}

HALF_CLOSED = {
    "before the response": (Stage(_handler(_responded(b"", _half_close))), PROTOCOL),
    "within the response's head": (Stage(_handler(_responded(HALF_HEAD, _half_close))), PROTOCOL),
    "within the response's body": (Stage(_handler(_responded(HALF_BODY, _half_close))), CUT),
}
