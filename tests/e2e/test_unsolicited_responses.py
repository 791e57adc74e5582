"""A target that sends more than it was asked for: nobody gets it, and its connections are not kept.

Each case has a route of its own, for the first surplus byte ends the trust in
a route's target.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count

import pytest

from tests.conftest import Launch
from tests.support import actions
from tests.support.authority import Authority
from tests.support.forward_proxy import ForwardProxy
from tests.support.hostile.responses import EXCESS
from tests.support.hostile.volley import echo
from tests.support.logfmt import parse_line
from tests.support.process import ProxyProcess, wait_until
from tests.support.routes import write_routes
from tests.support.tcp import (
    deafen,
    unacknowledged_from,
    unacknowledged_to,
    undeafen,
    unread_from,
)
from tests.support.upstream import Connection, Exchange, Upstream
from tests.support.wire import message

WARNING = "Unsolicited bytes from the target"

#: How many routes there are: one for each test.
ROUTES = 12

CLIENTS = 8


@dataclass
class Ground:
    """A target, and a proxy with routes to it that no test has used yet."""

    upstream: Upstream
    proxy: ProxyProcess
    unused: Iterator[int]
    #: Between the two, if anything is.
    forward: ForwardProxy | None = None

    def route(self) -> str:
        """Return the path of a route that was not used before."""
        return f"/route-{next(self.unused)}"

    def get(self, target: str) -> None:
        """Ask for it; the response has to be its own."""
        assert self.proxy.get(target).one("X-Echo") == f"GET {target}"

    def surplus(self, target: str) -> None:
        """Ask for it; a response that nobody asked for follows at once, in a record of its own."""

        def echo_and_more(exchange: Exchange) -> None:
            echo(exchange)
            exchange.send(EXCESS)

        self.upstream.on(target, echo_and_more)
        self.get(target)
        self.settle()

    def settle(self) -> None:
        """Return once all that the target sent is where the proxy can read it, and acknowledged."""
        self.upstream.wait_for("all is sent", lambda: self.upstream.all_idle)
        port = self.upstream.port
        wait_until("it has arrived", lambda: not unacknowledged_from(port))
        if self.forward:
            wait_until("it is passed on", lambda: not unread_from(port))
            wait_until("it has arrived", lambda: not unacknowledged_from(self.port))

    @property
    def port(self) -> int:
        """The port that the proxy connects to."""
        return self.forward.port if self.forward else self.upstream.port

    @contextmanager
    def deafened(self) -> Iterator[None]:
        """Have nothing reach the other ends of the proxy's connections as they are now."""
        deaf: list[socket.socket] = []

        def stop_listening(connection: Connection) -> None:
            deafen(connection.sock)
            deaf.append(connection.sock)

        self.settle()  # what is not acknowledged would be sent again before anything else
        if self.forward:
            deaf = self.forward.accepted
            for sock in deaf:
                deafen(sock)
        else:
            self.upstream.end_idle(stop_listening)
        try:
            yield
        finally:
            for sock in deaf:
                with suppress(OSError):  # it was closed meanwhile
                    undeafen(sock)

    def connections_of(self, route: str) -> set[int]:
        """Return which connections brought requests of a route; others may be under way still."""
        begin = f"{route}/".encode()
        return {
            request.connection
            for request in self.upstream.requests
            if request.target.startswith(begin)
        }

    def warnings(self, least: int = 0) -> list[dict[str, str]]:
        """Return those in the log, of which there are some."""
        wait_until("they are logged", lambda: self.proxy.log.count(WARNING) >= least)
        self.proxy.mark()
        return [parse_line(line) for line in self.proxy.log.splitlines() if WARNING in line]


@pytest.fixture(scope="module", params=["plain", "tls", "tls-in-tls"])
def shared_ground(
    request: pytest.FixtureRequest,
    launch_for_module: Launch,
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ground]:
    """The last one goes through a forward proxy that is spoken to over TLS itself."""
    tls = request.param != "plain"
    folder = tmp_path_factory.mktemp("ground")
    with ExitStack() as stack:
        upstream = Upstream(authority.context() if tls else None)
        stack.callback(upstream.close)
        paths = [f"/route-{number}" for number in range(ROUTES)]
        # Routes share their target's connections only where they have all settings of it in common.
        routes = [
            {
                "target_host": upstream.url,
                "target_allow_http": not tls,
                "target_read_timeout_seconds": 150 + number,
                "target_pool_size": 1,  # of several connections, they would take turns
                "path": path,
            }
            for number, path in enumerate(paths)
        ]
        settings = {"AUTHPROXY_CONFIG": str(write_routes(folder / "settings.yaml", routes))}
        forward = None
        if request.param == "tls-in-tls":
            forward = stack.enter_context(ForwardProxy(tls=authority.context()))
            settings["HTTPS_PROXY"] = f"https://localhost:{forward.port}"
        proxy = launch_for_module(without=("TARGET_HOST",), **settings)
        yield Ground(upstream, proxy, count(), forward)


