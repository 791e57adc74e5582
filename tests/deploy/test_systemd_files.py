"""deploy/systemd and docs/systemd.md: sound, confined, and in agreement with each other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from authproxy import __version__
from authproxy.settings import Settings, load_settings
from tests.support.commands import commands, section
from tests.support.source import ROOT
from tests.support.storage import MEBIBYTE, in_bytes, memory_bytes

FOLDER = ROOT / "deploy" / "systemd"
PAGE = "docs/systemd.md"
HEADINGS = re.findall(r"^## (.+)$", (ROOT / PAGE).read_text(), re.M)

ANALYZE = "systemd-analyze"


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ANALYZE, *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with an executable that there is on this machine."""
    if shutil.which(ANALYZE) is None:
        pytest.skip(f"{ANALYZE} is not installed")
    for name in ("authproxy.service", "authproxy.socket"):
        text = (FOLDER / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/authproxy/bin/authproxy", sys.executable))
    return tmp_path


def add(units: Path, unit: str, drop_in: str) -> None:
    folder = units / f"{unit}.d"
    folder.mkdir()
    (folder / "drop-in.conf").write_text(drop_in)


@pytest.mark.real(ANALYZE)
def test_the_units_are_sound(units: Path) -> None:
    result = analyze("verify", units / "authproxy.service", units / "authproxy.socket")
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


@pytest.mark.real(ANALYZE)
def test_a_unit_with_a_fault_would_be_noticed(units: Path) -> None:
    add(units, "authproxy.service", "[Service]\nWatchdogSecs=1\n")
    assert "WatchdogSecs" in analyze("verify", units / "authproxy.service").stderr


@pytest.mark.real(ANALYZE)
@pytest.mark.parametrize("uncommented", [False, True])
def test_the_credentials_are_sound(units: Path, uncommented: bool) -> None:
    text = (FOLDER / "credentials.conf").read_text()
    if uncommented:
        text = re.sub(r"^#(?=\w+=)", "", text, flags=re.M)
        assert "AAD_CLIENT_SECRET_FILE" in text
    add(units, "authproxy.service", text)
    result = analyze("verify", units / "authproxy.service")
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


@pytest.mark.real(ANALYZE)
@pytest.mark.parametrize(
    ("unit", "section"),
    [("authproxy.socket", r"\[Socket\]"), ("authproxy.service", r"\[Service\]")],
)
def test_the_pages_drop_ins_are_sound(units: Path, unit: str, section: str) -> None:
    drop_ins = re.findall(rf"```ini\n({section}.*?)```", (ROOT / PAGE).read_text(), re.S)
    assert drop_ins
    add(units, unit, "\n".join(drop_ins))
    result = analyze("verify", units / unit)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


@pytest.mark.real(ANALYZE)
def test_the_unit_is_confined(units: Path) -> None:
    service = units / "authproxy.service"
    result = analyze("security", "--offline=true", "--threshold=20", "--json=short", service)
    exposures = {one["name"]: one["exposure"] for one in json.loads(result.stdout)}
    assert result.returncode == 0, exposures
    # What is left open is open on purpose: the network, the file system of the machine, and
    # one call of @resources, by which workers keep to cores.
    open_ones = {name for name, exposure in exposures.items() if exposure}
    assert open_ones <= {
        "RootDirectory=/RootImage=",
        "RestrictAddressFamilies=~AF_(INET|INET6)",
        "RestrictAddressFamilies=~AF_UNIX",
        "PrivateNetwork=",
        "IPAddressDeny=",
        "DeviceAllow=",
        "SystemCallFilter=~@resources",
    }


def environment(text: str) -> dict[str, str]:
    found = re.findall(r"^([A-Z_]+)=(.*)$", text, re.M)
    return {name: value.strip('"') for name, value in found}


def test_the_example_settings_are_free_of_faults() -> None:
    text = (FOLDER / "authproxy.env").read_text()
    settings = load_settings(environ=environment(text), serving=True).settings
    assert settings.forwards_only_remote_write
    assert settings.listening_host == "127.0.0.1"


def test_the_example_names_only_settings_and_shows_the_readmes() -> None:
    text = (FOLDER / "authproxy.env").read_text()
    known = {"AUTHPROXY_CONFIG", *Settings.declared}
    assert set(re.findall(r"^#?([A-Z_]+)=", text, re.M)) <= known
    (shown,) = re.findall(r"```ini\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert environment(shown) == environment(text)


def test_the_unit_outlives_the_default_drain() -> None:
    text = (FOLDER / "authproxy.service").read_text()
    seconds = re.search(r"^TimeoutStopSec=(\d+)$", text, re.M)
    assert seconds
    settings = load_settings(
        environ=environment((FOLDER / "authproxy.env").read_text()), serving=True
    ).settings
    assert int(seconds[1]) > settings.shutdown_delay_seconds + settings.shutdown_grace_seconds


def test_the_unit_is_bounded_and_has_room_for_four_workers() -> None:
    text = (FOLDER / "authproxy.service").read_text()
    limits = dict(re.findall(r"^(MemoryHigh|MemoryMax|TasksMax)=(\w+)$", text, re.M))
    high, most = (in_bytes(f"{limits[name]}i") for name in ("MemoryHigh", "MemoryMax"))
    # What it needs cannot be taken back at MemoryHigh: telemetry adds a half at most.
    assert memory_bytes(4) * 3 // 2 <= high < most
    threads = Settings.threads.default
    assert int(limits["TasksMax"]) > 2 * 4 * (int(threads) + 20)
    said = (ROOT / PAGE).read_text()
    assert f"{most // MEBIBYTE} MiB of memory and {limits['TasksMax']} threads" in said


def test_a_python_that_the_unit_may_not_execute_is_told_where_it_happens(tmp_path: Path) -> None:
    text = (FOLDER / "authproxy.service").read_text()
    (script,) = re.findall(r"^ExecStartPre=/bin/sh -c '([^']+)'$", text, re.M)
    for target, status in ((sys.executable, 0), (str(tmp_path / "of-root"), 1)):
        python = tmp_path / str(status)
        python.symlink_to(target)
        command = ["/bin/sh", "-c", script.replace("/opt/authproxy/bin/python", str(python))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == status
        assert ("that this unit may execute" in done.stderr) == bool(status)
    said = re.search(r"<3>(.+?):", script)
    assert said is not None
    assert f"`{said[1]}`" in (ROOT / PAGE).read_text()


def test_one_layout_is_on_all_pages_that_install() -> None:
    """A version's own folder, and /opt/authproxy a link to it."""
    for page in ("README.md", PAGE, "docs/apache.md"):
        text = (ROOT / page).read_text()
        assert f"ln -sfn authproxy-{__version__} /opt/authproxy\n" in text, page
        assert not re.search(r"venv (--compile )?/opt/authproxy\s", text), page


def test_bodies_wait_on_disk_in_a_directory_of_the_units_own() -> None:
    """/tmp is memory on many distributions, and would count against MemoryMax."""
    text = (FOLDER / "authproxy.service").read_text()
    assert "\nEnvironment=TMPDIR=/var/tmp\n" in text
    assert "\nPrivateTmp=yes\n" in text


@pytest.mark.parametrize("heading", HEADINGS)
def test_the_pages_commands_are_shell(heading: str) -> None:
    scripts = re.findall(r"```sh\n(.*?)```", section(PAGE, heading), re.S)
    if "```bash" in section(PAGE, heading):
        scripts.append(commands(PAGE, heading))
    for script in scripts:
        subprocess.run(["bash", "-n", "-c", script], check=True)


def test_the_readme_installs_as_the_page_does() -> None:
    """Those of the page are run by `make vm-test`."""
    text = commands("README.md", "On a VM").splitlines()
    page = [*commands(PAGE, "Install").splitlines(), *commands(PAGE, "Set up").splitlines()]
    assert text == [line for line in page if line in text]


def test_the_files_that_the_page_installs_are_there() -> None:
    named = set(re.findall(r"systemd/([\w.]+)", " ".join(map(_commands, HEADINGS))))
    assert named >= {"authproxy.service", "authproxy.socket", "authproxy.env", "credentials.conf"}
    for name in named - {"system"}:
        assert (FOLDER / name).exists(), name


def _commands(heading: str) -> str:
    return commands(PAGE, heading) if "```bash" in section(PAGE, heading) else ""
