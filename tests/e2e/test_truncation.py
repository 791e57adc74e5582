"""An answer that was cut short looks cut short to the client."""

from __future__ import annotations

import pytest

from tests.conftest import Launch
from tests.support import actions
from tests.support.process import ProxyProcess, wait_until
from tests.support.tcp import unacknowledged_from
from tests.support.upstream import Exchange, Handler, Upstream
from tests.support.wire import Truncated, chunks, message, to_bytes

CHUNKED = actions.head(200, "Transfer-Encoding: chunked")
SHORT = actions.head(200, "Content-Length: 10")
ENDLESS = actions.head(200)

CUT = {
    "length-closed": actions.then_close(SHORT, b"half"),
    "length-cut": actions.then_cut(SHORT, b"half"),
    "length-reset": actions.then_reset(SHORT, b"half"),
    "chunked-closed-within-a-chunk": actions.then_close(CHUNKED, b"a\r\nhalf"),
    "chunked-closed-between-chunks": actions.then_close(CHUNKED, chunks(b"half", end=False)),
    "chunked-closed-within-a-size": actions.then_close(CHUNKED, chunks(b"half", end=False), b"1"),
    "chunked-cut": actions.then_cut(CHUNKED, chunks(b"half", end=False)),
    "chunked-reset": actions.then_reset(CHUNKED, chunks(b"half", end=False)),
    "chunk-size-not-hex": actions.raw(CHUNKED, chunks(b"half", end=False), b"zz\r\nab\r\n"),
    "chunk-size-negative": actions.raw(CHUNKED, chunks(b"half", end=False), b"-2\r\nab\r\n"),
    "chunk-size-prefixed": actions.raw(CHUNKED, chunks(b"half", end=False), b"0x2\r\nab\r\n"),
    "chunk-size-underscore": actions.raw(CHUNKED, chunks(b"half", end=False), b"1_0\r\nab\r\n"),
    "chunk-size-empty": actions.raw(CHUNKED, chunks(b"half", end=False), b"\r\nab\r\n"),
    "chunk-size-enormous": actions.raw(
        CHUNKED, chunks(b"half", end=False), b"f" * 40 + b"\r\nab\r\n"
    ),
    "chunk-size-without-end": actions.then_close(
        CHUNKED, chunks(b"half", end=False), b"1" * 100_000
    ),
    "chunk-longer-than-it-says": actions.raw(
        CHUNKED, chunks(b"half", end=False), b"2\r\nabcd\r\n0\r\n\r\n"
    ),
}


@pytest.mark.parametrize("cut", CUT.values(), ids=CUT)
@pytest.mark.parametrize("status", [200, 500])
def test_a_cut_answer_is_cut_for_the_client(
    proxy: ProxyProcess, target: Upstream, cut: Handler, status: int
) -> None:
    if status != 200:
        cut = _with_status(cut, status)
    target.respond(cut)
    with proxy.connect() as client:
        client.send(message("GET /x"))
        with pytest.raises(Truncated):
            client.receive()
        assert client.is_closed_by_peer()
    target.respond(actions.answer(200, body=b"whole"))
    assert proxy.get("/next").body == b"whole"


def _with_status(handler: Handler, status: int) -> Handler:
    """Return `handler` with the status of what it sends first changed."""

    def handle(exchange: Exchange) -> None:
        send = exchange.send

        def send_changed(*parts: bytes | str) -> None:
            changed = b"HTTP/1.1 %d" % status
            send(*(to_bytes(part).replace(b"HTTP/1.1 200", changed) for part in parts))

        exchange.send = send_changed  # type: ignore[method-assign]
        handler(exchange)

    return handle


@pytest.mark.parametrize(
    "cut",
    [
        actions.then_close(SHORT),
        actions.then_reset(SHORT),
        actions.then_close(CHUNKED),
        actions.then_close(CHUNKED, b"a\r\n"),
    ],
    ids=["length-closed", "length-reset", "chunked-closed", "chunked-closed-within-a-chunk"],
)
@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_cut_before_its_first_byte_is_cut_or_a_bad_gateway(
    proxy: ProxyProcess, target: Upstream, cut: Handler, status: int
) -> None:
    target.respond(cut if status == 200 else _with_status(cut, status))
    with proxy.connect() as client:
        client.send(message("GET /x"))
        head = client.receive_head()
        if head.status == status:
            with pytest.raises(Truncated):
                list(client.body_of(head))
        else:
            assert head.status == 502


@pytest.mark.parametrize("cut", ["length-closed", "length-reset"])
def test_a_cut_answer_is_cut_for_a_client_of_http_1_0(
    proxy: ProxyProcess, target: Upstream, cut: str
) -> None:
    target.respond(CUT[cut])
    with proxy.connect() as client:
        client.send(message("GET /x HTTP/1.0"))
        with pytest.raises(Truncated):
            client.receive()


def test_what_came_before_the_cut_is_passed_on(proxy: ProxyProcess, target: Upstream) -> None:
    target.respond(CUT["chunked-closed-between-chunks"])
    with proxy.connect() as client:
        client.send(message("GET /x"))
        with pytest.raises(Truncated) as cut:
            client.receive()
    assert cut.value.seen == b"half"


def test_a_cut_answer_is_logged_without_a_traceback(proxy: ProxyProcess, target: Upstream) -> None:
    mark = proxy.mark()
    target.respond(CUT["length-closed"])
    with proxy.connect() as client:
        client.send(message("GET /cut-and-logged"))
        with pytest.raises(Truncated):
            client.receive()
    line = proxy.wait_for_line("level=(error|warning) .*cut-and-logged", after=mark)
    assert "Traceback" not in line


def test_an_answer_that_ends_with_the_connection_is_cut_by_a_missing_tls_end(
    proxy: ProxyProcess, target: Upstream
) -> None:
    """RFC 9112 section 9.8: without close_notify such a body is incomplete."""
    target.respond(actions.then_cut(ENDLESS, b"half"))
    with proxy.connect() as client:
        client.send(message("GET /x"))
        with pytest.raises(Truncated):
            client.receive()


def test_an_answer_that_ends_with_the_connection_is_cut_by_a_reset(launch: Launch) -> None:
    upstream = Upstream()
    try:
        upstream.respond(actions.then_reset(ENDLESS, b"half"))
        proxy = launch(TARGET_HOST=upstream.url, TARGET_ALLOW_HTTP="true")
        with proxy.connect() as client:
            client.send(message("GET /x"))
            with pytest.raises(Truncated):
                client.receive()
    finally:
        upstream.close()


# -- what ends an idle connection ------------------------------------------------


@pytest.mark.parametrize("then_close", [False, True], ids=["kept", "closed"])
def test_an_unasked_answer_on_an_idle_connection_is_given_to_nobody(
    proxy: ProxyProcess, target: Upstream, then_close: bool
) -> None:
    target.respond(actions.answer(200, body=b"honest"))
    assert proxy.get("/first").body == b"honest"
    timeout = actions.answer("408 Request Timeout", "Connection: close", body=b"too slow")
    target.send_on_idle(timeout, then_close=then_close)
    wait_until("it has arrived", lambda: not unacknowledged_from(target.port))
    response = proxy.get("/second")
    assert (response.status, response.body) == (200, b"honest")
