"""The image's health check, run as it is against the real proxy."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Launch
from tests.support.identity import identity_settings
from tests.support.probes import SCRIPT
from tests.support.probes import healthcheck as check
from tests.support.process import ProxyProcess, free_port
from tests.support.stand_ins.entra import StandInEntra
from tests.support.tls_client import Certificates


@pytest.fixture(scope="module")
def everywhere(launch_for_module: Launch) -> ProxyProcess:
    """A proxy that listens on all addresses of the machine, as is the default."""
    return launch_for_module(without=("LISTENING_HOST",))


@pytest.mark.parametrize("host", ["127.0.0.1", " ::1 ", "localhost", "0.0.0.0", "::", "", None])
def test_a_healthy_proxy_is_found_wherever_it_listens(
    everywhere: ProxyProcess, host: str | None
) -> None:
    settings = {} if host is None else {"LISTENING_HOST": host}
    status, answer = check({"LISTENING_PORT": f" {everywhere.port} ", **settings})
    assert (status, json.loads(answer)["status"]) == (0, "ok")


def test_a_healthy_proxy_is_found_on_a_unix_socket(launch: Launch, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    launch(unix_socket=path)
    assert check({"LISTENING_SOCKET": str(path)})[0] == 0


def test_a_healthy_proxy_is_found_behind_tls(launch: Launch, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    path = tmp_path / "socket"
    launch(ready=False, unix_socket=path, **certificates.settings)
    here = {"LISTENING_SOCKET": str(path)}
    assert check({**here, **certificates.settings})[0] == 0
    assert check(here)[0] == 0  # the certificate may be in a settings file


def test_a_healthy_proxy_is_found_by_its_settings_file(
    proxy: ProxyProcess, tmp_path: Path, base_settings: dict[str, str]
) -> None:
    file = tmp_path / "authproxy.yaml"
    file.write_text(f"listening_port: {proxy.port}\n")
    assert check({**base_settings, "AUTHPROXY_CONFIG": str(file)})[0] == 0


def test_a_settings_file_that_cannot_be_read_any_more_is_no_crash(tmp_path: Path) -> None:
    status, answer = check({"AUTHPROXY_CONFIG": str(tmp_path / "absent.yaml")})
    assert (status, answer) == (1, "no response: the settings cannot be read any more\n")


def test_health_is_not_readiness(launch: Launch, entra: StandInEntra) -> None:
    entra.fail_with(500, {})
    proxy = launch(ready=False, **identity_settings(entra))
    settings = {"LISTENING_PORT": str(proxy.port), "LISTENING_HOST": "127.0.0.1"}
    assert check(settings)[0] == 0
    status, answer = check(settings, "/ready")
    assert (status, json.loads(answer)["status"]) == (1, "no valid token")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "neither LISTENING_PORT nor LISTENING_SOCKET is set"),
        ({"LISTENING_PORT": "x"}, "invalid literal"),
        ({"LISTENING_SOCKET": "/nowhere/at/all"}, "No such file"),
        ({"LISTENING_PORT": str(free_port())}, "refused"),
    ],
)
def test_no_proxy_is_unhealthy_and_the_reason_is_told(
    settings: dict[str, str], reason: str
) -> None:
    status, answer = check(settings)
    assert status == 1
    assert answer.startswith("no response: ")
    assert reason in answer


def test_one_that_takes_connections_and_is_silent_is_unhealthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        status, answer = check({"LISTENING_PORT": str(silent.getsockname()[1])})
    assert (status, answer) == (1, "no response: timed out\n")


def test_it_loads_nothing_but_what_it_needs() -> None:
    """An interpreter starts for each probe: `socket` alone would double its cost."""
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-I", "-S", SCRIPT],
        env={},
        capture_output=True,
        text=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert "_socket" in loaded
    assert not loaded & {"authproxy", "site", "json", "subprocess", "socket", "enum", "re", "ssl"}
    assert not any(name.startswith("encodings.idna") for name in loaded)


def test_a_settings_file_is_not_read_where_it_can_add_nothing(
    launch: Launch, proxy: ProxyProcess, tmp_path: Path
) -> None:
    path = tmp_path / "socket"
    launch(unix_socket=path)
    absent = {"AUTHPROXY_CONFIG": str(tmp_path / "absent.yaml")}
    here = {"LISTENING_HOST": "127.0.0.1", "LISTENING_PORT": str(proxy.port)}
    assert check({**absent, "LISTENING_SOCKET": str(path)})[0] == 0
    assert check({**absent, **here})[0] == 0
    del here["LISTENING_HOST"]  # the file may have it
    assert check({**absent, **here})[0] == 1
