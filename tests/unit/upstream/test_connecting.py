"""To which address of a name a connection is opened, and how long that may take."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.http1.urls import TargetURL
from authproxy.upstream.connecting import Address, Connector, alternating, resolve
from authproxy.upstream.request import OutboundRequest
from authproxy.upstream.session import TargetSession
from tests.support.process import free_port
from tests.support.tcp import deafen, undeafen
from tests.support.upstream import Upstream

#: Longer than a test runs.
LONG = 600.0

V4, V6 = socket.AF_INET, socket.AF_INET6

Listen = Callable[..., socket.socket]


def at(sock: socket.socket) -> Address:
    return Address(sock.family, sock.getsockname())


def connector(*addresses: Address, timeout: float = LONG) -> Connector:
    return Connector("target.test", 443, timeout, lambda host, port: addresses)


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Make listeners; a deaf one drops every SYN."""
    with ExitStack() as stack:

        def made(*, deaf: bool = False) -> socket.socket:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            if deaf:
                deafen(listener)
            return listener

        yield made


def reached(connector: Connector) -> Address:
    with connector.connect() as sock:
        return Address(sock.family, sock.getpeername())


def test_an_address_that_is_silent_holds_nobody_up(listen: Listen) -> None:
    """It would for ten minutes."""
    silent, open_ = listen(deaf=True), listen()
    assert reached(connector(at(silent), at(open_))) == at(open_)


def test_one_that_refuses_gives_way_to_the_next(listen: Listen) -> None:
    refusing = Address(V4, ("127.0.0.1", free_port()))
    open_ = listen()
    assert reached(connector(refusing, refusing, at(open_))) == at(open_)


def test_the_one_that_worked_is_tried_first(listen: Listen) -> None:
    silent, open_ = listen(deaf=True), listen()
    both = connector(at(silent), at(open_))
    assert reached(both) == at(open_)
    undeafen(silent)
    assert reached(both) == at(open_)


def test_it_is_forgotten_with_the_name_that_had_it(listen: Listen) -> None:
    before, after = listen(), listen()
    addresses = [at(before)]
    moving = Connector("target.test", 443, LONG, lambda host, port: addresses)
    assert reached(moving) == at(before)
    addresses[:] = [at(after)]
    assert reached(moving) == at(after)


def test_the_timeout_bounds_all_addresses_together(listen: Listen) -> None:
    silent = [at(listen(deaf=True)) for _ in range(3)]
    with pytest.raises(TimeoutError):
        connector(*silent, timeout=0.6).connect()


def test_the_last_failure_is_told() -> None:
    refusing = Address(V4, ("127.0.0.1", free_port()))
    with pytest.raises(ConnectionRefusedError):
        connector(refusing, refusing).connect()
    with pytest.raises(OSError, match="no address"):
        connector().connect()


def test_a_name_without_an_address_is_told_as_such() -> None:
    for host in ("no-such-host.invalid", "label..empty"):
        with pytest.raises(socket.gaierror):
            Connector(host, 443, LONG).connect()


def test_a_resolver_that_hangs_counts_too_and_is_asked_once(listen: Listen) -> None:
    """However many wait for it meanwhile: the threads that ask are bounded."""
    asked: list[str] = []
    answer = threading.Event()
    open_ = at(listen())

    def slow(host: str, port: int) -> Sequence[Address]:
        asked.append(host)
        assert answer.wait(LONG)
        return [open_]

    hanging = Connector("target.test", 443, 0.2, slow)
    with ThreadPoolExecutor(4) as threads:
        attempts = [threads.submit(hanging.connect) for _ in range(4)]
        for attempt in attempts:
            with pytest.raises(TimeoutError, match="not resolved in time"):
                attempt.result()
    assert asked == ["target.test"]
    hanging_no_more = Connector("target.test", 443, LONG, slow)
    answer.set()
    assert reached(hanging_no_more) == open_


def test_each_connection_looks_the_name_up_anew(listen: Listen) -> None:
    asked: list[tuple[str, int]] = []
    open_ = at(listen())

    def counted(host: str, port: int) -> Sequence[Address]:
        asked.append((host, port))
        return [open_]

    counting = Connector("target.test", 443, LONG, counted)
    for _ in range(3):
        reached(counting)
    assert asked == [("target.test", 443)] * 3


def test_a_socket_has_its_options_and_what_is_left_of_the_time(listen: Listen) -> None:
    option = (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    with connector(at(listen()), timeout=5).connect([option]) as sock:
        assert sock.getsockopt(*option[:2]) == 1
        assert 0 < (sock.gettimeout() or 0) <= 5


def test_the_system_has_each_address_once() -> None:
    assert Address(V4, ("127.0.0.1", 80)) in resolve("localhost", 80)
    found = resolve("127.0.0.1", 80)
    assert found == [Address(V4, ("127.0.0.1", 80))]


_ADDRESSES = st.lists(
    st.builds(Address, st.sampled_from([V4, V6]), st.integers(0, 50)), unique=True
)


@given(_ADDRESSES, st.none() | st.builds(Address, st.sampled_from([V4, V6]), st.integers(0, 50)))
def test_the_families_take_turns(addresses: list[Address], preferred: Address | None) -> None:
    turns = alternating(addresses, preferred)
    assert sorted(turns, key=addresses.index) == addresses
    if addresses:
        assert turns[0] == (preferred if preferred in addresses else addresses[0])
    fewer = min([address.family for address in turns].count(family) for family in (V4, V6))
    for one, next_ in zip(turns[: 2 * fewer : 2], turns[1 : 2 * fewer : 2], strict=True):
        assert one.family != next_.family


def test_steady_traffic_follows_a_name(listen: Listen) -> None:
    """A connection is no longer used once it is old, however busy it is."""
    with closing(Upstream()) as before, closing(Upstream()) as after:
        addresses = [Address(V4, ("127.0.0.1", before.port))]
        session = TargetSession(
            TargetURL.parse("http://target.test", allow_http=True),
            pool_size=1,
            connect_timeout=LONG,
            read_timeout=LONG,
            rest=0.0,
            max_age=0.01,
            resolver=lambda host, port: addresses,
        )

        def get() -> None:
            request = OutboundRequest("GET", "/", [("Host", "target.test")])
            b"".join(session.exchange(request, "Bearer x").body())

        with session:
            get()
            addresses[:] = [Address(V4, ("127.0.0.1", after.port))]
            while not after.requests:
                get()
