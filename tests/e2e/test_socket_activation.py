"""Sockets that systemd opened: taken, served on, and left to systemd at the end."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from authproxy.errors import SettingsError
from authproxy.server.listening import address_of, take_passed_sockets
from authproxy.settings import load_settings
from tests.support.process import clean_environment, free_port, wait_until
from tests.support.upstream import Upstream
from tests.support.wire import DEADLINE, Address, Client, message

ACTIVATOR = "systemd-socket-activate"

needs_activator = pytest.mark.skipif(
    shutil.which(ACTIVATOR) is None, reason=f"{ACTIVATOR} is not installed"
)

TARGET = {"TARGET_HOST": "metrics.example.com", "AUDIENCE": "https://metrics.example.com"}


@contextmanager
def activator(
    listen: list[str], settings: dict[str, str], home: Path, *options: str
) -> Iterator[subprocess.Popen[str]]:
    """Run systemd's own test of socket activation: it starts the proxy at a connection."""
    environment = clean_environment(str(home)) | settings
    command = [ACTIVATOR, *(f"--listen={address}" for address in listen), *options]
    # It hands on nothing but what it is told to.
    command += [f"--setenv={name}={value}" for name, value in environment.items()]
    command += [sys.executable, "-m", "authproxy", "serve"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            for _ in listen:
                assert "Listening on" in process.stderr.readline()
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def log_of(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.read()


def wait_until_forwarded(address: Address) -> None:
    """Return once a request is; until the worker that it meets has a token, none is."""

    def forwarded() -> bool:
        with Client(address) as client:
            return client.ask(message("GET /x", "Connection: close")).status == 200

    wait_until("a request is forwarded", forwarded)


@pytest.mark.real(ACTIVATOR)
@needs_activator
@pytest.mark.parametrize("workers", ["1", "2"])
def test_passed_sockets_are_served_on_without_a_port_of_its_own(
    base_settings: dict[str, str], target: Upstream, tmp_path: Path, workers: str
) -> None:
    tcp, both, unix = ("127.0.0.1", free_port()), free_port(), str(tmp_path / "proxy.sock")
    listen = [f"{tcp[0]}:{tcp[1]}", f"[::]:{both}", unix]
    with activator(listen, {**base_settings, "WORKERS": workers}, tmp_path) as process:
        for address in (tcp, ("127.0.0.1", both), ("::1", both), unix):
            wait_until_forwarded(address)
        seen = [request.one("X-Forwarded-For") for request in target.wait_for_requests(4)]
        # A socket for both kinds of addresses does not change how IPv4 ones are written.
        assert seen == ["127.0.0.1", "127.0.0.1", "::1", None]
        process.terminate()
        assert process.wait(DEADLINE) == 0
        log = log_of(process)
    assert f"Address={unix}" in log
    assert f'Address="{tcp[0]}:{tcp[1]}"' in log
    assert Path(unix).exists(), "it is systemd's to remove"


@pytest.mark.real(ACTIVATOR)
@needs_activator
@pytest.mark.parametrize("option", ["--datagram", "--accept"])
def test_a_socket_of_another_kind_is_named(
    base_settings: dict[str, str], tmp_path: Path, option: str
) -> None:
    address = ("127.0.0.1", free_port())
    listen = [f"{address[0]}:{address[1]}"]
    with activator(listen, base_settings, tmp_path, option) as process, ExitStack() as stack:
        kind = socket.SOCK_DGRAM if option == "--datagram" else socket.SOCK_STREAM
        sock = stack.enter_context(socket.socket(socket.AF_INET, kind))
        sock.connect(address)
        if option == "--datagram":
            sock.send(b"x")
        assert process.stderr is not None
        line = next(line for line in process.stderr if "Cannot listen" in line)
        assert "LISTEN_FDS: descriptor 3 is no listening stream socket" in line
        assert "ListenStream= and Accept=no" in line


def test_the_variables_are_taken_and_the_descriptors_go_to_no_child() -> None:
    program = """
import os, socket
from authproxy.server.listening import address_of, take_passed_sockets
sock = socket.create_server(("127.0.0.1", 0))
name = address_of(sock)
os.dup2(sock.detach(), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"}
(taken,) = take_passed_sockets(os.environ)
assert address_of(taken) == name
assert not os.get_inheritable(3) and not taken.getblocking()
assert not [name for name in os.environ if name.startswith("LISTEN_")]
assert take_passed_sockets(os.environ) == []
"""
    run_to_its_end(program)


def test_a_descriptor_that_is_not_open_is_named() -> None:
    program = """
import os
from authproxy.server.listening import ListenError, take_passed_sockets
try:
    take_passed_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "40"})
except ListenError as error:
    assert "no listening stream socket" in str(error), error
else:
    raise AssertionError
"""
    run_to_its_end(program)


def run_to_its_end(program: str) -> None:
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "some", "LISTEN_PID": str(os.getpid())},
        {"LISTEN_FDS": "0", "LISTEN_PID": str(os.getpid())},
    ],
)
def test_sockets_for_another_process_are_not_taken(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="LISTENING_PORT"):
        load_settings(environ={**TARGET, **environ}, serving=True)
    assert take_passed_sockets({**environ}) == []


PASSED = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}


def test_passed_sockets_stand_in_for_a_port() -> None:
    settings = load_settings(environ={**TARGET, **PASSED}, serving=True).settings
    assert settings.listening_port is None


@pytest.mark.parametrize(
    ("variable", "value"), [("LISTENING_PORT", "8081"), ("LISTENING_SOCKET", "/run/proxy.sock")]
)
def test_a_port_besides_passed_sockets_is_a_fault(variable: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ={**TARGET, **PASSED, variable: value}, serving=True)
    (fault,) = (fault for fault in caught.value.faults if fault.setting == variable)
    assert fault.value == value
    assert "LISTEN_FDS" in fault.problem
    assert f"Remove {variable}" in fault.hint
    # To check the same settings there is nothing to listen on, and so no contradiction.
    environ = {**TARGET, **PASSED, "LISTENING_PORT": "8081"}
    assert load_settings(environ=environ, serving=False).settings.listening_port == 8081


def test_an_abstract_socket_is_shown_as_systemd_writes_it() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"\0authproxy-{os.getpid()}")
        assert address_of(sock) == f"@authproxy-{os.getpid()}"
