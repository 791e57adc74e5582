"""The image as docker/Dockerfile builds it, run as docs/container.md says."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

import authproxy
from tests.deploy.image.conftest import Images
from tests.support.authority import Authority
from tests.support.containers import HARDENED, ContainerProxy, inspect, podman
from tests.support.heaps import heaps_in
from tests.support.process import stopped
from tests.support.source import ROOT
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Upstream
from tests.support.wire import message

pytestmark = [pytest.mark.image, pytest.mark.real("buildah"), pytest.mark.timeout(600)]

Run = Callable[..., ContainerProxy]

MEGABYTE = 1_000_000

#: What would build or install something.
TOOLS = {"cc", "c++", "gcc", "g++", "clang", "ld", "as", "make", "cargo", "rustc", "uv"}


@pytest.fixture
def run(
    images: Images, base_settings: dict[str, str], authority: Authority, target: Upstream
) -> Iterator[Run]:
    """Start proxies in containers; they are stopped, and checked, at the end."""
    with ExitStack() as stack:

        def start(*, listening: str = "environment", **settings: str) -> ContainerProxy:
            process = ContainerProxy(
                images.first,
                {**base_settings, "TARGET_CA_FILE": "/ca.pem", **settings},
                files={"/ca.pem": authority.bundle},
                listening=listening,
            )
            stack.enter_context(process)
            return process

        yield start


@contextmanager
def mounted(image: str) -> Iterator[Path]:
    """Give the root of an image's files, by way of a container that is never started."""
    container = podman("create", image, "never-started").strip()
    yield Path(podman("mount", container).strip())
    podman("rm", container)


def files_of(root: Path) -> list[Path]:
    """Return all that is no directory, as paths from the root of the image."""
    return [
        Path(folder, name).relative_to(root) for folder, _, names in os.walk(root) for name in names
    ]


class Described(NamedTuple):
    """What two builds of one file have to agree on."""

    mode: int
    owner: int
    mtime: float
    content: str


def described(root: Path) -> dict[Path, Described]:
    """Return all below `root`, folders too; the content of a link is where it leads."""
    found = {}
    for path in root.rglob("*"):
        content = ""
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        status = path.lstat()
        entry = Described(status.st_mode, status.st_uid, status.st_mtime, content)
        found[path.relative_to(root)] = entry
    return found


def pips(files: list[Path]) -> list[Path]:
    return [
        path
        for path in files
        if path.suffix == ".whl" or re.search(r"/(bin/pip|site-packages/pip[/-])", str(path))
    ]


# -- what it does --------------------------------------------------------------


def test_it_forwards_with_a_token_as_a_plain_user_who_can_write_to_tmp_only(
    run: Run, target: Upstream, shared_entra: StandInEntra
) -> None:
    proxy = run()
    body = b"x" * 2 * MEGABYTE  # more than is kept in memory
    answer = proxy.ask(message("POST /api/v1/write", body=body))
    assert answer.status == 200
    request = target.requests[-1]
    assert request.body == body
    assert request.one("Authorization") in {
        f"Bearer {token.value}" for token in shared_entra.issued
    }
    status = Path(f"/proc/{proxy.process_1}/status").read_text()
    assert re.search(r"^NSpid:.*\t1$", status, re.M)
    assert re.search(r"^Uid:\t10001\t10001\t10001\t10001$", status, re.M)
    assert re.search(r"^CapPrm:\t0+$", status, re.M)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.M)
    proxy.execute("touch", "/tmp/writable")
    for path in ("/", "/opt/authproxy", "/run", "/var/tmp"):
        proxy.execute("touch", f"{path}/unwritable", status=1)


def test_its_threads_share_two_heaps(run: Run) -> None:
    assert heaps_in(Path(f"/proc/{run().process_1}/maps").read_text()) == 2


@pytest.mark.parametrize("workers", ["1", "2"])
def test_process_1_ends_well_when_the_engine_stops_it(run: Run, workers: str) -> None:
    proxy = run(WORKERS=workers)
    command = proxy.execute("cat", "/proc/1/cmdline").split("\0")
    assert command[1:3] == ["/opt/authproxy/bin/authproxy", "serve"]
    assert proxy.podman_stop() == 0
    assert "Stopped" in proxy.log


@pytest.mark.parametrize("listening", ["environment", "option", "file"])
def test_the_health_check_finds_the_proxy(run: Run, listening: str) -> None:
    proxy = run(listening=listening)
    proxy.health()
    assert json.loads(proxy.execute("healthcheck", "/ready"))["status"] == "ready"


def test_the_health_check_fails_when_nobody_answers(run: Run) -> None:
    proxy = run()
    with stopped(proxy.process_1):
        proxy.health(status=1)
    proxy.health()


def test_faults_in_the_settings_end_the_container_with_2(images: Images) -> None:
    podman("run", "--rm", images.first, status=2)


def test_it_runs_the_other_commands_too(images: Images) -> None:
    assert authproxy.__version__ in podman("run", "--rm", images.first, "--version")


