"""One machine for all tests here, with the unit installed as docs/systemd.md says."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.vm.machine import Machine, booted, in_network_of
from tests.support.commands import commands
from tests.support.process import wait_until
from tests.support.source import ROOT

PYZ = ROOT / "dist" / "authproxy.pyz"

Serve = Callable[..., None]


@pytest.fixture(scope="session", autouse=True)
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A booted machine. All that tests open is in its network, also the stand-ins."""
    base = os.environ.get("VM_ROOT")
    if not base:
        pytest.skip("run by `make vm-test`")
    with booted(Path(base), tmp_path_factory.mktemp("vm")) as machine, in_network_of(machine):
        yield machine


@pytest.fixture(scope="session")
def installed(machine: Machine) -> Machine:
    """The machine after what the page says under "Install"."""
    home = machine.root / "root"
    shutil.copy(PYZ, home)
    shutil.copytree(ROOT / "deploy" / "systemd", home / "systemd")
    machine.run(commands("docs/systemd.md", "Install"))
    return machine


@pytest.fixture
def serve(installed: Machine, base_settings: dict[str, str]) -> Iterator[Serve]:
    """Start the unit with these settings, and return once it is ready."""
    bundle = Path(base_settings["TARGET_CA_FILE"]).read_text()
    installed.write("/etc/authproxy/target-ca.pem", bundle)
    unit = "/etc/systemd/system/authproxy.service.d"

    def serve(
        *,
        without: tuple[str, ...] = (),
        ready: bool = True,
        drop_in: str = "",
        **settings: str,
    ) -> None:
        every = {
            **base_settings,
            "TARGET_CA_FILE": "/etc/authproxy/target-ca.pem",
            "LISTENING_PORT": "8081",
            **settings,
        }
        lines = [f'{name}="{value}"\n' for name, value in every.items() if name not in without]
        installed.write("/etc/authproxy/authproxy.env", "".join(lines), 0o600)
        installed.write(f"{unit}/test.conf", f"[Service]\n{drop_in}\n")
        installed.run("systemctl daemon-reload; systemctl start authproxy")
        if ready:
            wait_until("it has a token", lambda: "Ready." in installed.property("StatusText"))

    yield serve
    installed.run(
        "if [ -e /etc/systemd/system/authproxy.socket ]; then\n"
        "    systemctl disable --now authproxy.socket; rm /etc/systemd/system/authproxy.socket\n"
        "fi\n"
        "systemctl disable --now authproxy.service\n"
        f"systemctl reset-failed; rm -r {unit}; systemctl daemon-reload"
    )
