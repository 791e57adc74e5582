"""`authproxy serve` as a process: sockets, signals and exit statuses."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from authproxy.server.listening import ListenError, address_of, listen_tcp, listen_unix
from tests.support.actions import answer, raw
from tests.support.process import ProxyProcess, free_port
from tests.support.programs import completed, output_of
from tests.support.upstream import Gate, Upstream
from tests.support.wire import DEADLINE, Client, exchange, message

Launch = Callable[..., ProxyProcess]


# Signals.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_with_status_0(launch: Launch, number: int) -> None:
    proxy = launch()
    with proxy.connect() as idle:
        assert idle.ask(message("GET /ready")).status == 200
        proxy.signal(number)
        assert idle.is_closed_by_peer()
    assert proxy.wait() == 0
    assert "Draining" in proxy.log
    assert "Stopped" in proxy.log


def test_a_request_in_flight_is_answered_after_sigterm(launch: Launch, target: Upstream) -> None:
    gate = Gate()
    target.respond(raw(answer(body=b"12")[:-1], gate, b"2"))
    proxy = launch(SHUTDOWN_GRACE_SECONDS="20")
    with proxy.connect() as client:
        client.send(message("GET /"))
        pieces = client.body_of(client.receive_head())
        assert next(pieces) == b"1"
        proxy.signal(signal.SIGTERM)
        proxy.wait_for_event("Draining")
        gate.open()
        assert b"".join(pieces) == b"2"
    assert proxy.wait() == 0
    assert "StatusCode=200" in proxy.log


def test_readiness_says_no_during_the_delay_and_requests_pass(
    launch: Launch, target: Upstream
) -> None:
    proxy = launch(SHUTDOWN_DELAY_SECONDS="600")
    proxy.exit_status = 128 + signal.SIGTERM
    proxy.signal(signal.SIGTERM)
    proxy.wait_for_event("Draining")
    assert proxy.get("/ready").status == 503
    assert proxy.get("/health").status == 200
    assert proxy.get("/x").status == 200
    proxy.signal(signal.SIGTERM)
    assert proxy.wait() == 128 + signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(launch: Launch, target: Upstream, number: int) -> None:
    gate = Gate()
    target.respond(raw(gate))
    proxy = launch(SHUTDOWN_GRACE_SECONDS="20")
    proxy.exit_status = 128 + number
    with proxy.connect() as client:
        client.send(message("GET /"))
        target.wait_for_requests(1)
        proxy.signal(signal.SIGTERM)
        proxy.wait_for_event("Draining")
        proxy.signal(number)
        assert proxy.wait() == 128 + number
    assert "Second signal" in proxy.log
    gate.open()


def test_what_outlives_the_grace_is_counted_and_cut(launch: Launch, target: Upstream) -> None:
    gate = Gate()
    target.respond(raw(gate))
    proxy = launch(SHUTDOWN_GRACE_SECONDS="1")
    with proxy.connect() as client:
        client.send(message("GET /"))
        target.wait_for_requests(1)
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0
        assert client.is_closed_by_peer()
    assert proxy.wait_for_event("Cut the requests")["Count"] == "1"
    gate.open()


def can_unshare() -> bool:
    if shutil.which("unshare") is None or os.geteuid() != 0:
        return False
    probe = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


SERVE = [sys.executable, "-m", "authproxy", "serve"]


def bare_environment(settings: dict[str, str]) -> dict[str, str]:
    path = os.pathsep.join(sys.path)
    return {**settings, "PATH": os.environ["PATH"], "PYTHONPATH": path}


@contextmanager
def started(
    command: list[str], settings: dict[str, str], until: str
) -> Iterator[subprocess.Popen[str]]:
    """Run a command until it logs these words; it is killed if it is left running."""
    environment = bare_environment(settings)
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert any(until in line for line in process.stderr)
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def end_of(process: subprocess.Popen[str]) -> str:
    """Return the rest of the log of a process that must end with status 0."""
    assert process.stderr is not None
    log = process.stderr.read()
    assert process.wait(DEADLINE) == 0, log
    return log


@pytest.mark.skipif(not can_unshare(), reason="a PID namespace needs root and unshare")
@pytest.mark.parametrize(("workers", "until"), [("1", "Token refreshed"), ("2", "Worker started")])
def test_process_1_of_a_container_ends_on_sigterm(
    base_settings: dict[str, str], workers: str, until: str
) -> None:
    settings = {**base_settings, "LISTENING_PORT": str(free_port()), "WORKERS": workers}
    with started(["unshare", "--pid", "--fork", "--mount-proc", *SERVE], settings, until) as outer:
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text()
        os.kill(int(children), signal.SIGTERM)
        assert "Stopped" in end_of(outer)


# Sockets.


def run_to_its_end(settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    environment = bare_environment(settings)
    return completed(SERVE, environment)


def assert_says(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    for word in words:
        assert word in last


def test_a_port_in_use_is_named(base_settings: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run_to_its_end({**base_settings, "LISTENING_PORT": port})
    assert_says(result, "LISTENING_PORT", f"127.0.0.1:{port}", "in use")


def test_an_address_of_another_machine_is_named(base_settings: dict[str, str]) -> None:
    settings = {**base_settings, "LISTENING_PORT": "8080", "LISTENING_HOST": "192.0.2.1"}
    assert_says(run_to_its_end(settings), "LISTENING_HOST", "192.0.2.1:8080", "assign")


def test_a_host_that_does_not_resolve_is_named(base_settings: dict[str, str]) -> None:
    settings = {**base_settings, "LISTENING_PORT": "8080", "LISTENING_HOST": "no.such.invalid"}
    assert_says(run_to_its_end(settings), "LISTENING_HOST", "no.such.invalid")


def test_all_interfaces_are_listened_on_with_ipv4_addresses_as_they_are(
    launch: Launch, target: Upstream
) -> None:
    proxy = launch(without=("LISTENING_HOST",))
    for host in ("127.0.0.1", "::1"):
        with Client((host, proxy.port)) as client:
            assert client.ask(message("GET /x", "Connection: close")).status == 200
    seen = [request.one("X-Forwarded-For") for request in target.wait_for_requests(2)]
    assert seen == ["127.0.0.1", "::1"]
    address = proxy.wait_for_event("Listening")["Address"]
    assert address in (f"0.0.0.0:{proxy.port}", f"[::]:{proxy.port}")


def test_a_name_with_several_addresses_is_listened_on_at_each() -> None:
    found = {entry[4][0] for entry in socket.getaddrinfo("localhost", 0)}
    sockets = listen_tcp("localhost", 0)
    assert {sock.getsockname()[0] for sock in sockets} == found
    for sock in sockets:
        sock.close()


def test_nothing_stays_bound_where_one_address_is_taken() -> None:
    port = free_port()  # the system gives it to nobody between the two attempts
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(ListenError, match="LISTENING_PORT"),
    ):
        listen_tcp(None, port)
    for sock in listen_tcp(None, port):
        sock.close()


def test_a_unix_socket_serves_and_is_removed(
    base_settings: dict[str, str], target: Upstream, tmp_path: Path
) -> None:
    path = tmp_path / "proxy.sock"
    settings = {**base_settings, "LISTENING_SOCKET": str(path)}
    with started(SERVE, settings, "Token refreshed") as process:
        assert exchange(str(path), message("GET /x")).status == 200
        (request,) = target.wait_for_requests(1)
        assert request.one("X-Forwarded-For") is None
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        process.terminate()
        end_of(process)
    assert not path.exists()


GIVE_AWAY = """
import os, sys
from authproxy.server.listening import ListenError, listen_unix
if os.geteuid() == 0:  # who may give a socket to any group
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    with listen_unix(sys.argv[1], group=0):
        pass
