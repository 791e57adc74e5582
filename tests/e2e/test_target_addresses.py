"""A target's name with several addresses: some dead, or others than before.

Situation, what the client sees, what the log says.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import Launch
from tests.support.authority import Authority
from tests.support.expect import assert_failure_logged, assert_own_error
from tests.support.logfmt import parse_line
from tests.support.process import SOURCE, ProxyProcess, free_port, wait_until
from tests.support.tcp import deafen
from tests.support.upstream import Upstream
from tests.support.wire import message

NAME = "target.test"

#: Python imports it at the start of each process. It is the resolver of NAME alone.
RESOLVER = f"""
import os, socket

system = socket.getaddrinfo

def getaddrinfo(host, port, *args, **named):
    if host != "{NAME}":
        return system(host, port, *args, **named)
    with open(os.environ["ADDRESSES"]) as file:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
            for address in file.read().split()
        ]

socket.getaddrinfo = getaddrinfo
"""


class Name:
    """NAME, which leads to what is written for it."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "addresses"
        (folder / "sitecustomize.py").write_text(RESOLVER)
        path = os.pathsep.join((str(folder), str(SOURCE)))  # the code under test, installed or not
        self.environment = {"PYTHONPATH": path, "ADDRESSES": str(self._file)}

    def leads_to(self, *addresses: str) -> None:
        written = self._file.with_suffix(".new")
        written.write_text("\n".join(addresses))
        written.rename(self._file)


@pytest.fixture
def name(tmp_path: Path) -> Name:
    return Name(tmp_path)


@pytest.fixture
def upstream(authority: Authority) -> Iterator[Upstream]:
    # A port that the system gives to nobody: the tests need the same one of other addresses too.
    tls, port = authority.context(NAME), free_port()
    with closing(Upstream(tls, host="127.0.0.2", port=port)) as upstream:
        yield upstream


def launched(launch: Launch, name: Name, upstream: Upstream, **settings: str) -> ProxyProcess:
    return launch(TARGET_HOST=f"{NAME}:{upstream.port}", **name.environment, **settings)


def outcomes(proxy: ProxyProcess, least: int) -> list[tuple[str, str | None, str | None]]:
    """Return level, status and attempts of each line about a request, of which there are some."""
    wait_until("they are logged", lambda: sum("Request=" in line for line in proxy.lines) >= least)
    proxy.mark()
    lines = [parse_line(line) for line in proxy.lines if "Request=" in line]
    return [(line["level"], line.get("StatusCode"), line.get("Attempts")) for line in lines]


def test_an_address_that_drops_everything_holds_no_connection_up(
    launch: Launch, name: Name, upstream: Upstream
) -> None:
    """Each of them would take the whole timeout, and longer than a client waits here."""
    with socket.create_server(("127.0.0.1", upstream.port)) as silent:
        deafen(silent)
        name.leads_to("127.0.0.1", "127.0.0.2")
        proxy = launched(
            launch,
            name,
            upstream,
            TARGET_CONNECT_TIMEOUT_SECONDS="600",
            TARGET_CONNECTION_MAX_AGE_SECONDS="0.001",
        )
        for _ in range(3):
            assert proxy.get("/x").status == 200
    assert upstream.accepted == 3
    assert outcomes(proxy, 3) == [("info", "200", "1")] * 3


def test_the_connect_timeout_bounds_all_addresses_together(
    launch: Launch, name: Name, upstream: Upstream
) -> None:
    """Twelve of them, each on its own, would take longer than a client waits here."""
    silent = [f"127.0.0.{last}" for last in range(3, 15)]
    listeners = [socket.create_server((address, upstream.port)) for address in silent]
    try:
        for listener in listeners:
            deafen(listener)
        name.leads_to(*silent)
        proxy = launched(launch, name, upstream, TARGET_CONNECT_TIMEOUT_SECONDS="2")
        mark = proxy.mark()
        with proxy.connect(timeout=20) as client:
            response = client.ask(message("GET /x"))
        assert_own_error(response, 503, "TargetUnreachable")
        assert b"timed out" in response.body
        line = assert_failure_logged(proxy, mark, response)
        assert line["Request"] == f"https://{NAME}:{upstream.port}/x"
    finally:
        for listener in listeners:
            listener.close()


def test_steady_traffic_follows_a_name_that_moves(
    launch: Launch, name: Name, upstream: Upstream, authority: Authority
) -> None:
    name.leads_to("127.0.0.2")
    proxy = launched(launch, name, upstream, TARGET_CONNECTION_MAX_AGE_SECONDS="0.1")
    assert proxy.get("/x").status == 200
    tls = authority.context(NAME)
    with closing(Upstream(tls, host="127.0.0.3", port=upstream.port)) as after:
        name.leads_to("127.0.0.3")
        while not after.requests:
            assert proxy.get("/x").status == 200
        assert set(outcomes(proxy, 2)) == {("info", "200", "1")}