@pytest.fixture
def ground(shared_ground: Ground) -> Iterator[Ground]:
    shared_ground.upstream.reset()
    shared_ground.upstream.respond(echo)
    yield shared_ground
    assert not shared_ground.upstream.faults
    shared_ground.upstream.reset()


def test_a_good_target_is_asked_on_one_connection(ground: Ground) -> None:
    route = ground.route()
    for number in range(10):
        ground.get(f"{route}/{number}")
    assert len(ground.connections_of(route)) == 1


def test_after_a_surplus_response_each_request_has_a_connection_of_its_own(
    ground: Ground,
) -> None:
    route, known, kept = ground.route(), len(ground.warnings()), ground.upstream.open_connections
    ground.surplus(f"{route}/first")
    for number in range(10):
        ground.get(f"{route}/{number}")
    assert len(ground.connections_of(route)) == 11
    ground.upstream.wait_for(
        "none of them is kept", lambda: ground.upstream.open_connections <= kept
    )
    (warning,) = ground.warnings(known + 1)[known:]
    assert warning["level"] == "warning"
    assert warning["Target"] == ground.upstream.authority
    assert warning["Seconds"] == "600"


def test_a_surplus_response_on_an_idle_connection_is_given_to_nobody(ground: Ground) -> None:
    route, known = ground.route(), len(ground.warnings())
    ground.get(f"{route}/first")
    ground.upstream.send_on_idle(EXCESS)
    ground.settle()
    for number in range(3):
        ground.get(f"{route}/{number}")
    assert len(ground.warnings(known + 1)) == known + 1


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_a_response_that_was_sent_before_the_request_arrived_is_given_to_nobody(
    ground: Ground, size: int
) -> None:
    """The connection is silent when the request goes out; the surplus is on its way already.

    The target's machine (or the forward proxy's) drops the request's segments
    meanwhile, as if they took their time.
    """
    route, known = ground.route(), len(ground.warnings())
    ground.get(f"{route}/first")
    second = f"{route}/second"
    request = message(f"PUT {second}", body=b"b" * size)
    with ground.deafened(), ground.proxy.connect() as client:
        client.send(request)
        wait_until("the request is on its way", lambda: unacknowledged_to(ground.port))
        ground.upstream.send_on_idle(EXCESS)
        assert client.receive().one("X-Echo") == f"PUT {second}"
    assert len(ground.warnings(known + 1)) == known + 1


def test_many_clients_of_a_target_that_was_caught_get_what_is_theirs(ground: Ground) -> None:
    """Every response is followed by another one, a millisecond later."""
    route = ground.route()
    ground.surplus(f"{route}/first")

    def echo_twice(exchange: Exchange) -> None:
        echo(exchange)
        time.sleep(0.001)
        exchange.send(EXCESS)

    ground.upstream.respond(echo_twice)

    def ask(client: int) -> None:
        for number in range(10):
            ground.get(f"{route}/{client}-{number}")

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(ask, range(CLIENTS)))


def test_unsolicited_bytes_in_one_route_concern_no_other(ground: Ground) -> None:
    bad, good = ground.route(), ground.route()
    ground.get(f"{good}/first")
    ground.surplus(f"{bad}/first")
    ground.get(f"{good}/second")
    assert len(ground.connections_of(good)) == 1


def test_a_target_is_trusted_with_a_length_that_it_keeps(ground: Ground) -> None:
    """A large response ends with its last record; nothing of the next one is taken for it."""
    route = ground.route()
    body = b"b" * 1_000_000
    ground.upstream.on(f"{route}/large", actions.raw(actions.answer(200, body=body)))
    for _ in range(3):
        assert ground.proxy.get(f"{route}/large").body == body
        ground.get(f"{route}/small")
    assert len(ground.connections_of(route)) == 1
