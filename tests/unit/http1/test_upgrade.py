"""Which protocols a target is offered, and which it may choose."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.http1.headers import is_token
from authproxy.http1.upgrade import chosen_protocol, offered_protocols


@pytest.mark.parametrize(
    ("upgrade", "offered"),
    [
        ("websocket", ("websocket",)),
        ("WebSocket, SPDY/3.1 ,x", ("WebSocket", "SPDY/3.1", "x")),
        ("h2c, websocket", ("websocket",)),
        ("H2C", ()),
        ("h2c-14", ()),
        ("h2", ()),
        ("h3", ()),
        ("HTTP/2.0", ()),
        ("http", ()),
        ("TLS/1.0, HTTP/1.1", ()),
        ("httpx, tlsx, h2cx", ("httpx", "tlsx", "h2cx")),
        ("a/b/c, a b, /, a/, ,\x7f", ()),
        ("", ()),
    ],
)
def test_protocols_pass_save_http_and_tls(upgrade: str, offered: tuple[str, ...]) -> None:
    fields = {"Connection": "keep-alive, UPGRADE", "Upgrade": upgrade}
    assert offered_protocols(fields) == offered


@pytest.mark.parametrize("connection", [None, "close", "upgrades", ""])
def test_an_upgrade_that_connection_does_not_name_is_none(connection: str | None) -> None:
    fields = {"Upgrade": "websocket", **({} if connection is None else {"Connection": connection})}
    assert offered_protocols(fields) == ()


@given(st.text(st.characters(max_codepoint=255)))
def test_whatever_comes_only_protocols_are_offered(upgrade: str) -> None:
    offered = offered_protocols({"Connection": "upgrade", "Upgrade": upgrade})
    for protocol in offered:
        assert all(is_token(part) for part in protocol.split("/", 1))
        assert protocol.partition("/")[0].lower() not in ("http", "h2", "h2c", "h3", "tls")
    assert chosen_protocol([("upgrade", ", ".join(offered))], offered) == ", ".join(offered)


@pytest.mark.parametrize(
    ("fields", "chosen"),
    [
        ([("Upgrade", "WEBSOCKET")], "WEBSOCKET"),
        ([("upgrade", "x/1"), ("Upgrade", "websocket")], "x/1, websocket"),
        ([("Upgrade", "x/2")], ""),
        ([("Upgrade", "websocket, h2c")], ""),
        ([("Upgrade", "")], ""),
        ([("Connection", "upgrade")], ""),
    ],
)
def test_a_target_may_choose_what_was_offered(fields: list[tuple[str, str]], chosen: str) -> None:
    assert chosen_protocol(fields, ("websocket", "x/1")) == chosen
