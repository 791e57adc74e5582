"""Handlers for the recording target: the ways in which a peer answers, or does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tests.support.upstream import Exchange, Gate, Handler
from tests.support.wire import Field, to_bytes


def head(status: str | int = "200 OK", *fields: Field | str, version: str = "HTTP/1.1") -> bytes:
    """Return a response head: `fields` are pairs or whole lines."""
    lines = [f"{version} {status}"]
    lines += [line if isinstance(line, str) else f"{line[0]}: {line[1]}" for line in fields]
    return to_bytes("\r\n".join([*lines, "", ""]))


def answer(status: str | int = "200 OK", *fields: Field | str, body: bytes = b"") -> bytes:
    """Return a whole response with its Content-Length."""
    return head(status, *fields, f"Content-Length: {len(body)}") + body


def raw(*parts: bytes | Gate) -> Handler:
    """Read the request, then send `parts` in turn, waiting at each gate among them."""

    def handle(exchange: Exchange) -> None:
        exchange.read_body()
        for part in parts:
            if isinstance(part, Gate):
                part.wait()
            else:
                exchange.send(part)

    return handle


def then_close(*parts: bytes | Gate) -> Handler:
    """As `raw`, then close in order."""

    def handle(exchange: Exchange) -> None:
        raw(*parts)(exchange)
        exchange.close()

    return handle


def then_cut(*parts: bytes | Gate) -> Handler:
    """As `raw`, then end the connection without a TLS close_notify."""

    def handle(exchange: Exchange) -> None:
        raw(*parts)(exchange)
        exchange.cut()

    return handle


def then_reset(*parts: bytes | Gate) -> Handler:
    """As `raw`, then reset the connection."""

    def handle(exchange: Exchange) -> None:
        raw(*parts)(exchange)
        exchange.reset()

    return handle


def stall(gate: Gate, *before: bytes) -> Handler:
    """Read the request, send `before`, and say no more until the gate opens; then close."""
    return then_close(*before, gate)


def close_before_body(exchange: Exchange) -> None:
    """Close on the head of the request, its body unread."""
    exchange.cut()


def early(response: bytes, *, then_read: bool = True) -> Handler:
    """Answer on the head of the request, before its body is read."""

    def handle(exchange: Exchange) -> None:
        exchange.send(response)
        if then_read:
            exchange.discard_body()
        else:
            exchange.close()

    return handle


def only_on_reused(misbehave: Handler, otherwise: Handler) -> Handler:
    """Misbehave on every request but the first of a connection."""

    def handle(exchange: Exchange) -> None:
        (misbehave if exchange.ordinal > 1 else otherwise)(exchange)

    return handle


def by_authorization(answers: Mapping[str, bytes], otherwise: bytes) -> Handler:
    """Choose the answer by the bearer token of the request."""

    def handle(exchange: Exchange) -> None:
        exchange.read_body()
        token = (exchange.request.one("Authorization") or "").removeprefix("Bearer ")
        exchange.send(answers.get(token, otherwise))

    return handle


def repeated(piece: bytes, times: int) -> Iterable[bytes]:
    """Yield `piece` so many times: a large body that is never held whole."""
    for _ in range(times):
        yield piece


def large(response_head: bytes, piece: bytes, times: int) -> Handler:
    """Send a large body piece by piece."""

    def handle(exchange: Exchange) -> None:
        exchange.discard_body()
        exchange.send(response_head)
        for part in repeated(piece, times):
            exchange.send(part)

    return handle