except ListenError as error:
    print(error, os.path.exists(sys.argv[1]))
"""


def test_a_group_that_cannot_be_given_is_named_and_nothing_is_left() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        said = output_of(GIVE_AWAY, f"{folder}/proxy.sock")
    assert "LISTENING_SOCKET_GROUP" in said
    assert said.endswith("not permitted False\n")


def test_a_stale_unix_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with listen_unix(str(path)) as sock:
        assert address_of(sock) == str(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    assert not path.exists()


def test_a_live_unix_socket_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "proxy.sock")
    with listen_unix(path):
        with pytest.raises(ListenError, match="another process listens"), listen_unix(path):
            raise AssertionError
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


def test_a_file_in_the_place_of_the_unix_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with (
        pytest.raises(ListenError, match=r"LISTENING_SOCKET.*not a socket"),
        listen_unix(str(path)),
    ):
        raise AssertionError
    assert path.read_text() == "data"


def test_a_unix_socket_that_somebody_replaced_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    with listen_unix(str(path)):
        path.unlink()
        path.write_text("another's")
    assert path.read_text() == "another's"


@pytest.mark.parametrize("path", ["/nowhere/at/all/proxy.sock", "/tmp/" + "x" * 200])
def test_an_impossible_unix_socket_is_named(path: str) -> None:
    with pytest.raises(ListenError, match="LISTENING_SOCKET: cannot listen on"), listen_unix(path):
        raise AssertionError