def test_the_demo_runs_without_a_network(images: Images) -> None:
    options = ("--rm", "--network=none", *HARDENED)
    shown = podman("run", *options, images.first, "demo", "--once")
    assert "authproxy responds 503, so it is kept" in shown
    assert "42. The sample arrived, none was lost." in shown


# -- what it is ----------------------------------------------------------------


def test_it_says_what_it_is(images: Images) -> None:
    image = inspect(images.first)
    labels = {
        name.removeprefix("org.opencontainers.image."): value
        for name, value in image["Config"]["Labels"].items()
        if name.startswith("org.opencontainers.image.")
    }
    assert labels == {
        "title": "authproxy",
        "description": "Puts Microsoft Entra ID tokens on HTTP requests",
        "licenses": "MIT",
        "version": authproxy.__version__,
        "revision": "0" * 40,
        "created": "2026-01-02T03:04:05Z",
        "base.name": images.base,
    }
    assert image["User"] == "10001:10001"
    assert image["Config"]["StopSignal"] == "SIGTERM"
    assert image["Healthcheck"]["Test"] == ["CMD", "healthcheck"]


def test_the_same_sources_make_the_same_files(images: Images) -> None:
    with mounted(images.first) as first, mounted(images.second) as second:
        assert set(files_of(first)) == set(files_of(second))
        one, other = described(first / "opt"), described(second / "opt")
        assert len(one) > 5000
        assert {path for path in one if one[path] != other[path]} == set()
        assert {path for path in one if one[path].mtime != images.epoch} == set()


def test_the_archive_of_a_release_has_the_image_under_its_name(
    images: Images, tmp_path: Path
) -> None:
    """What `make release` adds to the files of a release."""
    archive = tmp_path / "image.tar"
    # As if `make image` had just built it.
    command = ["bash", "scripts/image-archive", "buildah", str(archive), "true"]
    made = subprocess.run([*command, f"IMAGE={images.first}"], cwd=ROOT, capture_output=True)
    assert made.returncode == 0, made.stderr
    with tarfile.open(archive) as tar:
        index = json.loads(_member(tar, "index.json"))
        [described] = index["manifests"]
        assert images.first in described["annotations"]["org.opencontainers.image.ref.name"]
        manifest = json.loads(_member(tar, described["digest"]))
        config = json.loads(_member(tar, manifest["config"]["digest"]))
    assert config["config"]["Entrypoint"] == ["authproxy"]
    assert config["config"]["Labels"]["org.opencontainers.image.version"] == authproxy.__version__


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    """Return a file of an OCI layout, or a blob by its digest."""
    file = tar.extractfile(name if "." in name else f"blobs/{name.replace(':', '/')}")
    assert file is not None
    return file.read()


def test_it_is_small(images: Images, capsys: pytest.CaptureFixture[str]) -> None:
    added = inspect(images.first)["Size"] - inspect(images.base)["Size"]
    with capsys.disabled():
        sys.stdout.write(f"\nThe image adds {added / MEGABYTE:.0f} MB to its base.\n")
    assert 20 * MEGABYTE < added < 150 * MEGABYTE


def test_nothing_in_it_builds_installs_or_gives_rights(images: Images) -> None:
    with mounted(images.base) as root:
        assert len(pips(files_of(root))) > 100, "the base has no pip to be removed"
    with mounted(images.first) as root:
        files = files_of(root)
        assert not pips(files)
        assert not {path for path in files if path.parent.name == "bin" and path.name in TOOLS}
        assert not [
            path
            for path in files
            if not (root / path).is_symlink() and (root / path).stat().st_mode & 0o6000
        ]
        own = {path.name for path in files if path.parent == Path("opt/authproxy/bin")}
        assert {name for name in own if "python" not in name} == {"authproxy", "healthcheck"}
        assert not [path for path in files if "tests" in path.parts and "opt" in path.parts]


def test_everything_is_compiled_beforehand(images: Images) -> None:
    uncompiled = (
        "import importlib.util, os, sys\n"
        "import authproxy.diagnose.check, authproxy.cli.serve, authproxy.telemetry.sdk\n"
        "import azure.identity\n"
        "for module in sys.modules.values():\n"
        "    path = getattr(module, '__cached__', None)\n"
        "    if path and not os.path.exists(path):\n"
        "        print(path)\n"
        "print(len(sys.modules))\n"
    )
    command = ["run", "--rm", "--entrypoint=python3", images.first, "-c", uncompiled]
    count = podman(*command).split("\n")[:-1]
    assert len(count) == 1, count
    assert int(count[0]) > 500


def test_all_that_is_locked_has_wheels_for_arm_too(images: Images) -> None:
    python = re.search(r":3\.\d+", images.base)
    assert python
    options = [
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--python-platform=aarch64-manylinux_2_40",
        f"--python-version={python[0][1:]}",
        f"--output-file={os.devnull}",
    ]
    lock = ROOT / "requirements" / "runtime.txt"
    command = [sys.executable, "-m", "uv", "pip", "compile", *options, str(lock)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
