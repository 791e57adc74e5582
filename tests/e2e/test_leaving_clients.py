"""A client that leaves takes its request to the target along, and sets its thread free."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.conftest import Launch
from tests.support import actions
from tests.support.authority import Authority
from tests.support.forward_proxy import ForwardProxy
from tests.support.process import ProxyProcess, free_port
from tests.support.scrape import settled
from tests.support.upstream import OK, Disconnected, Exchange, Handler, Upstream
from tests.support.wire import DEADLINE, Client, message

GONE = "Code=ClientDisconnected"


@dataclass
class Quiet:
    """A proxy with one thread, which has no request and no connection to the target."""

    proxy: ProxyProcess
    #: The end of its log.
    mark: int

    def has_logged(self, text: str) -> bool:
        """Whether it has logged that since."""
        self.proxy.mark()
        return any(text in line for line in self.proxy.lines[self.mark :])


@pytest.fixture(scope="module")
def one_thread(launch_for_module: Launch) -> ProxyProcess:
    return launch_for_module(THREADS="1")


@pytest.fixture
def quiet(one_thread: ProxyProcess, target: Upstream) -> Quiet:
    target.close_idle()
    return Quiet(one_thread, one_thread.mark())


@pytest.fixture
def ended() -> threading.Event:
    """That the proxy has ended its connection to the target, which is not of its own accord.

    The target is silent, and may be for 150 s.
    """
    return threading.Event()


@pytest.fixture
def silent(ended: threading.Event) -> Callable[..., Handler]:
    """Give what reads a request, sends so much, and waits until the proxy hangs up."""

    def after(*sent: bytes) -> Handler:
        def handle(exchange: Exchange) -> None:
            exchange.read_body()
            exchange.send(*sent)
            try:
                exchange.wait_until_closed_by_proxy()
            except Disconnected:
                ended.set()
                raise

        return handle

    return after


def leave(proxy: ProxyProcess, raw: bytes, *, come: Callable[[Client], object]) -> None:
    """Ask, wait until it has come so far, and leave."""
    with Client(proxy.address) as client:
        client.send(raw)
        come(client)


@pytest.mark.parametrize("way", ["TLS", "through a proxy", "through a proxy behind TLS"])
def test_before_the_answer(
    launch: Launch,
    target: Upstream,
    authority: Authority,
    ended: threading.Event,
    silent: Callable[..., Handler],
    way: str,
) -> None:
    port = free_port()
    with ForwardProxy(tls=authority.context() if "behind" in way else None) as forward:
        scheme = "https" if "behind" in way else "http"
        through = f"{scheme}://localhost:{forward.port}" if "proxy" in way else ""
        proxy = launch(THREADS="1", METRICS_PORT=str(port), HTTPS_PROXY=through)
        target.on("/silent", silent())
        leave(
            proxy,
            message("POST /silent", body=b"sample"),
            come=lambda _: target.wait_for_requests(1),
        )
        assert ended.wait(DEADLINE)
        # The only thread is free, and nothing was sent twice.
        assert proxy.get("/next").status == 200
        assert [request.target for request in target.requests] == [b"/silent", b"/next"]
    line = proxy.wait_for_line(GONE)
    assert 'level=warning msg="Request failed"' in line
    assert "StatusCode=499" in line
    assert (
        settled(port).sum("aad_auth_proxy_requests_total", status_code="499", path="/silent") == 1
    )


def test_before_the_answer_on_a_connection_that_was_used_before(
    quiet: Quiet, target: Upstream, ended: threading.Event, silent: Callable[..., Handler]
) -> None:
    proxy = quiet.proxy
    assert proxy.get("/before").status == 200
    target.on("/silent", silent())
    leave(proxy, message("GET /silent"), come=lambda _: target.wait_for_requests(2))
    assert ended.wait(DEADLINE)
    proxy.wait_for_line(GONE, after=quiet.mark)
    assert [request.target for request in target.requests] == [b"/before", b"/silent"]
    assert target.requests[-1].ordinal == 2


def test_within_the_answer(
    quiet: Quiet, target: Upstream, ended: threading.Event, silent: Callable[..., Handler]
) -> None:
    proxy = quiet.proxy
    target.on("/half", silent(actions.head(200, "Content-Length: 10") + b"half "))
    leave(proxy, message("GET /half"), come=lambda client: client.stream.until(b"half ", "half"))
    assert ended.wait(DEADLINE)
    line = proxy.wait_for_line('msg="Response cut short"', after=quiet.mark)
    assert 'Error="The connection to the client ended' in line
    assert proxy.get("/next").status == 200


def test_while_the_target_does_not_read_the_request(quiet: Quiet, target: Upstream) -> None:
    proxy = quiet.proxy
    begun, gate = threading.Event(), target.gate()

    def handle(_: Exchange) -> None:
        begun.set()
        gate.wait()

    target.on("/unread", handle)
    leave(
        proxy,
        message("POST /unread", body=b"x" * 20_000_000),
        come=lambda _: begun.wait(DEADLINE),
    )
    proxy.wait_for_line(GONE, after=quiet.mark)
    assert proxy.get("/next").status == 200
    gate.open()


def test_after_the_answer_the_connection_to_the_target_is_kept(
    quiet: Quiet, target: Upstream
) -> None:
    proxy = quiet.proxy
    target.respond(OK)
    for _ in range(20):
        with Client(proxy.address) as client:
            assert client.ask(message("GET /whole")).status == 200
    assert proxy.get("/next").status == 200
    assert target.requests[-1].ordinal == 21
    assert not quiet.has_logged(GONE)


# -- clients that end their side alone, as `nc -N` does, and wait for the response


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_who_ends_only_its_own_side_gets_the_response(
    quiet: Quiet, target: Upstream, version: str
) -> None:
    proxy = quiet.proxy
    with proxy.connect() as client:
        client.send(message(f"POST /half {version}", body=b"sample"))
        client.finish_sending()
        response = client.receive()
        assert response.status == 200
        # One asks whether the client is there, if the response has not begun within a second.
        probes = {100} if version == "HTTP/1.1" else set()
        assert {each.status for each in response.interim} <= probes
        assert client.is_closed_by_peer()
    assert [request.body for request in target.requests] == [b"sample"]
    assert not quiet.has_logged(GONE)


def test_all_that_was_asked_before_the_end_is_answered(quiet: Quiet, target: Upstream) -> None:
    proxy = quiet.proxy
    many_fields = [f"X-{number}: y" for number in range(200)]
    with proxy.connect() as client:
        client.send(
            message("GET /1")
            + message("GET /2", *many_fields)
            + message("POST /3", body=b"sample")
            + b"GET /never HTTP/1.1\r\n"
        )
        client.finish_sending()
        assert [client.receive().status for _ in range(3)] == [200] * 3
        assert client.is_closed_by_peer()
    assert [request.target for request in target.requests] == [b"/1", b"/2", b"/3"]


def test_a_slow_response_is_waited_for_and_an_interim_one_asks_whether_the_client_is_there(
    quiet: Quiet, target: Upstream
) -> None:
    proxy, gate = quiet.proxy, target.gate()
    target.on("/slow", actions.raw(gate, actions.answer(200, body=b"fine")))
    with proxy.connect() as client:
        client.send(message("GET /slow"))
        client.finish_sending()
        assert client.stream.until(b"\r\n\r\n", "a probe").startswith(b"HTTP/1.1 100 ")
        gate.open()
        assert client.receive().body == b"fine"
        assert client.is_closed_by_peer()
    assert not quiet.has_logged(GONE)


def test_a_side_may_be_ended_within_the_response(quiet: Quiet, target: Upstream) -> None:
    proxy, gate = quiet.proxy, target.gate()
    head = actions.head(200, "Content-Length: 10")
    target.on("/halves", actions.raw(head + b"half ", gate, b"half."))
    with proxy.connect() as client:
        client.send(message("GET /halves"))
        client.stream.until(b"half ", "half")
        client.finish_sending()
        gate.open()
        assert client.stream.until(b"half.", "the other half") == b"half."
        assert client.is_closed_by_peer()


def test_who_has_ended_its_side_reads_a_long_response_in_its_own_time(
    quiet: Quiet, target: Upstream
) -> None:
    proxy, size = quiet.proxy, 20_000_000
    target.on("/long", actions.raw(actions.answer(200, body=b"l" * size)))
    with proxy.connect() as client:
        client.send(message("GET /long"))
        client.finish_sending()
        client.stream.until(b"l", "its beginning")
        assert sum(map(len, client.stream.pieces(size - 1))) == size - 1
        assert client.is_closed_by_peer()


def test_before_the_answer_to_an_old_client(
    quiet: Quiet, target: Upstream, ended: threading.Event, silent: Callable[..., Handler]
) -> None:
    proxy = quiet.proxy
    target.on("/silent", silent())
    leave(proxy, message("GET /silent HTTP/1.0"), come=lambda _: target.wait_for_requests(1))
    assert ended.wait(DEADLINE)
    proxy.wait_for_line(GONE, after=quiet.mark)
